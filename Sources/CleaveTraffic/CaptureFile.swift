// A capture is read whole, checked whole, and replayed from memory: the file is never touched
// while packets move. Every length in it is a claim by its writer, so each is compared with
// the bytes that are really there before it is used.
import Glibc

/// The packets of a pcap or pcapng file, in file order.
///
/// Understood: pcap with microsecond or nanosecond timestamps in both byte orders; pcapng with
/// any number of sections (each in its own byte order) and interfaces, enhanced, simple and
/// obsolete packet blocks, `if_tsresol` and `if_tsoffset`; other blocks are skipped. Only
/// Ethernet is replayed. A file that ends inside a record is an error that names the offset,
/// never a shorter list of packets.
public struct CaptureFile: Sendable {
    /// One packet of the file.
    public struct Packet: Sendable, Equatable {
        /// The bytes that the file holds, from the first byte of the Ethernet header.
        public var bytes: [UInt8]
        /// Bytes that the packet had on the wire, never less than `bytes.count`.
        public var originalByteCount: Int
        /// Nanoseconds since 1970; 0 where the format records no time (simple packet blocks).
        public var timestampNanoseconds: UInt64

        /// A packet that was captured whole unless `originalByteCount` says otherwise.
        public init(
            bytes: [UInt8], originalByteCount: Int? = nil, timestampNanoseconds: UInt64 = 0
        ) {
            self.bytes = bytes
            self.originalByteCount = max(originalByteCount ?? 0, bytes.count)
            self.timestampNanoseconds = timestampNanoseconds
        }

        /// Whether the capture cut the packet short (its snap length).
        public var isTruncated: Bool { bytes.count < originalByteCount }
    }

    /// The link type of Ethernet, the only one that is replayed.
    public static let ethernetLinkType: UInt32 = 1
    /// Largest file that is read, in bytes.
    public static let maximumByteCount = 1 << 30
    /// Largest packet that is accepted, in bytes: the largest snap length of libpcap.
    public static let maximumPacketByteCount = 262_144
    /// Most packets that are accepted in one file.
    public static let maximumPacketCount = 1 << 24

    /// Link type of all packets: `ethernetLinkType`.
    public let linkType: UInt32
    /// At least one packet, in file order.
    public let packets: [Packet]
    /// Packets of which the file holds fewer bytes than the wire did. They are kept as they
    /// are: whether to replay them is the caller's decision.
    public let truncatedCount: Int

    /// Reads and checks the regular file at `path`.
    public static func read(path: String) throws(CaptureError) -> CaptureFile {
        try parse(try contents(path: path), name: path)
    }

    /// Checks the bytes of a capture file; errors call the file `name`.
    public static func parse(_ bytes: [UInt8], name: String) throws(CaptureError) -> CaptureFile {
        let packets: [Packet]
        switch try Format(bytes, name: name) {
        case .pcap(let header):
            packets = try PcapReader(bytes: bytes, name: name, header: header).packets()
        case .pcapng:
            var reader = PcapngReader(bytes: bytes, name: name)
            packets = try reader.readPackets()
        }
        guard !packets.isEmpty else {
            throw CaptureError(file: name, problem: "the capture holds no packets")
        }
        return CaptureFile(packets: packets)
    }

    private init(packets: [Packet]) {
        self.linkType = Self.ethernetLinkType
        self.packets = packets
        self.truncatedCount = packets.count(where: \.isTruncated)
    }
}

extension CaptureFile {
    /// The whole of a regular file no larger than `maximumByteCount`.
    private static func contents(path: String) throws(CaptureError) -> [UInt8] {
        // Without O_NONBLOCK the open of a pipe nobody writes to would never return.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw systemError(path, "cannot open") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw systemError(path, "cannot stat") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw CaptureError(file: path, problem: "not a regular file")
        }
        guard status.st_size <= maximumByteCount else {
            throw CaptureError(
                file: path,
                problem: "\(status.st_size) bytes, more than the limit of \(maximumByteCount)")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < bytes.count {
            let got = bytes.withUnsafeMutableBytes { buffer in
                // SAFETY: `filled` is less than the buffer's count, so it has a base address,
                // and the length ends with the buffer.
                Glibc.read(descriptor, buffer.baseAddress! + filled, buffer.count - filled)
            }
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw systemError(path, "cannot read") }
            if got == 0 { break }
            filled += got
        }
        bytes.removeLast(bytes.count - filled)
        return bytes
    }

    static func systemError(_ path: String, _ what: String) -> CaptureError {
        CaptureError(file: path, problem: "\(what): \(String(cString: strerror(errno)))")
    }

    /// The kind of file, told by its first four bytes.
    private enum Format {
        case pcap(PcapReader.Header)
        case pcapng

        init(_ bytes: [UInt8], name: String) throws(CaptureError) {
            guard bytes.count >= 4 else {
                throw CaptureError(
                    file: name,
                    problem: "\(bytes.count) bytes, too short for a pcap or pcapng file")
            }
            switch ByteView(bytes: bytes, order: .little).word32(0) {
            case 0xa1b2_c3d4: self = .pcap(.init(order: .little, nanosecondsPerFraction: 1000))
            case 0xd4c3_b2a1: self = .pcap(.init(order: .big, nanosecondsPerFraction: 1000))
            case 0xa1b2_3c4d: self = .pcap(.init(order: .little, nanosecondsPerFraction: 1))
            case 0x4d3c_b2a1: self = .pcap(.init(order: .big, nanosecondsPerFraction: 1))
            case PcapngReader.sectionHeaderType: self = .pcapng
            case let word where word & 0xffff == 0x8b1f:
                throw CaptureError(file: name, problem: "compressed by gzip; unpack it first")
            case let word:
                let start = String(word.byteSwapped, radix: 16)
                let padding = String(repeating: "0", count: 8 - start.count)
                throw CaptureError(
                    file: name, place: "byte 0",
                    problem: "not a pcap or pcapng file (it starts with \(padding)\(start))")
            }
        }
    }
}
