/// The kind of a capture file, told by its first four bytes.
enum CaptureFormat {
    case pcap(PcapDialect)
    case pcapng

    init(_ bytes: [UInt8], name: String) throws(CaptureError) {
        guard bytes.count >= 4 else {
            throw CaptureError(
                file: name, problem: "\(bytes.count) bytes, too short for a pcap or pcapng file")
        }
        let word = ByteView(bytes: bytes, order: .big).word32(0)
        if let dialect = PcapDialect(magic: word) {
            self = .pcap(dialect)
            return
        }
        if word == PcapngReader.sectionHeaderType {
            self = .pcapng
            return
        }
        if let other = Self.others.first(where: { word & $0.mask == $0.start }) {
            throw CaptureError(file: name, problem: other.problem)
        }
        let start = String(word, radix: 16)
        let padding = String(repeating: "0", count: 8 - start.count)
        throw CaptureError(
            file: name, place: "byte 0",
            problem: "not a pcap or pcapng file (it starts with \(padding)\(start))")
    }

    /// How files begin that people take for captures, and what to do with them.
    private static let others: [(start: UInt32, mask: UInt32, problem: String)] = [
        (0x1f8b_0000, 0xffff_0000, "compressed by gzip; unpack it first"),
        (0x28b5_2ffd, .max, "compressed by zstd; unpack it first"),
        (0x0422_4d18, .max, "compressed by lz4; unpack it first"),
        (0xfd37_7a58, .max, "compressed by xz; unpack it first"),
        (0x425a_6800, 0xffff_ff00, "compressed by bzip2; unpack it first"),
        (0x736e_6f6f, .max, "a snoop capture; make a pcapng file of it first, as by editcap"),
        (0x474d_4255, .max, "a Network Monitor capture; make a pcapng file of it first"),
        (0xa1b2_c3cb, .max, "a filter program (cbpf-savefile), which holds no packets"),
        (0xcbc3_b2a1, .max, "a filter program (cbpf-savefile), which holds no packets"),
    ]
}

/// A variant of pcap, as far as its magic number tells.
struct PcapDialect {
    var order: ByteOrder
    var nanosecondsPerFraction: UInt64 = 1000
    /// Bytes between the file header and the first record.
    var gapByteCount = 0
    /// Lengths that record headers have in files with this magic number, the usual one first.
    var recordHeaderByteCounts = [16]

    /// - Parameter word: the first four bytes of the file, read as big-endian.
    init?(magic word: UInt32) {
        for order in [ByteOrder.big, .little] {
            self.order = order
            switch order == .big ? word : word.byteSwapped {
            case 0xa1b2_c3d4:
                // Patched libpcaps of Linux 2.2 and of Nokia wrote longer headers.
                recordHeaderByteCounts = [16, 24, 20]
                return
            case 0xa1b2_3c4d:
                nanosecondsPerFraction = 1
                return
            case 0xa1b2_cd34:
                // Linux 2.2: interface, protocol and packet type; four bytes more for debugging.
                recordHeaderByteCounts = [24, 28]
                return
            case 0x1c00_01ab:
                // Ixia, captured by software; the gap holds the length of all records.
                gapByteCount = 4
                return
            case 0x1c00_01ac:
                // Ixia, by hardware.
                gapByteCount = 4
                nanosecondsPerFraction = 1
                return
            default: continue
            }
        }
        return nil
    }
}
