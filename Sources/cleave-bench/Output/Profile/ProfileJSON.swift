import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveVirtioNet

/// Stage tables for programs, and for `profile diff`.
enum ProfileJSON {
    static let schema = "cleave-profile/1"

    /// One object and a newline. The first run's stages stand at the top as well.
    static func text(
        _ runs: [ProfileRun], warnings: [String], command: [String], processID: Int32? = nil
    ) -> String {
        var pairs: [(String, JSONValue)] = [
            ("schema", .string(schema)),
            ("machine", ReportJSON.machine(MachineFacts.current())),
            ("command", .array(command.map(JSONValue.string))),
            ("processID", processID.map { .int(Int($0)) } ?? .null),
            ("warnings", .array(warnings.map(JSONValue.string))),
        ]
        if let first = runs.first {
            pairs.append(("stages", .array(first.table.stages.map(stage))))
            pairs.append(("turnCyclesPerPacket", spread(first.table.turn)))
        }
        pairs.append(("runs", .array(runs.map(run))))
        return JSONValue.object(pairs).text + "\n"
    }

    private static func run(_ run: ProfileRun) -> JSONValue {
        let table = run.table
        var pairs: [(String, JSONValue)] = [
            ("name", .string(run.name)),
            ("label", .string(table.total.label)),
            ("period", .int(Int(run.period))),
            ("turns", .unsigned(table.total.bursts)),
            ("packets", .unsigned(table.total.packets)),
            ("stages", .array(table.stages.map(stage))),
            ("turnCyclesPerPacket", spread(table.turn)),
            ("sum", stage(table.sum)),
            ("costliest", .string(table.costliest.name)),
            ("sumShare", .number(table.sumShare)),
            ("rawSumShare", .number(table.rawSumShare)),
            ("interruptedTurns", .unsigned(table.total.count(.interrupted))),
            ("rqs", .array(run.rqs.map(rq))),
        ]
        if let bench = run.bench, let profile = bench.profile {
            pairs += [
                ("plainTurnCyclesPerPacket", run.plainTurn.map(spread) ?? .null),
                ("overheadPercent", run.overhead.map(spread) ?? .null),
                ("leastOverheadPercent", run.leastOverhead.map(JSONValue.number) ?? .null),
                ("copyLimit", copyLimit(run)),
                ("workingSet", workingSet(profile.workingSet)),
                ("case", ReportJSON.run(bench)),
            ]
        }
        return .object(pairs)
    }

    private static func stage(_ row: StageTable.Row) -> JSONValue {
        .object([
            ("name", .string(row.name)),
            ("cyclesPerPacket", spread(row.cyclesPerPacket)),
            ("cyclesPerBurst", .number(row.cyclesPerBurst)),
            ("perPacket", distribution(row.distribution)),
            ("perBurst", distribution(row.burstDistribution)),
            ("bytesRead", .number(row.traffic.read)),
            ("bytesWritten", .number(row.traffic.written)),
        ])
    }

    private static func distribution(
        _ values: (median: Double, p99: Double, maximum: Double)
    ) -> JSONValue {
        .object([
            ("median", .number(values.median)), ("p99", .number(values.p99)),
            ("max", .number(values.maximum)),
        ])
    }

    private static func rq(_ rq: ProfileSnapshot) -> JSONValue {
        let stages = RxStage.allCases.map {
            ($0.name, JSONValue.number(rq.cyclesPerPacket($0.rawValue)))
        }
        return .object([
            ("rq", rq.number.map(JSONValue.int) ?? .null),
            ("turns", .unsigned(rq.bursts)),
            ("packets", .unsigned(rq.packets)),
            ("turnCyclesPerPacket", .number(rq.cyclesPerPacket(ProfileBlock.turnRow))),
            ("stageCyclesPerPacket", .object(stages)),
            (
                "waitCycles",
                .object(
                    RxWait.allCases.map {
                        ("\($0)", .unsigned(rq.count(.waitCycles, $0.rawValue)))
                    })
            ),
            ("burstsShortOfSlots", .unsigned(rq.count(.shortOfSlots))),
        ])
    }

    private static func copyLimit(_ run: ProfileRun) -> JSONValue {
        guard let limit = run.bench?.profile?.copyLimit else { return .null }
        return .object([
            ("cyclesPerPacket", spread(limit.cyclesPerPacket)),
            ("bytesPerCycle", .number(limit.bytesPerCycle)),
            ("share", run.shareOfCopyLimit.map(JSONValue.number) ?? .null),
        ])
    }

    private static func workingSet(_ set: WorkingSet) -> JSONValue {
        .object([
            ("bytes", .int(set.total)), ("sources", .int(set.sources)),
            ("buffers", .int(set.buffers)), ("slots", .int(set.slots)),
            ("queues", .int(set.queues)),
        ])
    }

    private static func spread(_ spread: Spread) -> JSONValue {
        .object([
            ("median", .number(spread.median)), ("min", .number(spread.min)),
            ("max", .number(spread.max)),
        ])
    }

    private static func spread(_ spread: ProfileSpread) -> JSONValue {
        .object([
            ("median", .number(spread.median)), ("min", .number(spread.min)),
            ("max", .number(spread.max)),
        ])
    }
}
