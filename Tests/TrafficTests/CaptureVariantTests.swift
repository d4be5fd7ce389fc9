// Files of other times and makers, and frame check sequences: what libpcap and Wireshark make of
// them. `OracleTests` asks Wireshark itself.
import Foundation
import Testing

@testable import CleaveTraffic

@Suite struct CaptureVariantTests {
    static let frame: [UInt8] = Array(1...100)
    /// The same with 4 bytes of frame check sequence.
    static let checked = frame + [0xfc, 0xfb, 0xfa, 0xf9]

    static func packet(_ bytes: [UInt8], of byteCount: Int, time: UInt64) -> CaptureFile.Packet {
        .init(bytes: bytes, originalByteCount: byteCount, timestampNanoseconds: time)
    }

    /// A variant of pcap, and how its records look.
    struct Variant: CustomTestStringConvertible, Sendable {
        var name: String
        var magic: UInt32 = 0xa1b2_c3d4
        var version: (UInt16, UInt16) = (2, 4)
        var linkType: UInt32 = 1
        var nanoseconds: UInt64 = 1000
        /// After the file header, and after the lengths of each record: words, or bytes.
        var gap: UInt32?
        var rest: [UInt8] = []
        var isOriginalFirst = false
        var testDescription: String { name }

        /// A packet that was cut to 60 bytes and, unless there is only `one`, a whole one.
        func bytes(_ order: ByteOrder, one: Bool = false) -> [UInt8] {
            var builder = CaptureBuilder(order: order)
            builder.pcapHeader(magic: magic, linkType: linkType, version: version)
            if let gap { builder.put(gap) }
            let counts = one ? [60] : [60, 100]
            for (index, kept) in counts.enumerated() {
                builder.pcapRecord(
                    Array(frame[..<kept]), seconds: 1_700_000_000, fraction: UInt32(5 + index),
                    original: 100, isOriginalFirst: isOriginalFirst
                ) { $0.bytes += rest }
            }
            return builder.bytes
        }

        var packets: [CaptureFile.Packet] {
            [60, 100].enumerated().map { index, kept in
                packet(
                    Array(frame[..<kept]), of: 100,
                    time: 1_700_000_000_000_000_000 + UInt64(5 + index) * nanoseconds)
            }
        }
    }

    static let variants: [Variant] = [
        .init(name: "2.0", version: (2, 0), isOriginalFirst: true),
        .init(name: "2.2", version: (2, 2), isOriginalFirst: true),
        .init(
            name: "2.2 in nanoseconds", magic: 0xa1b2_3c4d, version: (2, 2), nanoseconds: 1,
            isOriginalFirst: true),
        .init(name: "2.3", version: (2, 3)),
        .init(name: "2.3 as 2.2", version: (2, 3), isOriginalFirst: true),
        .init(name: "2.5", version: (2, 5)),
        .init(name: "DG/UX", version: (543, 0), isOriginalFirst: true),
        .init(name: "AIX", version: (2, 2), linkType: 6, nanoseconds: 1, isOriginalFirst: true),
        // The same bytes in either order, for a test of both.
        .init(name: "modified", magic: 0xa1b2_cd34, rest: [0, 0, 0, 0, 8, 8, 0, 0]),
        .init(
            name: "modified, 28 bytes", magic: 0xa1b2_cd34,
            rest: [0, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0]),
        .init(name: "modified, usual magic", rest: [0, 0, 0, 0, 8, 8, 0, 0]),
        .init(name: "Nokia", rest: [0x9f, 0xbf, 0xb6, 0x01]),
        .init(name: "Ixia software", magic: 0x1c00_01ab, gap: 192),
        .init(name: "Ixia hardware", magic: 0x1c00_01ac, nanoseconds: 1, gap: 192),
    ]

