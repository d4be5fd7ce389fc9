// A capture is read whole, checked whole, and replayed from memory: the file is never touched
// while packets move. Every length in it is a claim by its writer, so each is compared with
// the bytes that are really there before it is used.
import CleaveHost
import Glibc

/// The packets of a pcap or pcapng file, in file order.
///
/// Understood: pcap with microsecond or nanosecond timestamps in both byte orders, its versions
/// before 2.4, and its variants with other record headers (Linux 2.2, Nokia, AIX, Ixia); pcapng
/// with any number of sections (each in its own byte order) and interfaces, enhanced, simple and
/// obsolete packet blocks, `if_tsresol`, `if_tsoffset` and `if_fcslen`; other blocks are skipped.
/// Only Ethernet is replayed, without the frame check sequence that a file declares. A file that
/// ends inside a record gives what comes before it, and says so in `cut`.
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
    /// In file order; none if the capture holds none.
    public let packets: [Packet]
    /// Packets of which the file holds fewer bytes than the wire did. They are kept as they
    /// are: whether to replay them is the caller's decision.
    public let truncatedCount: Int
    /// Packets without the frame check sequence that they have in the file, because it declares
    /// one.
    public let checkedCount: Int
    /// Where the file ends inside a record, as that of a capture that was interrupted; nil if its
    /// end is whole.
    public let cut: CaptureError?

    /// Reads and checks a file.
    /// - Parameters:
    ///   - path: where it is: a regular file, or a pipe that is read until its end.
    ///   - allowsPipe: false refuses a pipe, since its writer may be silent for ever.
    public static func read(
        path: String, allowsPipe: Bool = true
    ) throws(CaptureError) -> CaptureFile {
        try parse(try contents(path: path, allowsPipe: allowsPipe), name: path)
    }

    /// Reads an open file until its end, and checks it; errors call it `name`.
    public static func read(
        descriptor: Int32, name: String
    ) throws(CaptureError) -> CaptureFile {
        try parse(try contents(descriptor, name: name, expecting: 1 << 16), name: name)
    }

    /// Checks the bytes of a capture file; errors call the file `name`.
    public static func parse(_ bytes: [UInt8], name: String) throws(CaptureError) -> CaptureFile {
        switch try CaptureFormat(bytes, name: name) {
        case .pcap(let dialect):
            var reader = PcapReader(bytes: bytes, name: name, dialect: dialect)
            try reader.readPackets()
            return CaptureFile(reader.found)
        case .pcapng:
            var reader = PcapngReader(bytes: bytes, name: name)
            try reader.readPackets()
            return CaptureFile(reader.found)
        }
    }

    /// What a reader found.
    struct Found {
        var packets: [Packet] = []
        var checkedCount = 0
        var cut: CaptureError?

        /// Adds a packet, without its frame check sequence. The sequence ends what was on the wire:
        /// of a packet that was cut, the file may hold a part of it, or nothing.
        mutating func append(
            _ bytes: ArraySlice<UInt8>, originalByteCount: Int, checkByteCount: Int, time: UInt64
        ) {
            let frameByteCount = max(0, max(originalByteCount, bytes.count) - checkByteCount)
            packets.append(
                Packet(
                    bytes: Array(bytes.prefix(frameByteCount)), originalByteCount: frameByteCount,
                    timestampNanoseconds: time))
            if checkByteCount > 0 { checkedCount += 1 }
        }
    }

    private init(_ found: Found) {
        linkType = Self.ethernetLinkType
        packets = found.packets
        truncatedCount = found.packets.count(where: \.isTruncated)
        checkedCount = found.checkedCount
        cut = found.cut
    }
}

extension CaptureFile {
    /// The whole of a file no larger than `maximumByteCount`.
    private static func contents(
        path: String, allowsPipe: Bool
    ) throws(CaptureError) -> [UInt8] {
        // Without O_NONBLOCK the open of a pipe nobody writes to would never return.
        let descriptor = PathText.withBytes(path) { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else { throw systemError(path, "cannot open") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw systemError(path, "cannot stat") }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFIFO where !allowsPipe:
            throw CaptureError(file: path, problem: "a pipe, whose writer others would wait for")
        case S_IFIFO:
            // Reads wait for the writer; if there is none, the pipe ends at once.
            _ = fcntl(descriptor, F_SETFL, 0)
        default: throw CaptureError(file: path, problem: "neither a regular file nor a pipe")
        }
        guard status.st_size <= maximumByteCount else { throw tooLarge(path) }
        // One more, so that the end of the file is seen before more room is made.
        return try contents(descriptor, name: path, expecting: max(1 << 16, status.st_size + 1))
    }

    /// Reads until the end of the file.
    private static func contents(
        _ descriptor: Int32, name: String, expecting byteCount: Int
    ) throws(CaptureError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var filled = 0
        while true {
            if filled == bytes.count { bytes += [UInt8](repeating: 0, count: filled) }
            let got = bytes.withUnsafeMutableBytes { buffer in
                // SAFETY: `filled` is less than the buffer's count, so it has a base address,
                // and the length ends with the buffer.
                Glibc.read(descriptor, buffer.baseAddress! + filled, buffer.count - filled)
            }
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw systemError(name, "cannot read") }
            if got == 0 { break }
            filled += got
            guard filled <= maximumByteCount else { throw tooLarge(name) }
        }
        bytes.removeLast(bytes.count - filled)
        return bytes
    }

    private static func tooLarge(_ name: String) -> CaptureError {
        CaptureError(file: name, problem: "more than the limit of \(maximumByteCount) bytes")
    }

    static func systemError(_ path: String, _ what: String) -> CaptureError {
        CaptureError(file: path, problem: "\(what): \(String(cString: strerror(errno)))")
    }
}
