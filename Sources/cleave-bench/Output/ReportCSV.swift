import CleaveBench

/// A report for spreadsheets: a heading and one row per case (RFC 4180, lines end with LF).
enum ReportCSV {
    static func text(_ report: BenchReport) -> String {
        let rows = report.results.map { fields(of: $0, mode: report.mode) }
        return ([heading] + rows)
            .map { $0.map(quoted).joined(separator: ",") + "\n" }.joined()
    }

    /// The columns, in the order of `fields`.
    static let heading: [String] =
        [
            "name", "mode", "method", "report", "ring", "buffers", "ringSize", "burst", "rqs",
            "sharedHeaderQueue", "slotSize", "slots", "bufferBytes", "headerBufferBytes",
            "hashReport",
            "alignPayload", "consumer", "reads", "packetBytes",
        ]
        + [
            "mpps", "gbps", "deviceCyclesPerPacket", "driverCyclesPerPacket",
            "consumerCyclesPerPacket", "driverRefillCycles", "driverHarvestCycles",
            "driverReturnCycles",
        ]
        .flatMap { ["\($0)Median", "\($0)Min", "\($0)Max"] }
        + [
            "packets", "split", "fallback", "fallbackReasons", "dropped", "droppedReasons",
            "claimRetries", "skippedBuffers", "misfits", "verifiedPackets", "corrupt", "lost",
            "dataBytes", "headerBytes",
            "headerPercent", "descriptorsPerPacket", "bytesHeldPerPacket", "wastedShare",
            "payloadAloneShare", "pageAlignedShare", "headerAreas", "notes",
        ]

    private static func fields(of result: BenchResult, mode: BenchMode) -> [String] {
        let one = result.benchCase
        let axes = [
            one.displayName, mode.rawValue, one.method.rawValue,
            one.effectiveReport?.rawValue ?? "", one.ring.rawValue, one.buffers.rawValue,
            "\(one.ringSize)", "\(one.burst)", "\(one.rqs)", "\(one.sharedHeaderQueue)",
            "\(one.slotSize)", "\(one.slots)", "\(one.bufferByteCount)",
            "\(one.headerBufferByteCount)", "\(one.hashReport)", "\(one.alignsPayload)",
            one.consumer.rawValue, "\(one.readsPayload)", one.packetName,
        ]
        let spreads = [
            result.mpps, result.gbps, result.deviceCyclesPerPacket, result.driverCyclesPerPacket,
            result.consumerCyclesPerPacket, result.driverCycles.refill,
            result.driverCycles.harvest, result.driverCycles.giveBack,
        ].flatMap { [number($0.median), number($0.min), number($0.max)] }
        let counts = [
            "\(result.packets)", "\(result.split)", "\(result.fallback.values.reduce(0, &+))",
            reasons(result.fallback), "\(result.dropped.values.reduce(0, &+))",
            reasons(result.dropped), "\(result.claimRetries)", "\(result.skippedBuffers)",
            "\(result.misfits)", "\(result.verify.packets)",
            "\(result.verify.corrupt)", "\(result.verify.lost)", "\(result.memory.dataBytes)",
            "\(result.memory.headerBytes)", number(result.memory.headerPercent),
            number(result.bufferUse.descriptorsPerPacket),
            number(result.bufferUse.bytesHeldPerPacket), number(result.bufferUse.wastedShare),
            number(result.payload.aloneShare), number(result.payload.pageAlignedShare),
            "\(result.payload.headerAreas)",
            result.notes.joined(separator: "; "),
        ]
        return axes + spreads + counts
    }

    /// Empty for what is no number.
    private static func number(_ value: Double) -> String { value.isFinite ? "\(value)" : "" }

    private static func reasons(_ counts: [String: UInt64]) -> String {
        counts.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ";")
    }

    private static func quoted(_ field: String) -> String {
        // By scalar: CR LF is one Character and would hide from a search for either.
        guard field.unicodeScalars.contains(where: { ",\"\r\n".unicodeScalars.contains($0) })
        else { return field }
        return "\"" + field.replacing("\"", with: "\"\"") + "\""
    }
}
