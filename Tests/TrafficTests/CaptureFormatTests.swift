// Every format, byte order and resolution that is understood.
import Foundation
import Testing

@testable import CleaveTraffic

@Suite struct CaptureFormatTests {
    static let orders: [ByteOrder] = [.little, .big]
    let first: [UInt8] = Array(1...60)
    let second: [UInt8] = Array(100...177)

    @Test(arguments: orders, [(0xa1b2_c3d4 as UInt32, 1000 as UInt64), (0xa1b2_3c4d, 1)])
    func pcap(_ order: ByteOrder, _ variant: (magic: UInt32, nanoseconds: UInt64)) throws {
        var builder = CaptureBuilder(order: order)
        builder.pcapHeader(magic: variant.magic)
        builder.pcapRecord(first, seconds: 4_000_000_000, fraction: 999_999, original: 60)
        builder.pcapRecord(second, seconds: 7, fraction: 5, original: 1514)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        #expect(file.linkType == 1)
        #expect(file.truncatedCount == 1)
        let time = 4_000_000_000_000_000_000 + 999_999 * variant.nanoseconds
        #expect(
            file.packets == [
                .init(bytes: first, timestampNanoseconds: time),
                .init(
                    bytes: second, originalByteCount: 1514,
                    timestampNanoseconds: 7_000_000_000 + 5 * variant.nanoseconds),
            ])
    }

    /// A resolution and what 3 * 2^32 ticks of it are in nanoseconds.
    static let resolutions: [(UInt8?, UInt64)] = [
        (nil, 12_884_901_888_000), (6, 12_884_901_888_000), (9, 12_884_901_888),
        (0, 12_884_901_888_000_000_000), (3, 12_884_901_888_000_000), (12, 12_884_901),
        (18, 12), (19, 1), (20, 0), (127, 0), (0x80 | 30, 12_000_000_000),
        (0x80 | 32, 3_000_000_000), (0x80 | 0, 12_884_901_888_000_000_000), (0xff, 0),
    ]

    @Test(arguments: orders, resolutions)
    func pcapngResolution(_ order: ByteOrder, _ sample: (UInt8?, UInt64)) throws {
        var builder = CaptureBuilder(order: order)
        builder.section()
        builder.interface(resolution: sample.0)
        builder.enhanced(first, ticks: 3 << 32)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        #expect(file.packets.map(\.timestampNanoseconds) == [sample.1])
        #expect(file.packets[0].bytes == first)
    }

    @Test func timesBeyond64BitsAreClamped() {
        var interface = PcapngInterface(linkType: 1, snapLength: 0)
        interface.resolution = 0
        #expect(interface.nanoseconds(ticks: .max) == .max)
        interface.offsetSeconds = .max
        #expect(interface.nanoseconds(ticks: .max) == .max)
        interface.offsetSeconds = .min
        #expect(interface.nanoseconds(ticks: 0) == 0)
    }

    @Test func timeOffsetIsAdded() throws {
        var builder = CaptureBuilder(order: .big)
        builder.section()
        builder.interface(resolution: 9, offsetSeconds: 3)
        builder.interface(resolution: 9, offsetSeconds: -3)
        builder.enhanced(first, interface: 0, ticks: 5)
        builder.enhanced(first, interface: 1, ticks: 4_000_000_000)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        #expect(file.packets.map(\.timestampNanoseconds) == [3_000_000_005, 1_000_000_000])
    }

    @Test(arguments: orders, orders)
    func pcapngBlocks(_ order: ByteOrder, _ later: ByteOrder) throws {
        var builder = CaptureBuilder(order: order)
        builder.section()
        builder.interface(snapLength: 40)
        builder.interface(resolution: 9)
        builder.block(5) { $0.put(0, 0, 0) }  // Interface statistics: skipped.
        builder.block(0x8000_1234) { $0.put(9) }  // Local use: skipped.
        builder.enhanced(first, interface: 1, ticks: 77)
        builder.obsolete(second, interface: 0, ticks: 8)
        builder.simple(Array(second[..<40]), original: 78)
        builder.simple(Array(second[..<30]), original: 30)
        builder.enhanced([], interface: 1, ticks: 1)
        builder.order = later
        builder.section()
        builder.interface(resolution: 3)
        builder.enhanced(second, ticks: 4, original: 100)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        #expect(
            file.packets == [
                .init(bytes: first, timestampNanoseconds: 77),
                .init(bytes: second, timestampNanoseconds: 8000),
                .init(bytes: Array(second[..<40]), originalByteCount: 78),
                .init(bytes: Array(second[..<30])),
                .init(bytes: [], timestampNanoseconds: 1),
                .init(bytes: second, originalByteCount: 100, timestampNanoseconds: 4_000_000),
            ])
        #expect(file.truncatedCount == 2)
    }

    @Test func interfacesEndWithTheirSection() {
        var builder = CaptureBuilder(order: .little)
        builder.section()
        builder.interface()
        builder.section()
        builder.enhanced(first, ticks: 0)
        #expect(
            problem(builder.bytes)
                == "test: block 3 at byte 80: interface 0 is not described (0 so far)")
    }

    @Test func originalLengthBelowTheCaptured() throws {
        var builder = CaptureBuilder(order: .little)
        builder.pcapHeader(magic: 0xa1b2_c3d4)
        builder.pcapRecord(first, seconds: 0, fraction: 0, original: 0)
        let file = try CaptureFile.parse(builder.bytes, name: "test")
        // A lie that costs nothing.
        #expect(file.packets == [.init(bytes: first)])
        #expect(file.truncatedCount == 0)
    }

    @Test func noPackets() throws {
        var builder = CaptureBuilder(order: .little)
        builder.pcapHeader(magic: 0xa1b2_c3d4)
        var other = CaptureBuilder(order: .big)
        other.section()
        for bytes in [builder.bytes, other.bytes] {
            let file = try CaptureFile.parse(bytes, name: "test")
            #expect(file.packets.isEmpty && file.cut == nil)
        }
    }

    @Test(arguments: CaptureWriter.Format.allCases)
    func writerRoundTrip(_ format: CaptureWriter.Format) throws {
        let packets = (0..<9).map { index in
            CaptureFile.Packet(
                bytes: Array(first[..<(50 + index)]), originalByteCount: 50 + 9 * (index % 2),
                timestampNanoseconds: 1_700_000_000_123_456_789 + UInt64(index))
        }
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try CaptureWriter(format: format).write(packets, path: path)
        #expect(try CaptureFile.read(path: path).packets == packets)
    }

    @Test func writerNamesWhatItCannotWrite() {
        #expect(throws: CaptureError.self) {
            try CaptureWriter(format: .pcap).write([], path: "/nonexistent/x.pcap")
        }
    }
}
