import ArgumentParser
import CleaveHost
import CleaveProgramSupport
import CleaveTraffic
import CleaveVirtioNet
import Glibc

/// Says of every packet of a capture where its headers end, or why it would not be split.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Say for each packet of a capture where its headers end, or why it stays whole.",
        usage: "cleave-bench inspect <file> [options]",
        discussion: """
            Answers "why is my packet not split?" with the device's own parser: a summary by \
            reason first, then a line for each packet. What the capture holds is parsed: a packet \
            that its snap length cut may not be splittable for that reason alone. Lengths are in \
            bytes and count from the Ethernet header; a frame check sequence that the file \
            declares does not count. A capture at a sender that leaves segmentation to its card \
            (TSO) may have IPv4 packets of total length 0: they stay whole (badIPv4), while the \
            payload length of IPv6, which is 0 there as well, is not looked at.

            Examples:
              inspect configs/captures/linux-mtu1500.pcap
              inspect --unsplit --limit 20 capture.pcapng
              inspect --slot-size 64 capture.pcapng
              zcat capture.pcap.gz | cleave-bench inspect -
              inspect --json capture.pcapng
            """)

    @Argument(help: .init("A pcap or pcapng file; - is standard input.", valueName: "file"))
    var file: String

    @Flag(help: "Only packets that stay whole; the summary is of all.")
    var unsplit = false

    @Option(
        help: .example(
            "Most packets that are listed; the summary is of all.", "--limit 20", "count"))
    var limit: Int?

    @Option(
        help: .example(
            "Bytes of a header slot: longer headers stay whole, as headerTooLong. With the report "
                + "usedLength 12 bytes of it are the virtio-net header's.", "--slot-size 128",
            "bytes"))
    var slotSize: Int?

    @Option(
        help: .example("How slots are reported, for --slot-size.", "--report netHeader", "report"))
    var report: String?

    @Flag(help: "One JSON object per line and packet: index, length, headerLength, reason.")
    var json = false

    func run() throws {
        if let limit, limit < 0 { throw Failure.usage("--limit: \(limit) is negative") }
        let room = try headerRoom()
        let capture = try read()
        var pending = ""
        let inspections = capture.packets.enumerated().map {
            Inspection(index: $0, packet: $1, headerRoom: room)
        }
        let listed = inspections.filter { !unsplit || $0.reason != nil }
        let shown = listed.prefix(limit ?? Int.max)
        if !json {
            pending = InspectionSummary(capture, inspections).text
            if !shown.isEmpty { pending += "\n" + Inspection.heading }
        }
        for inspection in shown {
            pending += json ? inspection.json + "\n" : inspection.line + "\n"
            if pending.utf8.count >= 1 << 16 {
                try Stream.output.write(pending)
                pending = ""
            }
        }
        if !json && shown.count < listed.count {
            pending += "\(listed.count - shown.count) more\n"
        }
        try Stream.output.write(pending)
        if let cut = capture.cut {
            try Stream.error.write("warning: \(cut); the packets before it were read\n")
        }
    }

    private func read() throws(Failure) -> CaptureFile {
        do throws(CaptureError) {
            guard file == "-" else { return try CaptureFile.read(path: file) }
            if isatty(STDIN_FILENO) == 1 {
                throw CaptureError(file: "standard input", problem: "a terminal, not a capture")
            }
            return try CaptureFile.read(descriptor: STDIN_FILENO, name: "standard input")
        } catch { throw .usage(error.description) }
    }

    /// Bytes that a slot has for the headers of a packet; nil for any number.
    private func headerRoom() throws(Failure) -> Int? {
        var sharedByteCount = NetHeaderLayout(hashReport: false).byteCount
        if let report {
            guard slotSize != nil else {
                throw .usage("--report: makes a difference with --slot-size only")
            }
            do {
                let value: HeaderReport = try SettingValue(text: report).choice()
                if value == .netHeader { sharedByteCount = 0 }
            } catch { throw .usage("--report: \(error.problem)") }
        }
        guard let slotSize else { return nil }
        do { try HeaderQueueLayout.check(slotSize: slotSize, slotCount: 1) } catch {
            throw .usage("--slot-size: \(error)")
        }
        return slotSize - sharedByteCount
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
    /// Nil when it is, and its headers fit.
    let reason: String?

    /// - Parameter headerRoom: most bytes of headers that fit a slot; nil for any number.
    init(index: Int, packet: CaptureFile.Packet, headerRoom: Int? = nil) {
        self.index = index
        length = packet.bytes.count
        originalLength = packet.isTruncated ? packet.originalByteCount : nil
        let split = packet.bytes.withUnsafeBytes { bytes in
            // SAFETY: the parser reads no more than the count it is given.
            bytes.baseAddress.map { HeaderParser.parse($0, byteCount: bytes.count) }
                ?? HeaderSplit(notSplit: .truncated)
        }
        headerLength = split.isSplittable ? Int(split.byteCount) : nil
        if split.isSplittable {
            reason =
                Int(split.byteCount) > headerRoom ?? Int.max
                ? FallbackReason.headerTooLong.name : nil
        } else {
            reason = split.reason.name
        }
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
}

/// What there is to say of a capture as a whole: by reason, the most frequent first.
struct InspectionSummary {
    let text: String

    init(_ capture: CaptureFile, _ inspections: [Inspection]) {
        let zeroCount = zip(capture.packets, inspections).count { packet, inspection in
            inspection.reason == NoSplitReason.badIPv4.name && Self.hasNoTotalLength(packet.bytes)
        }
        guard !inspections.isEmpty else {
            text = "no packets\n"
            return
        }
        var counts: [String: Int] = [:]
        for inspection in inspections {
            if let reason = inspection.reason { counts[reason, default: 0] += 1 }
        }
        let count = inspections.count
        func share(_ part: Int) -> String { Numbers.fixed(100 * Double(part) / Double(count), 1) }
        let whole = counts.values.reduce(0, +)
        var lines = [
            "\(count) \(count == 1 ? "packet" : "packets"): \(count - whole) splittable "
                + "(\(share(count - whole)) %), \(whole) not"
        ]
        for (reason, number) in counts.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
            lines.append(
                TextTable.pad("\(number)", to: 6, .right) + "  "
                    + TextTable.pad("\(share(number)) %", to: 7, .right)
                    + "  \(reason): \(Self.explanation(of: reason))")
            if reason == NoSplitReason.badIPv4.name, zeroCount > 0 {
                lines += [
                    "\(zeroCount) of them with total length 0, as at a sender whose card",
                    "segments (TSO); payload length 0 of IPv6 is no obstacle",
                ].map { String(repeating: " ", count: 17) + $0 }
            }
        }
        if capture.truncatedCount > 0 {
            lines.append("\(capture.truncatedCount) cut by the capture's snap length")
        }
        if capture.checkedCount > 0 {
            lines.append(
                "\(capture.checkedCount) without the frame check sequence that the file declares")
        }
        text = lines.joined(separator: "\n") + "\n"
    }

    /// Whether total length 0 follows the Ethernet header and its tags.
    private static func hasNoTotalLength(_ bytes: [UInt8]) -> Bool {
        func word(_ offset: Int) -> Int {
            bytes.count >= offset + 2 ? Int(bytes[offset]) << 8 | Int(bytes[offset + 1]) : -1
        }
        var offset = 12
        while [0x8100, 0x88a8, 0x9100].contains(word(offset)) { offset += 4 }
        return word(offset + 4) == 0
    }

    private static func explanation(of name: String) -> String {
        guard let reason = NoSplitReason.allCases.first(where: { $0.name == name }) else {
            return "headers are longer than a slot has room for"
        }
        return switch reason {
        case .none: ""
        case .truncated: "ends inside its headers"
        case .headersTooLong: "headers pass the window that is gathered"
        case .tooManyTags: "more than two VLAN tags"
        case .notIP: "neither IPv4 nor IPv6"
        case .badIPv4: "IPv4 of a wrong version, header length or total length"
        case .fragment: "a fragment"
        case .badIPv6: "IPv6 of a wrong version"
        case .unknownExtension: "an extension header that is not walked"
        case .tooManyExtensions: "more than eight extension headers"
        case .notTransport: "neither TCP nor UDP"
        case .badTCP: "a TCP header below 20 bytes"
        }
    }
}
