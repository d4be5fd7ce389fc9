import CleaveProfiling
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Histograms")
struct HistogramTests {
    /// The naive twin: every value kept.
    private static func quantile(_ values: [UInt32], _ share: Double) -> UInt32 {
        let sorted = values.sorted()
        return sorted[max(1, Int((share * Double(sorted.count)).rounded(.up))) - 1]
    }

    @Test("Buckets follow one another without gap or overlap, over all 32-bit values")
    func buckets() {
        var next: UInt64 = 0
        for index in 0..<ProfileBuckets.count {
            let values = ProfileBuckets.values(index)
            #expect(UInt64(values.lowerBound) == next)
            next = UInt64(values.upperBound) + 1
            #expect(ProfileBuckets.index(values.lowerBound) == index)
            #expect(ProfileBuckets.index(values.upperBound) == index)
            let width = values.upperBound - values.lowerBound
            #expect(width <= values.lowerBound / 16)
        }
        #expect(next == 1 << 32)
    }

    @Test("Quantiles are in the bucket of the naive twin's", arguments: 0..<20)
    func quantiles(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var histogram = ProfileHistogram()
        var values: [UInt32] = []
        for _ in 0..<Int.random(in: 1...3000, using: &random) {
            let bits = UInt32.random(in: 0...32, using: &random)
            let most = bits == 32 ? UInt32.max : (1 &<< bits) - 1
            let value = UInt32.random(in: 0...most, using: &random)
            values.append(value)
            histogram.add(value)
        }
        #expect(histogram.total == UInt64(values.count))
        for share in [0.001, 0.25, 0.5, 0.9, 0.99, 1] {
            let expected = Self.quantile(values, share)
            let bucket = ProfileBuckets.values(ProfileBuckets.index(expected))
            let found = histogram.quantile(share)
            #expect(found >= Double(bucket.lowerBound) && found <= Double(bucket.upperBound))
        }
        let most = ProfileBuckets.values(ProfileBuckets.index(values.max()!)).upperBound
        #expect(histogram.maximum == Double(most))
    }

    @Test("Sums and differences are bucket by bucket; an empty one has no values")
    func arithmetic() {
        var first = ProfileHistogram()
        var second = ProfileHistogram()
        for value in [1, 5, 500, 70_000] as [UInt32] { first.add(value) }
        for value in [5, 9] as [UInt32] { second.add(value) }
        #expect((first + second).total == 6)
        #expect(first + second - first == second)
        #expect(ProfileHistogram().quantile(0.5) == 0)
        #expect(ProfileHistogram().maximum == 0)
    }
}
