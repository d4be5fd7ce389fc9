import CleaveVirtioNet

/// What `latency` writes. Latencies are nanoseconds.
public struct LatencyDocument: Codable, Sendable, LeavesOutKeys {
    public static let schema = "cleave-bench-latency/1"
    public static let leftOut: Set<String> = ["preemptedCPUs"]

    /// A percentile over the passes, for each percentile.
    public struct Percentiles: Codable, Sendable {
        public var p50: Spread
        public var p90: Spread
        public var p99: Spread
        public var p999: Spread
        public var max: Spread

        init(_ load: LatencyLoad, _ part: (LatencyPassRecord) -> LatencyPercentiles) {
            func spread(_ figure: (LatencyPercentiles) -> Double?) -> Spread {
                load.spread { figure(part($0)) }
            }
            (p50, p90, p99) = (spread(\.p50), spread(\.p90), spread(\.p99))
            (p999, max) = (spread(\.p999), spread(\.max))
        }

        /// With the names that people give them.
        public var named: [(name: String, spread: Spread)] {
            [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)]
        }
    }

    /// One offered load.
    public struct Load: Codable, Sendable {
        /// Of the highest lossless rate.
        public var loadPercent: Int
        public var offeredMpps: Double
        public var mpps: Spread
        public var packets: Int
        public var dropped: Int
        public var unsent: Int
        /// From the time at which a packet was due: corrected for coordinated omission.
        public var response: Percentiles
        /// From the time at which it was sent: not corrected.
        public var service: Percentiles
        /// Of all passes together.
        public var responseDistribution: [LatencyPoint]
        public var serviceDistribution: [LatencyPoint]
        public var passes: [LatencyPassRecord]

        init(_ load: LatencyLoad) {
            loadPercent = load.percent
            offeredMpps = load.packetsPerSecond / 1e6
            mpps = load.spread { $0.seconds > 0 ? Double($0.packets) / $0.seconds / 1e6 : nil }
            packets = load.passes.reduce(0) { $0 + $1.packets }
            dropped = load.passes.reduce(0) { $0 + $1.dropped }
            unsent = load.passes.reduce(0) { $0 + $1.unsent }
            response = Percentiles(load, \.response)
            service = Percentiles(load, \.service)
            responseDistribution = load.response.points()
            serviceDistribution = load.service.points()
            passes = load.passes
        }

        /// Packets that were due and did not arrive.
        public var lost: Int { dropped + unsent }
    }

    /// One case.
    public struct Run: Codable, Sendable {
        public var name: String
        public var method: String
        public var report: String?
        public var ring: String
        public var buffers: String
        public var ringSize: Int
        public var burst: Int
        public var rqs: Int
        public var sharing: String
        public var slotReturn: String
        public var slotSize: Int
        public var slots: Int
        public var bufferBytes: Int
        public var packetBytes: PacketRecord
        public var consumer: String
        /// The highest rate at which nothing was lost.
        public var losslessMpps: Double
        public var trials: [LosslessSearch.Trial]
        public var packets: UInt64
        public var split: UInt64
        public var fallback: [String: UInt64]?
        public var dropped: [String: UInt64]?
        public var noSlot: SlotAdvice?
        public var verify: Verification
        public var notes: [String]?
        public var loads: [Load]

        init(_ result: LatencyResult) {
            let one = result.benchCase
            (name, method) = (one.displayName, one.method.rawValue)
            report = one.effectiveReport?.rawValue
            (ring, buffers) = (one.ring.rawValue, one.buffers.rawValue)
            (ringSize, burst, rqs) = (one.ringSize, one.burst, one.rqs)
            (sharing, slotReturn) = (one.sharing.description, one.slotReturn.rawValue)
            (slotSize, slots) = (one.slotSize, one.slots)
            bufferBytes = one.bufferByteCount
            packetBytes = Int(one.packet).map(PacketRecord.bytes) ?? .name(one.packetName)
            consumer = one.consumer.rawValue
            losslessMpps = result.search.packetsPerSecond / 1e6
            trials = result.search.trials
            (packets, split) = (result.packets, result.split)
            (fallback, dropped) = (result.fallback, result.dropped)
            (noSlot, verify) = (result.noSlot, result.verify)
            notes = result.notes
            loads = result.loads.map(Load.init)
        }
    }

    public var schema: String
    public var program: ProgramRecord?
    public var started: String?
    public var machine: MachineRecord?
    public var mode: String?
    public var repeats: Int?
    public var command: CommandRecord?
    public var warnings: [String]?
    /// CPUs on which a busy thread ran beside the benchmark's own, if any were asked for.
    public var preemptedCPUs: [Int]?
    public var queuePlan: QueuePlanRecord?
    public var interrupted: String?
    public var arrivals: String
    public var passMilliseconds: Int
    public var tolerancePercent: Int
    /// What it cost to measure.
    public var measuring: LatencyMethod
    public var runs: [Run]

    /// - Parameter command: the command line that gave the report.
    public init(_ report: LatencyReport, command: [String]) {
        schema = Self.schema
        (program, started) = (.current, report.started)
        machine = MachineRecord(report.machine)
        (mode, repeats) = (report.mode.rawValue, report.repeats)
        self.command = CommandRecord(command)
        warnings = report.warnings
        preemptedCPUs = report.preemptedCPUs.isEmpty ? nil : report.preemptedCPUs
        queuePlan = QueuePlanRecord(report.queuePlan, report.residence)
        interrupted = report.interruption?.description
        arrivals = report.settings.arrivals.rawValue
        passMilliseconds = report.settings.passMilliseconds
        tolerancePercent = report.settings.tolerancePercent
        measuring = report.method
        runs = report.results.map(Run.init)
    }
}
