// The layout that the hot loop relies on, and how `load` reads its text.
import CleaveHost
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveTraffic

@Suite struct PacketPoolTests {
    func failure(_ spec: String, count: Int = 8, flows: Int = 1, node: Int? = nil) -> String? {
        do throws(PacketInputError) {
            _ = try PacketPool.load(spec, count: count, flows: flows, node: node)
            return nil
        } catch {
            return error.description
        }
    }

    func bytes(_ ref: PacketRef) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: ref.pointer, count: Int(ref.byteCount)))
    }

    @Test func layout() throws {
        var random = SplitMix64(seed: 4)
        let sizes = [1, 63, 64, 65, 128, 4032, 4033, 4095, 4096, 4097, 8192, 65_535]
        let packets = (sizes + Array(repeating: 4096, count: 40)).map { size in
            (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
        let pool = try PacketPool(name: "test", packets: packets)
        #expect(pool.count == packets.count)
        #expect(pool.refs.map { bytes($0) } == packets)
        #expect(pool.totalBytes == packets.reduce(0) { $0 + $1.count })
        #expect(pool.refs.map(\.cookie) == packets.indices.map { UInt16($0) })
        #expect(pool.refs.allSatisfy { $0.flags == [] && $0.address % 64 == 0 })
        let starts = pool.refs.map(\.address)
        for (ref, next) in zip(pool.refs, starts.dropFirst()) {
            #expect(ref.address + UInt64(ref.byteCount) <= next)
            // The next packet starts in another set of a cache of 64 lines a way.
            #expect((next - ref.address) % 128 == 64)
        }
        // The room after the last packet is in the arena and holds no table.
        let last = try #require(pool.refs.last)
        let end = UInt(last.address) + UInt(last.byteCount) + 64
        let base = UInt(bitPattern: pool.arena.base)
        #expect(UInt(starts[0]) >= base)
        #expect(end <= UInt(bitPattern: pool.refs.baseAddress))
        #expect(UInt(bitPattern: pool.refs.baseAddress) < base + UInt(pool.arena.byteCount))
        #expect(pool.arena.usedBytes <= pool.arena.byteCount)
    }

    @Test func cookiesWrap() throws {
        let pool = try PacketPool(
            name: "test", packets: Array(repeating: [1, 2, 3], count: 65_538))
        #expect(pool.refs[65_535].cookie == 65_535)
        #expect(pool.refs[65_537].cookie == 1)
    }

    @Test func emptyPacketsAreLeftOutAndCounted() throws {
        let pool = try PacketPool(
            name: "test", packets: [[], [7], [], [8, 9]], truncatedCount: 2)
        #expect(pool.count == 2)
        #expect(pool.emptyCount == 2)
        #expect(pool.truncatedCount == 2)
        #expect(pool.refs.map { bytes($0) } == [[7], [8, 9]])
        #expect(pool.hashes.map { $0 } == [0, 0])
        #expect(throws: PacketInputError.request("test: there is no packet with bytes")) {
            try PacketPool(name: "test", packets: [[]])
        }
    }

    /// The hash bit by bit, as its definition reads: for each set bit of the input, xor in the 32
    /// bits of the key that start there.
    func slowHash(_ tuple: [UInt8]) -> UInt32 {
        let key = ToeplitzHash.defaultKey
        func keyBit(_ index: Int) -> UInt32 { UInt32(key[index / 8] >> (7 - index % 8) & 1) }
        var hash: UInt32 = 0
        for index in 0..<tuple.count * 8 where tuple[index / 8] >> (7 - index % 8) & 1 == 1 {
            hash ^= (0..<32).reduce(0) { $0 << 1 | keyBit(index + $1) }
        }
        return hash
    }

    @Test func hashesAreThoseOfTheTuples() throws {
        let pool = try PacketPool.load("1500", count: 300, flows: 100)
        #expect(pool.hashes.map { $0 } == pool.refs.map { slowHash(Array(bytes($0)[26..<38])) })
        // Flows spread over four queues, none of them starved.
        for queue in 0..<4 as Range<UInt32> {
            #expect(Set(pool.hashes).count { $0 % 4 == queue } >= 10)
        }
        let six = try PacketPool.load("1500/udp6+vlan", count: 50, flows: 50)
        #expect(six.hashes.map { $0 } == six.refs.map { slowHash(Array(bytes($0)[26..<62])) })
    }

    @Test func profilesLoad() throws {
        let pool = try PacketPool.load("imix/udp4", count: 24, flows: 4, node: 0, seed: 8)
        let packets = try TrafficProfile.parse("imix/udp4").packets(count: 24, flows: 4, seed: 8)
        #expect(pool.refs.map { bytes($0) } == packets)
        #expect(pool.name == "imix/udp4")
        #expect(pool.truncatedCount == 0)
    }

    @Test func capturesLoadWholeWhateverTheCount() throws {
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let packets: [CaptureFile.Packet] = [
            .init(bytes: Array(0..<80), originalByteCount: 1514), .init(bytes: []),
            .init(bytes: Array(0..<60)),
        ]
        // By content and not by name: the name has no ending.
        try CaptureWriter(format: .pcapng).write(packets, path: path)
        let pool = try PacketPool.load(path, count: 1, flows: 0)
        #expect(pool.refs.map { bytes($0) } == [Array(0..<80), Array(0..<60)])
        #expect(pool.truncatedCount == 1)
        #expect(pool.emptyCount == 1)
        #expect(pool.name == path)
    }

    @Test func cutCapturesSaySo() throws {
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let bytes = CaptureWriter(format: .pcap).encode([
            .init(bytes: Array(0..<80)), .init(bytes: Array(0..<60)),
        ])
        func load(_ count: Int) throws -> PacketPool {
            try Data(bytes.prefix(count)).write(to: URL(fileURLWithPath: path))
            return try PacketPool.load(path, count: 1, flows: 0)
        }
        let pool = try load(bytes.count - 1)
        #expect(pool.refs.map { self.bytes($0) } == [Array(0..<80)])
        #expect(
            pool.cut?.description
                == "\(path): packet 1 at byte 120: the file ends inside the packet: 59 of 60 bytes")
        #expect(try load(bytes.count).cut == nil)
        for (count, problem) in [
            (50, "packet 0 at byte 24: the file ends inside the packet: 10 of 80 bytes"),
            (24, "the capture holds no packets"),
        ] {
            do { _ = try load(count) } catch { #expect("\(error)" == "\(path): \(problem)") }
        }
    }

    @Test(arguments: RecordingTests.expectations)
    func recordingsLoad(_ expected: RecordingTests.Expectation) throws {
        let path = RecordingTests.folder + "/" + expected.file
        let pool = try PacketPool.load(path, count: 1, flows: 1)
        #expect(pool.totalBytes == expected.byteCount)
        #expect(
            pool.refs.map { bytes($0) } == (try CaptureFile.read(path: path)).packets.map(\.bytes))
        // Only ARP has no hash.
        #expect(pool.hashes.count { $0 == 0 } == expected.counts["arp"])
    }

    @Test func errorsAreOneClearLine() throws {
        #expect(failure("none.PCAP")?.hasPrefix("none.PCAP: cannot open: ") == true)
        #expect(
            failure("a/b")
                == "traffic profile \"a/b\": \"a\" is not a frame size, and there is no such file; "
                + "understood: \(TrafficProfile.syntax)")
        #expect(failure("/") == "/: neither a regular file nor a pipe")
        #expect(failure("64", count: 0) == "packet count must be at least 1, is 0")
        #expect(failure("64", flows: -3) == "flow count must be at least 1, is -3")
        #expect(
            failure("64", count: .max)?.hasSuffix("more than the limit of 1073741824 bytes")
                == true)
        let nodeText = try #require(failure("64", node: 4000))
        #expect(nodeText.contains("4000"))
    }
}
