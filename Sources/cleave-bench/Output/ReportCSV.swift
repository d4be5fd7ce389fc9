import CleaveBench
import CleaveProgramSupport

/// A report for spreadsheets: a heading and one row per case (RFC 4180, lines end with LF).
enum ReportCSV {
    static func text(_ document: BenchDocument) -> String {
        text(heading: heading, document.runs.map { fields(of: $0, mode: document.mode) })
    }

    /// Any rows.
    static func text(heading: [String], _ rows: [[String]]) -> String {
        ([heading] + rows).map { $0.map(quoted).joined(separator: ",") + "\n" }.joined()
    }

    // Keys of JSON but for those that `fields` adds. Spreadsheets rely on the order: new ones come
    // last.
    private static let first = words(
        """
        name mode method report ring buffers ringSize burst rqs sharedHeaderQueue slotSize slots
        bufferBytes headerBufferBytes hashReport alignPayload consumer reads packetBytes
        """)
    private static let spreads = words(
        """
        mpps gbps deviceCyclesPerPacket driverCyclesPerPacket consumerCyclesPerPacket
        driverRefillCycles driverHarvestCycles driverReturnCycles
        """)
    private static let last = words(
        """
        packets split fallback fallbackReasons dropped droppedReasons claimRetries skippedBuffers
        misfits verifiedPackets corrupt lost dataBytes headerBytes headerPercent
        descriptorsPerPacket bytesHeldPerPacket wastedShare payloadAloneShare pageAlignedShare
        headerAreas notes slotReturn sharing imbalance inOrder splitThreshold tiny zeroPad
        """)

    static let heading =
        first + spreads.flatMap { ["\($0)Median", "\($0)Min", "\($0)Max"] } + last
        + spreads.flatMap { ["\($0)Q1", "\($0)Q3"] }

    private static func words(_ text: String) -> [String] {
        text.split(whereSeparator: \.isWhitespace).map(String.init)
    }

    private static func fields(of run: RunRecord, mode: String?) -> [String] {
        var values = run.values
        values["mode"] = mode
        values["packetBytes"] = run.packetBytes.name
        values["driverRefillCycles"] = run.driverCycles?.refill
        values["driverHarvestCycles"] = run.driverCycles?.harvest
        values["driverReturnCycles"] = run.driverCycles?.giveBack
        (values["fallback"], values["fallbackReasons"]) = (run.fallbackTotal, run.fallback)
        (values["dropped"], values["droppedReasons"]) = (run.droppedTotal, run.dropped)
        values["verifiedPackets"] = run.verify.packets
        (values["corrupt"], values["lost"]) = (run.verify.corrupt, run.verify.lost)
        values["dataBytes"] = run.memory.dataBytes
        values["headerBytes"] = run.memory.headerBytes
        values["headerPercent"] = run.memory.headerPercent
        return first.map { field(values[$0]) }
            + spreads.flatMap { name -> [String] in
                let spread = values[name] as? Spread
                return [spread?.median, spread?.min, spread?.max].map { field($0) }
            } + last.map { field(values[$0]) }
            + spreads.flatMap { name -> [String] in
                let spread = values[name] as? Spread
                return [spread?.q1, spread?.q3].map { field($0) }
            }
    }

    /// Empty for no value, and for a value that is no number.
    static func field(_ value: Any?) -> String {
        switch value {
        case nil: ""
        case let number as Double: number.isFinite ? "\(number)" : ""
        case let notes as [String]: notes.joined(separator: "; ")
        case let reasons as [String: UInt64]:
            reasons.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
                .joined(separator: ";")
        case let value?: "\(value)"
        }
    }

    private static func quoted(_ field: String) -> String {
        // By scalar: CR LF is one Character and would hide from a search for either.
        guard field.unicodeScalars.contains(where: { ",\"\r\n".unicodeScalars.contains($0) })
        else { return field }
        return "\"" + field.replacing("\"", with: "\"\"") + "\""
    }
}

extension RunRecord {
    /// Its values by the keys of JSON; nothing for nil.
    var values: [String: Any] {
        var values: [String: Any] = [:]
        for case (let key?, let value) in Mirror(reflecting: self).children {
            let mirror = Mirror(reflecting: value)
            values[key] = mirror.displayStyle == .optional ? mirror.children.first?.value : value
        }
        return values
    }

    /// The case, as far as the record says what it was and this version knows it.
    var benchCase: BenchCase {
        var one = BenchCase()
        let values = values
        for axis in Axis.allCases {
            guard let value = values[axis.key] else { continue }
            // A word that this version does not know leaves the axis as it is.
            try? axis.set(SettingValue(text: "\(value)"), in: &one)
        }
        (one.name, one.packet) = (name, packetBytes.name)
        return one
    }
}
