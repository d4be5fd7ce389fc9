import CleaveEngine
import CleaveHost
import CleaveVirtioNet

/// One case under one load, over all passes.
public struct LatencyLoad: Sendable {
    /// Of the highest lossless rate.
    public let percent: Int
    /// Packets per second that were offered.
    public let packetsPerSecond: Double
    /// From the time at which a packet was due until the driver saw it: corrected for coordinated
    /// omission.
    public private(set) var response = LatencyHistogram()
    /// From the time at which it was sent.
    public private(set) var service = LatencyHistogram()
    public private(set) var passes: [LatencyPassRecord] = []

    init(percent: Int, packetsPerSecond: Double) {
        (self.percent, self.packetsPerSecond) = (percent, packetsPerSecond)
    }

    mutating func add(_ pass: LatencyPass) {
        response.add(pass.response)
        service.add(pass.service)
        passes.append(LatencyPassRecord(pass))
    }

    /// Packets that were due and did not arrive.
    public var lost: Int { passes.reduce(0) { $0 + $1.dropped + $1.unsent } }

    /// A figure of the passes.
    public func spread(_ figure: (LatencyPassRecord) -> Double?) -> Spread {
        Spread(passes.map { figure($0) ?? .nan }) ?? Spread([.nan])!
    }
}

/// What one pass of a load measured; latencies in nanoseconds.
public struct LatencyPassRecord: Codable, Sendable, Equatable {
    public var seconds: Double
    /// Packets that were due.
    public var offered: Int
    public var packets: Int
    public var dropped: Int
    /// Packets that were due and were never sent: the case could not keep up.
    public var unsent: Int
    public var response: LatencyPercentiles
    public var service: LatencyPercentiles
    /// From one look at the used ring to the next, in the mean.
    public var roundNanoseconds: Double
    public var stalls: LatencyStalls

    init(_ pass: LatencyPass) {
        (seconds, offered, packets) = (pass.seconds, pass.offered, pass.arrived)
        (dropped, unsent) = (pass.dropped, pass.unsent)
        (response, service) = (pass.response.percentiles, pass.service.percentiles)
        (roundNanoseconds, stalls) = (pass.roundNanoseconds, pass.stalls)
    }
}

/// The latencies of one case.
public struct LatencyResult: Sendable {
    public var benchCase: BenchCase
    public var search: LosslessSearch.Outcome
    public var loads: [LatencyLoad]
    public var verify: Verification
    /// Packets of the loads that were delivered, split and delivered whole by reason.
    public var packets: UInt64
    public var split: UInt64
    public var fallback: [String: UInt64]
    public var dropped: [String: UInt64]
    public var noSlot: SlotAdvice?
    public var notes: [String]
}

/// A whole measurement of latency.
public struct LatencyReport: Sendable {
    public var machine: MachineFacts
    /// UTC, by ISO 8601.
    public var started: String
    /// The mode that was used, after any fallback.
    public var mode: BenchMode
    public var repeats: Int
    public var settings: LatencySettings
    public var method: LatencyMethod
    public var results: [LatencyResult]
    public var warnings: [String]
    /// CPUs on which a busy thread ran beside the benchmark's own.
    public var preemptedCPUs: [Int] = []
    public var queuePlan: QueuePlan?
    public var residence: [PageResidence] = []
    public var interruption: BenchInterruption?

    /// Whether every verification pass found every packet, whole and right.
    public var isVerified: Bool { results.allSatisfy { $0.verify.bad == 0 } }
}
