// The committed recordings agree with configs/captures/README.md.
import CleaveTraffic
import Foundation
import Testing

@Suite struct RecordingTests {
    static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("configs/captures").path

    /// Frames by protocol, read from fixed offsets: the recordings hold no tags, no IPv4 options.
    static func census(_ packets: [CaptureFile.Packet]) -> [String: Int] {
        var counts: [String: Int] = [:]
        for frame in packets.map(\.bytes) {
            let names: [String]
            switch (frame[12], frame[13]) {
            case (0x08, 0x06): names = ["arp"]
            case (0x08, 0x00):
                #expect(frame[14] == 0x45)
                let isFragment = frame[20] & 0x3f != 0 || frame[21] != 0
                names =
                    isFragment
                    ? ["fragment"] : protocolNames(frame[23], start: 34, version: 4, frame)
            case (0x86, 0xdd): names = protocolNames(frame[20], start: 54, version: 6, frame)
            default: names = ["other"]
            }
            for name in names { counts[name, default: 0] += 1 }
        }
        return counts
    }

    private static func protocolNames(
        _ number: UInt8, start: Int, version: Int, _ frame: [UInt8]
    ) -> [String] {
        switch number {
        case 6:
            var names = ["tcp\(version)"]
            let headerEnd = start + Int(frame[start + 12] >> 4) * 4
            let total =
                version == 4
                ? 14 + Int(frame[16]) << 8 + Int(frame[17])
                : 54 + Int(frame[18]) << 8 + Int(frame[19])
            if total == headerEnd { names.append("noPayload") }
            // Linux writes SYN options in another order than those of established connections.
            let options = Array(frame[(start + 20)..<headerEnd])
            if options.indices.dropLast().contains(where: {
                options[$0] == 8 && options[$0 + 1] == 10
            }) {
                names.append("timestamps")
            }
            return names
        case 17: return ["udp\(version)"]
        case 1: return ["icmp"]
        case 0, 58: return ["icmpv6"]  // Multicast reports carry a hop-by-hop header.
        default: return ["other"]
        }
    }

    struct Expectation: Sendable {
        let file: String
        let byteCount: Int
        let fullByteCount: Int
        let fullCount: Int
        let counts: [String: Int]
    }

    static let expectations = [
        Expectation(
            file: "linux-mtu1500.pcap", byteCount: 548_255, fullByteCount: 1514, fullCount: 335,
            counts: [
                "tcp4": 277, "tcp6": 268, "timestamps": 545, "noPayload": 243, "udp4": 58,
                "udp6": 59, "icmp": 2, "fragment": 4, "icmpv6": 12, "arp": 2,
            ]),
        Expectation(
            file: "linux-mtu9000.pcapng", byteCount: 765_054, fullByteCount: 9014, fullCount: 69,
            counts: [
                "tcp4": 105, "tcp6": 97, "timestamps": 202, "noPayload": 89, "udp4": 19,
                "udp6": 19, "icmp": 2, "fragment": 4, "icmpv6": 13, "arp": 2,
            ]),
    ]

    @Test(arguments: expectations)
    func holdsWhatItsTableSays(_ expected: Expectation) throws {
        let path = Self.folder + "/" + expected.file
        let file = try CaptureFile.read(path: path)
        let sizes = file.packets.map(\.bytes.count)
        #expect(file.truncatedCount == 0)
        #expect(sizes.reduce(0, +) == expected.byteCount)
        #expect(sizes.max() == expected.fullByteCount)
        #expect(sizes.count { $0 == expected.fullByteCount } == expected.fullCount)
        #expect(Self.census(file.packets) == expected.counts)
        let times = file.packets.map(\.timestampNanoseconds)
        #expect(zip(times, times.dropFirst()).allSatisfy { $0 <= $1 })
        // A real clock with more than microseconds in it.
        #expect(times.allSatisfy { $0 > 1_600_000_000_000_000_000 })
        #expect(times.contains { $0 % 1000 != 0 })
        // Small enough to keep in the repository.
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(try #require(attributes[.size] as? Int) < 1 << 20)
    }

    @Test(arguments: expectations)
    func checksumsAreThoseOfTheWire(_ expected: Expectation) throws {
        let file = try CaptureFile.read(path: Self.folder + "/" + expected.file)
        var checkedCount = 0
        for packet in file.packets {
            guard let facts = FrameFacts(packet.bytes) else { continue }
            #expect(facts.faults == [])
            checkedCount += 1
        }
        let counts = expected.counts
        let transports = ["tcp4", "tcp6", "udp4", "udp6"].compactMap { counts[$0] }
        #expect(checkedCount == transports.reduce(0, +))
    }
}
