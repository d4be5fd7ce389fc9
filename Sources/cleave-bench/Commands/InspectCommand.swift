import ArgumentParser
import CleaveProgramSupport
import CleaveTraffic
import CleaveVirtioNet

/// Says of every packet of a capture where its headers end, or why it would not be split.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Say for each packet of a capture where its headers end, or why it stays whole.",
        discussion: """
            Answers "why is my packet not split?" with the device's own parser, whatever the \
            size of header slots. What the capture holds is parsed: a packet that its snap \
            length cut may not be splittable for that reason alone. Lengths are in bytes and \
            count from the Ethernet header.

            Examples:
              inspect configs/captures/linux-mtu1500.pcap
              inspect --json capture.pcapng
            """)

    @Argument(help: .init("A pcap or pcapng file.", valueName: "file"))
    var file: String

    @Flag(help: "One JSON object per line and packet: index, length, headerLength, reason.")
    var json = false

    func run() throws {
        let capture: CaptureFile
        do { capture = try CaptureFile.read(path: file) } catch {
            throw Failure.usage(error.description)
        }
        var pending = json ? "" : Inspection.heading
        var reasons: [String: Int] = [:]
        for (index, packet) in capture.packets.enumerated() {
            let inspection = Inspection(index: index, packet: packet)
            if let reason = inspection.reason { reasons[reason, default: 0] += 1 }
            pending += json ? inspection.json + "\n" : inspection.line + "\n"
            if pending.utf8.count >= 1 << 16 {
                try Stream.output.write(pending)
                pending = ""
            }
        }
        if !json {
            pending += Inspection.summary(
                packetCount: capture.packets.count, reasons: reasons,
                cutCount: capture.truncatedCount)
        }
        try Stream.output.write(pending)
    }
}

/// The parser's answer for one packet of a capture.
struct Inspection: Encodable {
    let index: Int
    /// Bytes that the capture holds.
    let length: Int
    /// Bytes on the wire, if the capture holds fewer.
    let originalLength: Int?
    /// Nil when the packet is not splittable.
    let headerLength: Int?
    /// Nil when it is.
    let reason: String?

    init(index: Int, packet: CaptureFile.Packet) {
        self.index = index
        length = packet.bytes.count
        originalLength = packet.isTruncated ? packet.originalByteCount : nil
        let split = packet.bytes.withUnsafeBytes { bytes in
            // SAFETY: the parser reads no more than the count it is given.
            bytes.baseAddress.map { HeaderParser.parse($0, byteCount: bytes.count) }
                ?? HeaderSplit(notSplit: .truncated)
        }
        headerLength = split.isSplittable ? Int(split.byteCount) : nil
        reason = split.isSplittable ? nil : split.reason.name
    }

    private enum CodingKeys: CodingKey { case index, length, headerLength, reason }

    static let heading = " index  length  header  reason\n"

    var line: String {
        let columns = [
            TextTable.pad("\(index)", to: 6, .right), TextTable.pad("\(length)", to: 6, .right),
            TextTable.pad(headerLength.map { "\($0)" } ?? "-", to: 6, .right), reason ?? "-",
        ]
        let line = columns.joined(separator: "  ")
        return originalLength.map { "\(line)  (cut by the capture; \($0) on the wire)" } ?? line
    }

    var json: String { ResultJSON.line(self) }

    static func summary(packetCount: Int, reasons: [String: Int], cutCount: Int) -> String {
        let whole = reasons.values.reduce(0, +)
        let share = Numbers.fixed(100 * Double(packetCount - whole) / Double(packetCount), 1)
        var text = "\(packetCount) packets: \(packetCount - whole) splittable (\(share) %), "
        text += "\(whole) not"
        let list = reasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { "\($0.key) \($0.value)" }
        if !list.isEmpty { text += ": " + list.joined(separator: ", ") }
        if cutCount > 0 { text += "; \(cutCount) cut by the capture's snap length" }
        return text + "\n"
    }
}