    @Test(arguments: CaptureFormatTests.orders, variants)
    func variant(_ order: ByteOrder, _ variant: Variant) throws {
        let whole = variant.bytes(order)
        let file = try CaptureFile.parse(whole, name: "test")
        #expect(file.packets == variant.packets)
        #expect(file.truncatedCount == 1)
        let one = try CaptureFile.parse(variant.bytes(order, one: true), name: "test")
        #expect(one.packets == [variant.packets[0]])
        // Cut within the second packet, it is still the same variant.
        let cut = try CaptureFile.parse(Array(whole.dropLast(7)), name: "test")
        #expect(cut.packets == [variant.packets[0]])
        #expect(
            "\(try #require(cut.cut))".hasSuffix("the file ends inside the packet: 93 of 100 bytes")
        )
    }

    @Test func otherFiles() {
        let starts: [(UInt32, String)] = [
            (0xa1b2_34cd, "byte 0: not a pcap or pcapng file (it starts with a1b234cd)"),
            (0xa1b2_c3cb, "a filter program (cbpf-savefile), which holds no packets"),
            (0x28b5_2ffd, "compressed by zstd; unpack it first"),
            (0x0422_4d18, "compressed by lz4; unpack it first"),
            (0xfd37_7a58, "compressed by xz; unpack it first"),
            (0x425a_6839, "compressed by bzip2; unpack it first"),
            (0x736e_6f6f, "a snoop capture; make a pcapng file of it first, as by editcap"),
            (0x474d_4255, "a Network Monitor capture; make a pcapng file of it first"),
        ]
        for (start, text) in starts {
            var builder = CaptureBuilder(order: .big)
            builder.put(start, 0, 0, 0, 0, 0)
            #expect(problem(builder.bytes) == "test: \(text)")
        }
        var builder = CaptureBuilder(order: .big)
        builder.pcapHeader(magic: 0xa1b2_c3d4, version: (543, 1))
        #expect(
            problem(builder.bytes) == "test: byte 4: pcap version 543.1; only 2.x is understood")
        builder = CaptureBuilder(order: .big)
        builder.pcapHeader(magic: 0xa1b2_c3d4, linkType: 0x0001_0001)
        #expect(
            problem(builder.bytes)
                == "test: byte 20: link type word 0x10001 has reserved bits set")
    }

    // MARK: Frame check sequences

    /// Link type words with how many bytes of a frame check sequence they declare.
    static let words: [(UInt32, Int)] = [
        (0x2400_0001, 4), (0x1400_0001, 2), (0x0400_0001, 0), (0xf400_0001, 30),
        // The bit that says that there is a length is not set.
        (0x2000_0001, 0), (1, 0),
    ]

    @Test(arguments: CaptureFormatTests.orders, words)
    func pcapCheckSequence(_ order: ByteOrder, _ sample: (word: UInt32, byteCount: Int)) throws {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] as [UInt32] {
            var builder = CaptureBuilder(order: order)
            builder.pcapHeader(magic: magic, linkType: sample.word)
            builder.pcapRecord(Self.checked, seconds: 0, fraction: 0, original: 104)
            let file = try CaptureFile.parse(builder.bytes, name: "test")
            let left = 104 - sample.byteCount
            #expect(
                file.packets == [Self.packet(Array(Self.checked[..<left]), of: left, time: 0)])
            #expect(file.checkedCount == (sample.byteCount > 0 ? 1 : 0))
            #expect(file.truncatedCount == 0)
        }
    }

    /// Captured and original length of a record whose file declares 4 bytes, and what is left.
    static let cuts: [(captured: Int, original: Int, left: Int, frame: Int)] = [
        // Whole; within the sequence; at its start; within the frame; a wrong original length.
        (104, 104, 100, 100), (102, 104, 100, 100), (100, 104, 100, 100), (60, 104, 60, 100),
        (104, 0, 100, 100), (3, 3, 0, 0), (0, 0, 0, 0), (0, 104, 0, 100),
    ]

    @Test(arguments: cuts)
    func cutCheckSequence(_ cut: (captured: Int, original: Int, left: Int, frame: Int)) throws {
        let bytes = Array(Self.checked[..<cut.captured])
        var builder = CaptureBuilder(order: .little)
        builder.pcapHeader(magic: 0xa1b2_c3d4, linkType: 0x2400_0001)
        builder.pcapRecord(bytes, seconds: 0, fraction: 0, original: cut.original)
        var other = CaptureBuilder(order: .big)
        other.section()
        other.interface(checkLength: 32)
        other.enhanced(bytes, ticks: 0, original: cut.original)
        for bytes in [builder.bytes, other.bytes] {
            let file = try CaptureFile.parse(bytes, name: "test")
            #expect(
                file.packets == [
                    Self.packet(Array(Self.frame[..<cut.left]), of: cut.frame, time: 0)
                ])
            #expect(file.truncatedCount == (cut.left < cut.frame ? 1 : 0))
        }
    }

    /// `if_fcslen`, flags of packets, and bytes that go.
    static let declared: [(UInt8?, UInt32?, Int)] = [
        (nil, nil, 0), (32, nil, 4), (4, nil, 4), (16, nil, 2), (2, nil, 2), (0, nil, 0),
        // Flags override where they say something: bits 5 to 8, in bytes.
        (nil, 4 << 5, 4), (32, 2 << 5, 2), (32, 0, 4), (32, 2 | 1 << 9, 4), (nil, 15 << 5, 15),
    ]

    @Test(arguments: CaptureFormatTests.orders, declared)
    func pcapngCheckSequence(
        _ order: ByteOrder, _ sample: (length: UInt8?, flags: UInt32?, byteCount: Int)
    ) throws {
        var builder = CaptureBuilder(order: order)
        builder.section()
        // Of another interface nothing is declared.
        builder.interface()
        builder.interface(checkLength: sample.length)
        builder.enhanced(Self.checked, interface: 1, ticks: 0, flags: sample.flags)
        builder.obsolete(Self.checked, interface: 1, ticks: 0, flags: sample.flags)
        builder.enhanced(Self.frame, interface: 0, ticks: 0)
        // An odd length, so that options follow after padding.
        builder.enhanced(Array(Self.checked[1...]), interface: 1, ticks: 0, flags: sample.flags)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        let left = 104 - sample.byteCount
        #expect(
            file.packets.map(\.bytes) == [
                Array(Self.checked[..<left]), Array(Self.checked[..<left]), Self.frame,
                Array(Self.checked[1..<left]),
            ])
        #expect(file.packets.map(\.originalByteCount) == [left, left, 100, left - 1])
        #expect(file.checkedCount == (sample.byteCount > 0 ? 3 : 0))
    }

    @Test func simplePacketsHaveTheCheckSequenceOfInterface0() throws {
        var builder = CaptureBuilder(order: .little)
        builder.section()
        builder.interface(snapLength: 102, checkLength: 32)
        builder.simple(Array(Self.checked[..<102]), original: 104)
        builder.simple(Array(Self.checked[..<60]), original: 60)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        #expect(
            file.packets == [
                Self.packet(Self.frame, of: 100, time: 0),
                Self.packet(Array(Self.frame[..<56]), of: 56, time: 0),
            ])
    }

    @Test func optionsThatPassTheirPacket() {
        var builder = CaptureBuilder(order: .little)
        builder.section()
        builder.interface()
        builder.block(6) {
            $0.put(0, 0, 0, 4, 4, 1)
            $0.put16(2, 5)
            $0.put(0)
        }
        #expect(
            problem(builder.bytes)
                == "test: block 2 at byte 52: an option of the packet runs past the block")
    }
}
