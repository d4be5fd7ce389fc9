import CleaveHost
import Histogram

/// How often each latency came, with three significant digits, in counts of the cycle clock.
public struct LatencyHistogram: Sendable {
    private var counts: Histogram<UInt64>
    private let cyclesPerMicrosecond: Double

    /// What takes longer is recorded as this.
    static let longestMicroseconds = 60e6

    /// - Parameter cyclesPerMicrosecond: rate of the clock that values are counted by.
    init(cyclesPerMicrosecond: Double = CycleClock.hertz / 1e6) {
        self.cyclesPerMicrosecond = cyclesPerMicrosecond
        counts = Histogram(
            highestTrackableValue: UInt64(Self.longestMicroseconds * cyclesPerMicrosecond),
            numberOfSignificantValueDigits: .three)
    }

    @inline(__always)
    mutating func record(_ cycles: UInt64) {
        counts.record(min(cycles, counts.highestTrackableValue))
    }

    /// Adds what another one recorded, by the same clock.
    mutating func add(_ other: LatencyHistogram) { counts.add(other.counts) }

    mutating func reset() { counts.reset() }

    /// Latencies recorded.
    public var count: UInt64 { counts.totalCount }

    /// The latency that `percentile` percent do not exceed, in nanoseconds; nil for none recorded.
    func nanoseconds(atPercentile percentile: Double) -> Double? {
        count == 0 ? nil : nanoseconds(counts.valueAtPercentile(percentile))
    }

    /// The usual percentiles.
    var percentiles: LatencyPercentiles {
        LatencyPercentiles { nanoseconds(atPercentile: $0) }
    }

    /// Percentiles and their latencies, closer to each other the nearer they are to 100.
    func points(ticksPerHalfDistance: Int = 3) -> [LatencyPoint] {
        var points: [LatencyPoint] = []
        for step in counts.percentiles(ticksPerHalfDistance: ticksPerHalfDistance)
        where step.percentile > points.last?.percentile ?? 0 {
            points.append(
                LatencyPoint(percentile: step.percentile, nanoseconds: nanoseconds(step.value)))
        }
        return points
    }

    private func nanoseconds(_ cycles: UInt64) -> Double {
        Double(cycles) * 1000 / cyclesPerMicrosecond
    }

    /// HdrHistogram's text form of a percentile distribution, in microseconds.
    public var hgrm: String {
        var text = ""
        counts.outputPercentileDistribution(
            to: &text, outputValueUnitScalingRatio: cyclesPerMicrosecond)
        return text
    }
}

/// A percentile of a distribution, and its latency.
public struct LatencyPoint: Codable, Sendable, Equatable {
    public var percentile: Double
    public var nanoseconds: Double
}

/// Latencies at the usual percentiles, in nanoseconds; nil where nothing was recorded.
public struct LatencyPercentiles: Codable, Sendable, Equatable {
    public var p50: Double?
    public var p90: Double?
    public var p99: Double?
    public var p999: Double?
    public var max: Double?

    init(_ nanoseconds: (_ percentile: Double) -> Double?) {
        (p50, p90, p99) = (nanoseconds(50), nanoseconds(90), nanoseconds(99))
        (p999, max) = (nanoseconds(99.9), nanoseconds(100))
    }
}
