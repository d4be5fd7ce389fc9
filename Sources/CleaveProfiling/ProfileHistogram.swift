import CleaveVirtioNet

/// Counts of values in the buckets of `ProfileBuckets`.
public struct ProfileHistogram: Sendable, Equatable {
    /// As many as `ProfileBuckets.count`.
    public private(set) var counts: [UInt32]

    public init() { counts = Array(repeating: 0, count: ProfileBuckets.count) }

    /// - Parameter counts: `ProfileBuckets.count` of them.
    public init(counts: [UInt32]) {
        precondition(counts.count == ProfileBuckets.count, "a count for each bucket")
        self.counts = counts
    }

    public mutating func add(_ value: UInt32) { counts[ProfileBuckets.index(value)] &+= 1 }

    public var total: UInt64 { counts.reduce(0) { $0 + UInt64($1) } }

    /// The least value that at least `share` of all values do not exceed, to the accuracy of the
    /// buckets: the middle of its bucket. 0 without values.
    /// - Parameter share: above 0, up to 1.
    public func quantile(_ share: Double) -> Double {
        let total = total
        if total == 0 { return 0 }
        let wanted = max(1, UInt64((share * Double(total)).rounded(.up)))
        var seen: UInt64 = 0
        for (index, count) in counts.enumerated() {
            seen += UInt64(count)
            if seen >= wanted { return Self.middle(index) }
        }
        return maximum
    }

    /// Upper end of the bucket of the largest value; 0 without values.
    public var maximum: Double {
        counts.lastIndex { $0 > 0 }.map { Double(ProfileBuckets.values($0).upperBound) } ?? 0
    }

    private static func middle(_ index: Int) -> Double {
        let values = ProfileBuckets.values(index)
        return (Double(values.lowerBound) + Double(values.upperBound)) / 2
    }

    public static func + (left: Self, right: Self) -> Self {
        Self(counts: zip(left.counts, right.counts).map { $0 &+ $1 })
    }

    /// What was counted since `right` was taken.
    public static func - (left: Self, right: Self) -> Self {
        Self(counts: zip(left.counts, right.counts).map { $0 &- $1 })
    }
}
