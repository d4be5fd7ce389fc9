// Files of results by the commands that write them.
import CleaveHost
import CleaveProfiling
import CleaveVirtioNet

/// What `run`, `compare-methods` and `claims` write.
public struct BenchDocument: Codable, Sendable, LeavesOutKeys {
    public static let schema = "cleave-bench/1"
    public static let leftOut: Set<String> = ["preemptedCPUs", "claims"]

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
    /// The claims judged by the runs, if any.
    public var claims: [Claim]?
    public var runs: [RunRecord]

    /// - Parameter command: the command line that gave the report.
    public init(_ report: BenchReport, command: [String], claims: [Claim]? = nil) {
        schema = Self.schema
        (program, started) = (.current, report.started)
        machine = MachineRecord(report.machine)
        (mode, repeats) = (report.mode.rawValue, report.repeats)
        self.command = CommandRecord(command)
        warnings = report.warnings
        preemptedCPUs = report.preemptedCPUs.isEmpty ? nil : report.preemptedCPUs
        queuePlan = QueuePlanRecord(report.queuePlan, report.residence)
        interrupted = report.interruption?.description
        self.claims = claims
        runs = report.results.map(RunRecord.init)
    }
}

/// What `scale` writes.
public struct ScaleDocument: Codable, Sendable, LeavesOutKeys {
    public static let schema = "cleave-bench-scale/1"
    public static let leftOut: Set<String> = ["preemptedCPUs"]

    /// Two cases of one run that differ in sharing alone.
    public struct Pair: Codable, Sendable {
        public var mode: String
        public var shared: String
        public var `private`: String?
        public var rqs: Int
        public var burst: Int
        /// By the fastest passes.
        public var deviceOverheadPercent: Double?
        /// Pass by pass.
        public var deviceOverheadByPass: Spread?
        public var claimRetriesPer100Bursts: Double?
        public var sharedHeaderBytes: Int
        public var privateHeaderBytes: Int
    }

    public var schema: String
    public var program: ProgramRecord?
    public var started: String?
    public var machine: MachineRecord?
    public var command: CommandRecord?
    public var warnings: [String]?
    /// CPUs on which a busy thread ran beside the benchmark's own, if any were asked for.
    public var preemptedCPUs: [Int]?
    public var queuePlan: QueuePlanRecord?
    public var interrupted: String?
    public var turns: [RunRecord]
    public var cores: [RunRecord]?
    public var threads: [RunRecord]
    public var sharing: [Pair]
    public var stall: [StallPoint]

    public init(_ report: ScaleReport, command: [String]) {
        func runs(_ part: BenchReport?) -> [RunRecord] { (part?.results ?? []).map(RunRecord.init) }
        schema = Self.schema
        (program, started) = (.current, report.started)
        machine = MachineRecord(report.machine)
        self.command = CommandRecord(command)
        warnings = report.allWarnings
        let preempted = report.preemptedCPUs
        preemptedCPUs = preempted.isEmpty ? nil : preempted
        let largest = report.threads ?? report.oneCore
        queuePlan = QueuePlanRecord(largest?.queuePlan, largest?.residence ?? [])
        interrupted = report.interruption
        (turns, cores, threads) = (runs(report.oneCore), runs(report.cores), runs(report.threads))
        sharing = report.pairs.map { pair in
            Pair(
                mode: pair.mode.rawValue, shared: pair.shared.benchCase.displayName,
                private: pair.own.benchCase.displayName, rqs: pair.shared.benchCase.rqs,
                burst: pair.shared.benchCase.burst, deviceOverheadPercent: pair.overheadPercent,
                deviceOverheadByPass: pair.overheadByPass,
                claimRetriesPer100Bursts: ScaleReport.retries(pair.shared),
                sharedHeaderBytes: pair.shared.memory.headerBytes,
                privateHeaderBytes: pair.own.memory.headerBytes)
        }
        stall = report.stall
    }
}

/// What `profile` writes, and `profile diff` reads.
public struct ProfileDocument: Codable, Sendable, LeavesOutKeys {
    public static let schema = "cleave-profile/1"
    public static let leftOut: Set<String> = ["stages", "turnCyclesPerPacket"]

    public var schema: String
    public var program: ProgramRecord?
    public var started: String?
    public var machine: MachineRecord?
    public var command: CommandRecord?
    public var processID: Int?
    public var warnings: [String]?
    public var interrupted: String?
    /// The first run's, which are in the run as well.
    public var stages: [Stage]?
    public var turnCyclesPerPacket: Spread?
    public var runs: [Run]

