import CleaveTraffic
import Glibc

/// How packets come.
public enum LatencyArrivals: String, CaseIterable, Codable, Sendable {
    /// One after the other, all gaps alike.
    case fixed
    /// Independent of each other: gaps are exponentially distributed.
    case poisson
}

/// When the packets of a load are due, in cycles after its start. What the device or the driver do
/// has no influence on it: a latency that counts from here has the time in it that a packet waited
/// to be sent.
struct SendSchedule {
    /// When the next packet is due.
    private(set) var next: UInt64
    private let interval: Double
    private let phase: Double
    private let arrivals: LatencyArrivals
    private var index = 0.0
    private var at: Double
    private var random: SplitMix64

    /// - Parameters:
    ///   - interval: mean cycles between packets, above 0.
    ///   - phase: the first packet's place in the interval, 0 to 1.
    ///   - seed: of gaps that are random.
    init(interval: Double, phase: Double = 0, arrivals: LatencyArrivals = .fixed, seed: UInt64 = 0)
    {
        (self.interval, self.phase, self.arrivals) = (interval, phase, arrivals)
        random = SplitMix64(seed: seed)
        at = phase * interval
        next = 0
        if arrivals == .poisson { at += gap() }
        next = UInt64(at)
    }

    /// Goes on to the packet after `next`.
    mutating func advance() {
        switch arrivals {
        case .fixed:
            // By multiplication: a sum would add up what rounding took from each gap.
            index += 1
            next = UInt64((index + phase) * interval)
        case .poisson:
            at += gap()
            next = UInt64(at)
        }
    }

    private mutating func gap() -> Double {
        // 53 random bits are a number from 0 to below 1.
        let share = Double(random.next() >> 11) * 0x1p-53
        return -log(1 - share) * interval
    }
}
