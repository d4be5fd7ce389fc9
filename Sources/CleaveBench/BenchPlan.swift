import CleaveEngine
import CleaveHost
import CleaveVirtioNet

/// How a benchmark measures.
public enum BenchMode: Sendable, CaseIterable, Codable, RawRepresentable {
    /// One thread alternates device and driver: exact cycles of each side.
    case oneCore
    /// Port and driver on one CPU, each RQ on another: throughput.
    case threads
    /// One thread per RQ and CPU, each alternating between device and driver of its own RQ: exact
    /// cycles of each side while RQs contend for what they share.
    case cores

    /// As it is written on command lines, in configurations and in results.
    public var rawValue: String {
        switch self {
        case .oneCore: "one-core"
        case .threads: "threads"
        case .cores: "cores"
        }
    }

    /// `turns` is what results and configurations before 0.2 call `one-core`.
    public init?(rawValue: String) {
        let named = Self.allCases.first { $0.rawValue == rawValue }
        guard let mode = named ?? (rawValue == "turns" ? .oneCore : nil) else { return nil }
        self = mode
    }
}

/// What a benchmark runs, and how often.
public struct BenchPlan: Sendable {
    public var cases: [BenchCase] = []
    public var mode = BenchMode.oneCore
    /// Timed passes of each case; cases are interleaved.
    public var repeats = 11
    /// Packets of a timed pass; nil = about 50 ms worth, by packet size.
    public var packetsPerRepeat: Int?
    /// Packets generated for a traffic profile; captures are replayed whole.
    public var sourcePackets = 1024
    /// Flows in generated traffic.
    public var flows = 64
    /// Packets of the verification pass; at least every source packet once.
    public var verifyPackets = 4096
    /// CPUs to use, the first for port and driver; empty = all that are allowed.
    public var cpus: [Int] = []
    /// CPUs of the RQs' threads, RQ 0's first; empty = those of `cpus` after the first, and that
    /// one last.
    public var rqCPUs: [Int] = []
    /// Allows more RQs than CPUs.
    public var oversubscribe = false
    /// NUMA node of all memory; nil = the node of the CPU that works on it.
    public var node: Int?
    /// What the RQs' threads do while there are no packets.
    public var idle = IdlePolicy.pause
    /// One poll in `profilePeriod` is measured stage by stage, in passes of their own after the
    /// timed ones; 0 = none.
    public var profilePeriod: UInt32 = 0
    /// Entries of the indirection table that steers packets to RQs.
    public var indirectionSize = IndirectionTable.defaultSize

    /// A busy thread runs beside the benchmark's own on each CPU that it uses, so that the kernel
    /// preempts them as a busy host does a guest.
    public var preempts = false

    /// What else a measurement of latency is told.
    public var latency = LatencySettings()

    /// Events of the processor are counted over each timed pass.
    public var countsEvents = false
    /// Largest `profilePeriod`.
    public static let maximumProfilePeriod: UInt32 = 1 << 20

    public init() {}

    /// Checks all cases and counts.
    public func validate() throws(SetupError) {
        guard !cases.isEmpty else { throw SetupError("no cases to run") }
        guard repeats > 0 else { throw SetupError("repeats: \(repeats): need at least 1") }
        guard sourcePackets > 0, sourcePackets <= 1 << 20 else {
            throw SetupError("source-packets: \(sourcePackets): need 1 to 1048576")
        }
        guard flows > 0 else { throw SetupError("flows: \(flows): need at least 1") }
        if let packetsPerRepeat, packetsPerRepeat <= 0 {
            throw SetupError("packets: \(packetsPerRepeat): need at least 1")
        }
        guard profilePeriod <= Self.maximumProfilePeriod else {
            throw SetupError(
                "profile period \(profilePeriod): need 1 to \(Self.maximumProfilePeriod)")
        }
        do { try IndirectionTable.check(size: indirectionSize) } catch {
            throw SetupError("indirection-size: \(error)")
        }
        do { try idle.validate() } catch {
            let key = error.description.hasPrefix("park") ? "park-after" : "wake-latency"
            throw SetupError("\(key): \(error)")
        }
        try latency.validate()
        for (index, one) in cases.enumerated() {
            do { try one.validate() } catch {
                throw SetupError("case \(index + 1) (\(one.displayName)): \(error)")
            }
        }
    }
}
