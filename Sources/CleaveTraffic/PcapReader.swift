//   file header, 24 bytes:  magic | major minor | zone | accuracy | snap length | link type
//   record, 16 + n bytes:   seconds | fraction | captured length n | original length | n bytes
//
//   link type word:  FCS length (4 bits, in units of 2 bytes) | 0 | FCS length is there | 0 (10) |
//                    link type (16)
//
// Layout: IETF draft-ietf-opsawg-pcap. The two lengths of a record stand the other way round before
// version 2.3, and in some files that say 2.3. Variants put more bytes between the lengths and the
// packet: see `PcapDialect`.

/// Reads the records of a pcap file.
struct PcapReader {
    private static let fileHeaderByteCount = 24
    /// Seconds, fraction and both lengths: the start of a record in every variant.
    private static let commonByteCount = 16

    private let view: ByteView
    private let name: String
    private var dialect: PcapDialect
    /// Bytes in front of each packet.
    private var recordHeaderByteCount = 16
    private var lengthOrder = LengthOrder.capturedFirst
    /// Bytes of the frame check sequence at the end of each packet.
    private var checkByteCount = 0
    private(set) var found = CaptureFile.Found()

    /// Which of a record's two lengths comes first.
    private enum LengthOrder { case capturedFirst, smallerFirst, originalFirst }

    init(bytes: [UInt8], name: String, dialect: PcapDialect) {
        self.view = ByteView(bytes: bytes, order: dialect.order)
        self.name = name
        self.dialect = dialect
    }

    mutating func readPackets() throws(CaptureError) {
        try readFileHeader()
        var offset = Self.fileHeaderByteCount + dialect.gapByteCount
        while offset < view.bytes.count {
            let lengths: Lengths
            do { lengths = try checkedRecord(at: offset) } catch {
                guard error.isCut else { throw error }
                found.cut = error
                return
            }
            let start = offset + recordHeaderByteCount
            let seconds = UInt64(view.word32(offset))
            let fraction = UInt64(view.word32(offset + 4))
            found.append(
                view.bytes[start..<start + lengths.captured], originalByteCount: lengths.original,
                checkByteCount: checkByteCount,
                time: seconds * 1_000_000_000 + fraction * dialect.nanosecondsPerFraction)
            offset = start + lengths.captured
        }
    }

    private typealias Lengths = (captured: Int, original: Int)

    /// The lengths of the record at `offset`, whose packet lies within the file.
    private func checkedRecord(at offset: Int) throws(CaptureError) -> Lengths {
        let index = found.packets.count
        func error(_ problem: String, isCut: Bool = false) -> CaptureError {
            var error = CaptureError(
                file: name, place: "packet \(index) at byte \(offset)", problem: problem)
            error.isCut = isCut
            return error
        }
        guard index < CaptureFile.maximumPacketCount else {
            throw error("more packets than the limit of \(CaptureFile.maximumPacketCount)")
        }
        let remaining = view.bytes.count - offset - recordHeaderByteCount
        guard remaining >= 0 else {
            throw error("the file ends inside the packet's header", isCut: true)
        }
        let lengths = lengths(at: offset)
        let limit = CaptureFile.maximumPacketByteCount
        guard lengths.captured <= limit else {
            throw error("captured length \(lengths.captured) is more than the limit of \(limit)")
        }
        guard lengths.captured <= remaining else {
            throw error(
                "the file ends inside the packet: \(remaining) of \(lengths.captured) bytes",
                isCut: true)
        }
        return lengths
    }

    private func lengths(at offset: Int) -> Lengths {
        let first = Int(view.word32(offset + 8))
        let second = Int(view.word32(offset + 12))
        switch lengthOrder {
        case .capturedFirst: return (first, second)
        case .smallerFirst: return (min(first, second), max(first, second))
        case .originalFirst: return (second, first)
        }
    }

    // MARK: The file header

    private mutating func readFileHeader() throws(CaptureError) {
        let byteCount = Self.fileHeaderByteCount + dialect.gapByteCount
        guard view.bytes.count >= byteCount else {
            throw CaptureError(
                file: name,
                problem: "\(view.bytes.count) bytes, shorter than the header of a pcap file "
                    + "(\(byteCount))")
        }
        let version = (view.word16(4), view.word16(6))
        switch version {
        case (2, ..<3): lengthOrder = .originalFirst
        // Some files that say 2.3 have the order of 2.2: nothing longer is captured than was sent.
        case (2, 3): lengthOrder = .smallerFirst
        case (2, _): break
        // The tcpdump of DG/UX.
        case (543, 0): lengthOrder = .originalFirst
        default:
            throw CaptureError(
                file: name, place: "byte 4",
                problem: "pcap version \(version.0).\(version.1); only 2.x is understood")
        }
        try readLinkType(version)
        recordHeaderByteCount = dialect.recordHeaderByteCounts[0]
        // Variants with longer headers and the usual magic number were 2.4.
        if version == (2, 4) { chooseRecordHeader() }
    }

    private mutating func readLinkType(_ version: (UInt16, UInt16)) throws(CaptureError) {
        let word = view.word32(20)
        func error(_ problem: String) -> CaptureError {
            CaptureError(file: name, place: "byte 20", problem: problem)
        }
        guard word & 0x03ff_0000 == 0 else {
            throw error("link type word 0x\(String(word, radix: 16)) has reserved bits set")
        }
        if word & 0x0400_0000 != 0 { checkByteCount = Int(word >> 28) * 2 }
        // AIX: its own number for Ethernet (that of interface types), and nanoseconds.
        if version == (2, 2) && word == 6 && dialect.nanosecondsPerFraction == 1000 {
            dialect.nanosecondsPerFraction = 1
            return
        }
        guard word & 0xffff == CaptureFile.ethernetLinkType else {
            throw error("link type \(word & 0xffff); only Ethernet (1) is replayed")
        }
    }

    /// Chooses the length of record headers by which the first records make sense; the usual one if
    /// none does.
    private mutating func chooseRecordHeader() {
        let fitting = dialect.recordHeaderByteCounts.first { makesSense($0) }
        if let fitting { recordHeaderByteCount = fitting }
    }

    private func makesSense(_ headerByteCount: Int) -> Bool {
        var offset = Self.fileHeaderByteCount + dialect.gapByteCount
        for index in 0..<3 where offset < view.bytes.count {
            guard view.bytes.count - offset >= headerByteCount else { return false }
            let (captured, original) = lengths(at: offset)
            let end = offset + headerByteCount + captured
            // All variants among which to choose count microseconds.
            guard view.word32(offset + 4) < 1_000_000, captured <= original,
                original <= CaptureFile.maximumPacketByteCount
            else { return false }
            // The file may end inside a packet, but not inside its first.
            if end > view.bytes.count { return index > 0 }
            offset = end
        }
        return true
    }
}