    /// - Parameters:
    ///   - started: UTC, by ISO 8601.
    ///   - processID: of the process that was attached to, if one was.
    ///   - interrupted: what ended it before its time, if anything did.
    public init(
        _ runs: [ProfileRun], started: String?, warnings: [String], command: [String],
        processID: Int32? = nil, interrupted: String? = nil
    ) {
        schema = Self.schema
        (program, self.started, self.interrupted) = (.current, started, interrupted)
        machine = MachineRecord(MachineFacts.current())
        self.command = CommandRecord(command)
        self.processID = processID.map { Int($0) }
        self.warnings = warnings
        self.runs = runs.map(Run.init)
        stages = self.runs.first?.stages
        turnCyclesPerPacket = self.runs.first?.turnCyclesPerPacket
    }

    public struct Stage: Codable, Sendable {
        public var name: String
        public var cyclesPerPacket: Spread
        public var cyclesPerBurst: Double?
        public var perPacket: StageTable.Distribution?
        public var perBurst: StageTable.Distribution?
        public var bytesRead: Double?
        public var bytesWritten: Double?

        init(_ row: StageTable.Row) {
            name = row.name
            cyclesPerPacket = row.cyclesPerPacket
            cyclesPerBurst = row.cyclesPerBurst
            (perPacket, perBurst) = (row.distribution, row.burstDistribution)
            (bytesRead, bytesWritten) = (row.traffic.read, row.traffic.written)
        }
    }

    /// What one RQ measured.
    public struct Queue: Codable, Sendable {
        public var rq: Int?
        public var turns: UInt64
        public var packets: UInt64
        public var turnCyclesPerPacket: Double?
        public var stageCyclesPerPacket: Named<Double?>?
        public var waitCycles: Named<UInt64>?
        public var burstsShortOfSlots: UInt64?

        init(_ rq: ProfileSnapshot) {
            self.rq = rq.number
            (turns, packets) = (rq.bursts, rq.packets)
            turnCyclesPerPacket = rq.cyclesPerPacket(ProfileBlock.pollRow)
            stageCyclesPerPacket = Named(
                RxStage.allCases.map { ($0.name, rq.cyclesPerPacket($0.rawValue)) })
            waitCycles = Named(
                RxWait.allCases.map { ("\($0)", rq.count(.waitCycles, $0.rawValue)) })
            burstsShortOfSlots = rq.count(.shortOfSlots)
        }
    }

    /// Cost of copying the same packets alone.
    public struct Copy: Codable, Sendable {
        public var cyclesPerPacket: Spread
        public var bytesPerCycle: Double?
        /// As a share of the poll.
        public var share: Double?
    }

    /// A case, or an RQ of another process. The latter leaves out the last six keys.
    public struct Run: Codable, Sendable, LeavesOutKeys {
        public static let leftOut: Set<String> = [
            "plainTurnCyclesPerPacket", "overheadPercent", "leastOverheadPercent", "copyLimit",
            "workingSet", "case",
        ]

        public var name: String
        public var label: String?
        public var period: UInt32?
        public var turns: UInt64?
        public var packets: UInt64?
        public var stages: [Stage]
        public var turnCyclesPerPacket: Spread
        public var sum: Stage?
        public var costliest: String?
        public var sumShare: Double?
        public var rawSumShare: Double?
        public var interruptedTurns: UInt64?
        public var rqs: [Queue]?
        public var plainTurnCyclesPerPacket: Spread?
        public var overheadPercent: Spread?
        public var leastOverheadPercent: Double?
        public var copyLimit: Copy?
        public var workingSet: WorkingSet?
        public var `case`: RunRecord?

        init(_ run: ProfileRun) {
            let table = run.table
            name = run.name
            label = table.total.label
            period = run.period
            (turns, packets) = (table.total.bursts, table.total.packets)
            stages = table.stages.map(Stage.init)
            turnCyclesPerPacket = table.poll
            sum = Stage(table.sum)
            costliest = table.costliest.name
            (sumShare, rawSumShare) = (table.sumShare, table.rawSumShare)
            interruptedTurns = table.total.count(.interrupted)
            rqs = run.rqs.map(Queue.init)
            plainTurnCyclesPerPacket = run.plainTurn
            overheadPercent = run.overhead
            leastOverheadPercent = run.leastOverhead
            copyLimit = run.bench?.profile?.copyLimit.map { limit in
                Copy(
                    cyclesPerPacket: limit.cyclesPerPacket, bytesPerCycle: limit.bytesPerCycle,
                    share: run.shareOfCopyLimit)
            }
            workingSet = run.bench?.profile?.workingSet
            `case` = run.bench.flatMap { $0.profile == nil ? nil : RunRecord($0) }
        }
    }
}
