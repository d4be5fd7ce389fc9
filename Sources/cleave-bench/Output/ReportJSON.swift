import CleaveBench
import CleaveHost

/// A report for programs. Keys keep their order; new ones may be added, none changes its meaning
/// within a schema.
enum ReportJSON {
    static let schema = "cleave-bench/1"

    /// One object and a newline.
    /// - Parameters:
    ///   - command: the command line that gave the report.
    ///   - claims: what was judged by it, if anything was.
    static func text(
        _ report: BenchReport, command: [String], claims: [Claim]? = nil
    ) -> String {
        var pairs: [(String, JSONValue)] = [
            ("schema", .string(schema)),
            ("machine", machine(report.machine)),
            ("mode", .string(report.mode.rawValue)),
            ("repeats", .int(report.repeats)),
            ("command", .array(command.map(JSONValue.string))),
            ("warnings", .array(report.warnings.map(JSONValue.string))),
            ("queuePlan", PlacementText.json(report)),
            ("interrupted", report.interruption.map { .string($0.description) } ?? .null),
        ]
        if let claims { pairs.append(("claims", .array(claims.map(claim)))) }
        pairs.append(("runs", .array(report.results.map(run))))
        return JSONValue.object(pairs).text + "\n"
    }

    static func machine(_ facts: MachineFacts) -> JSONValue {
        func optional(_ text: String?) -> JSONValue { text.map(JSONValue.string) ?? .null }
        func optional(_ number: Int?) -> JSONValue { number.map(JSONValue.int) ?? .null }
        func pages(_ count: MachineFacts.HugePageCount) -> JSONValue {
            .object([("total", .int(count.total)), ("free", .int(count.free))])
        }
        return .object([
            ("cpuModel", .string(facts.cpuModel)),
            ("architecture", .string(facts.architecture)),
            ("cpusOnline", .array(facts.cpusOnline.cpus.map(JSONValue.int))),
            ("cpusAllowed", .array(facts.cpusAllowed.cpus.map(JSONValue.int))),
            ("smtActive", facts.smtActive.map(JSONValue.bool) ?? .null),
            (
                "cacheBytes",
                .object([
                    ("l1Data", optional(facts.cacheSizes.l1Data)),
                    ("l2", optional(facts.cacheSizes.l2)),
                    ("l3", optional(facts.cacheSizes.l3)),
                ])
            ),
            ("kernel", .string(facts.kernel)),
            ("memoryBytes", .int(facts.memoryBytes)),
            ("numaNodes", .int(facts.numaNodes)),
            ("numaBalancing", .bool(facts.numaBalancing)),
            ("hugePages2M", pages(facts.hugePages2M)),
            ("hugePages1G", pages(facts.hugePages1G)),
            ("transparentHugePages", optional(facts.transparentHugePages)),
            ("governor", optional(facts.governor)),
            ("virtualised", .bool(facts.virtualised)),
            ("hypervisor", optional(facts.hypervisor)),
            ("tscHertz", .number(facts.tscHertz)),
            ("invariantTSC", .bool(facts.invariantTSC)),
            ("autogroupEnabled", .bool(facts.autogroupEnabled)),
            ("compiler", .string(facts.compiler)),
        ])
    }

    static func run(_ result: BenchResult) -> JSONValue {
        let one = result.benchCase
        return .object([
            ("name", .string(one.displayName)),
            ("method", .string(one.method.rawValue)),
            ("report", one.effectiveReport.map { .string($0.rawValue) } ?? .null),
            ("ring", .string(one.ring.rawValue)),
            ("buffers", .string(one.buffers.rawValue)),
            ("ringSize", .int(one.ringSize)),
            ("burst", .int(one.burst)),
            ("rqs", .int(one.rqs)),
            ("sharedHeaderQueue", .bool(one.sharedHeaderQueue)),
            ("sharing", .string(one.sharing.description)),
            ("imbalance", .int(one.imbalance)),
            ("slotReturn", .string(one.slotReturn.rawValue)),
            ("slotSize", .int(one.slotSize)),
            ("slots", .int(one.slots)),
            ("bufferBytes", .int(one.bufferByteCount)),
            ("headerBufferBytes", .int(one.headerBufferByteCount)),
            ("inOrder", .bool(one.inOrder)),
            ("hashReport", .bool(one.hashReport)),
            ("splitThreshold", .int(one.splitThreshold)),
            ("tiny", .bool(one.tiny)),
            ("tinyPackets", .unsigned(result.tiny)),
            ("zeroPad", .bool(one.zeroPad)),
            ("alignPayload", .bool(one.alignsPayload)),
            ("consumer", .string(one.consumer.rawValue)),
            ("reads", .bool(one.readsPayload)),
            ("packetBytes", Int(one.packet).map(JSONValue.int) ?? .string(one.packetName)),
            ("mpps", spread(result.mpps)),
            ("gbps", spread(result.gbps)),
            ("deviceCyclesPerPacket", spread(result.deviceCyclesPerPacket)),
            ("driverCyclesPerPacket", spread(result.driverCyclesPerPacket)),
            ("consumerCyclesPerPacket", spread(result.consumerCyclesPerPacket)),
            ("driverCycles", phases(result.driverCycles)),
            ("descriptorsPerPacket", .number(result.bufferUse.descriptorsPerPacket)),
            ("bytesHeldPerPacket", .number(result.bufferUse.bytesHeldPerPacket)),
            ("wastedShare", .number(result.bufferUse.wastedShare)),
            ("payloadAloneShare", .number(result.payload.aloneShare)),
            ("pageAlignedShare", .number(result.payload.pageAlignedShare)),
            ("headerAreas", .int(result.payload.headerAreas)),
            ("packets", .unsigned(result.packets)),
            ("split", .unsigned(result.split)),
            ("fallback", counts(result.fallback)),
            ("dropped", counts(result.dropped)),
            ("packetsPerBurst", .number(result.packetsPerBurst)),
            ("claimRetries", .unsigned(result.claimRetries)),
            ("skippedBuffers", .unsigned(result.skippedBuffers)),
            ("misfits", .unsigned(result.misfits)),
            (
                "verify",
                .object([
                    ("packets", .int(result.verify.packets)),
                    ("corrupt", .int(result.verify.corrupt)),
                    ("lost", .int(result.verify.lost)),
                ])
            ),
            (
                "memory",
                .object([
                    ("dataBytes", .int(result.memory.dataBytes)),
                    ("headerBytes", .int(result.memory.headerBytes)),
                    ("headerPercent", .number(result.memory.headerPercent)),
                ])
            ),
            ("counters", EventText.json(result.events)),
            ("notes", .array(result.notes.map(JSONValue.string))),
        ])
    }

    private static func phases(_ cycles: DriverCycles) -> JSONValue {
        .object([
            ("refill", spread(cycles.refill)), ("harvest", spread(cycles.harvest)),
            ("return", spread(cycles.giveBack)), ("total", spread(cycles.total)),
        ])
    }

    static func spread(_ spread: Spread) -> JSONValue {
        .object([
            ("median", .number(spread.median)), ("min", .number(spread.min)),
            ("max", .number(spread.max)),
        ])
    }

    private static func counts(_ counts: [String: UInt64]) -> JSONValue {
        .object(counts.sorted { $0.key < $1.key }.map { ($0.key, .unsigned($0.value)) })
    }
}
