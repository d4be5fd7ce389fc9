//   file header, 24 bytes:  magic | major minor | zone | accuracy | snap length | link type
//   record, 16 + n bytes:   seconds | fraction | captured length n | original length | n bytes
//
// Layout: IETF draft-ietf-opsawg-pcap. Magic 0xa1b2c3d4 counts microseconds, 0xa1b23c4d
// nanoseconds, each in the writer's byte order.

/// Reads the records of a pcap file.
struct PcapReader {
    /// What the magic number tells.
    struct Header {
        let order: ByteOrder
        let nanosecondsPerFraction: UInt64
    }

    private static let fileHeaderByteCount = 24
    private static let recordHeaderByteCount = 16
    /// The upper bits of the link type word tell the length of a frame check sequence.
    private static let linkTypeMask: UInt32 = 0x03ff_ffff

    private let view: ByteView
    private let name: String
    private let header: Header

    init(bytes: [UInt8], name: String, header: Header) {
        self.view = ByteView(bytes: bytes, order: header.order)
        self.name = name
        self.header = header
    }

    func packets() throws(CaptureError) -> [CaptureFile.Packet] {
        try checkFileHeader()
        var packets: [CaptureFile.Packet] = []
        var offset = Self.fileHeaderByteCount
        while offset < view.bytes.count {
            let captured = try checkedRecord(at: offset, index: packets.count)
            let start = offset + Self.recordHeaderByteCount
            let seconds = UInt64(view.word32(offset))
            let fraction = UInt64(view.word32(offset + 4))
            packets.append(
                CaptureFile.Packet(
                    bytes: Array(view.bytes[start..<start + captured]),
                    originalByteCount: Int(view.word32(offset + 12)),
                    timestampNanoseconds: seconds * 1_000_000_000
                        + fraction * header.nanosecondsPerFraction))
            offset = start + captured
        }
        return packets
    }

    /// The captured length of the record at `offset`, which lies within the file.
    private func checkedRecord(at offset: Int, index: Int) throws(CaptureError) -> Int {
        let place = "packet \(index) at byte \(offset)"
        func error(_ problem: String) -> CaptureError {
            CaptureError(file: name, place: place, problem: problem)
        }
        guard index < CaptureFile.maximumPacketCount else {
            throw error("more packets than the limit of \(CaptureFile.maximumPacketCount)")
        }
        let remaining = view.bytes.count - offset - Self.recordHeaderByteCount
        guard remaining >= 0 else { throw error("the file ends inside the packet's header") }
        let captured = Int(view.word32(offset + 8))
        let limit = CaptureFile.maximumPacketByteCount
        guard captured <= limit else {
            throw error("captured length \(captured) is more than the limit of \(limit)")
        }
        guard captured <= remaining else {
            throw error("the file ends inside the packet: \(remaining) of \(captured) bytes")
        }
        return captured
    }

    private func checkFileHeader() throws(CaptureError) {
        guard view.bytes.count >= Self.fileHeaderByteCount else {
            throw CaptureError(
                file: name,
                problem: "\(view.bytes.count) bytes, shorter than the header of a pcap file (24)")
        }
        let major = view.word16(4)
        guard major == 2 else {
            throw CaptureError(
                file: name, place: "byte 4",
                problem: "pcap version \(major).\(view.word16(6)); only 2.x is understood")
        }
        let linkType = view.word32(20) & Self.linkTypeMask
        guard linkType == CaptureFile.ethernetLinkType else {
            throw CaptureError(
                file: name, place: "byte 20",
                problem: "link type \(linkType); only Ethernet (1) is replayed")
        }
    }
}
