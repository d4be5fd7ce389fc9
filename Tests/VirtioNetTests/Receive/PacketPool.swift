// Packets to draw from, with the naive parser's opinion on each.
import CleaveTestSupport
import CleaveVirtioNet

struct PacketPool {
    struct Packet {
        var source: SourcePacket
        var bytes: [UInt8]
        /// Length of its headers; 0 = it does not split.
        var headerLength: Int

        /// The same packet with offloads.
        func with(_ offloads: PacketOffloads) -> Packet {
            var packet = self
            packet.source.offloads = offloads
            return packet
        }
    }

    let packets: [Packet]

    /// Those in one piece of up to `byteCount` bytes.
    func plain(upTo byteCount: Int) -> [Packet] {
        let found = packets.filter { $0.bytes.count <= byteCount && $0.source.segments.count == 1 }
        return found.isEmpty ? packets : found
    }

    init(seed: UInt64, count: Int) {
        var random = SeededRandom(seed: seed)
        packets = (0..<count).map { number in
            let bytes = Self.frame(number, &random)
            let whole = SourcePacket(bytes)
            let source =
                random.chance(40)
                ? whole.scattered(&random, most: random.pick([3, 20, 200, 4000, 40000])) : whole
            return Packet(source: source, bytes: bytes, headerLength: Self.split(source, bytes))
        }
    }

    /// The first segment alone if that is enough, otherwise 512 bytes.
    private static func split(_ source: SourcePacket, _ bytes: [UInt8]) -> Int {
        let first = source.segments.first?.count ?? 0
        let split = NaiveParser.parse(bytes, windowByteCount: first)
        if split.reason != .headersTooLong { return Int(split.byteCount) }
        return Int(NaiveParser.parse(bytes, windowByteCount: 512).byteCount)
    }

    private static func frame(_ number: Int, _ random: inout SeededRandom) -> [UInt8] {
        let size = random.pick([
            0, 1, random.int(0...64), random.int(0...200), random.int(0...1500),
            random.int(1400...1500), random.int(0...9000), random.int(0...9000),
            random.chance(30) ? random.int(9000...65700) : 100,
        ])
        let payload = TestFrames.payload(size, seed: number)
        switch random.int(0...15) {
        case 0: return TestFrames.opaque(random.int(0...20), seed: number)
        case 1, 2: return TestFrames.opaque(14 + size, seed: number)
        case 3, 4: return TestFrames.udp4(payload)
        case 5, 6: return TestFrames.tcp6(payload, optionWords: random.int(0...10))
        case 7, 8: return random.pick(Sample.all).frame
        case 9: return random.bytes(random.int(14...300))
        case 10, 11: return mutated(random.pick(Sample.all).frame, &random)
        default: return TestFrames.tcp4(payload, optionWords: random.int(0...10))
        }
    }

    /// A frame with some bytes of its front changed, or its end cut off.
    private static func mutated(_ frame: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
        var bytes = frame
        if random.chance(30) { bytes.removeLast(random.int(0...bytes.count)) }
        for _ in 0..<random.int(0...3) where !bytes.isEmpty {
            bytes[random.int(0...min(80, bytes.count - 1))] = UInt8(random.int(0...255))
        }
        return bytes
    }
}
