import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveSwitch

/// Software offload beside a slow twin.
struct SoftwareOffloadTests {
    private let offload = SoftwareOffload()
    private let port = MockPort()

    /// Finishes a packet: each finished packet's bytes, and its context if it has one.
    private func finish(
        _ packet: SourcePacket, for features: VirtioFeatures = [], capacity: Int = 1024
    ) -> (outcome: SoftwareOffload.Outcome, packets: [[UInt8]], contexts: [PacketOffloads?]) {
        let refs = port.references([packet])
        let sentinel = PacketRef(address: 77, byteCount: 77)
        var out = [PacketRef](repeating: sentinel, count: capacity + 1)
        let outcome = refs.withUnsafeBufferPointer { refs in
            out.withUnsafeMutableBufferPointer { out in
                offload.finish(
                    refs.baseAddress.unsafelyUnwrapped, count: refs.count, for: features,
                    into: out.baseAddress.unsafelyUnwrapped, capacity: capacity)
            }
        }
        guard case .finished(let count) = outcome else {
            #expect(out.allSatisfy { $0 == sentinel }, "nothing may be written for a refusal")
            return (outcome, [], [])
        }
        #expect(count <= capacity)
        #expect(out[count...].allSatisfy { $0 == sentinel })
        var packets: [[UInt8]] = []
        var contexts: [PacketOffloads?] = []
        var context: PacketOffloads?
        for ref in out.prefix(count) {
            if let found = ref.context {
                context = found
                continue
            }
            #expect(ref.flags == [])
            packets.append(
                [UInt8](UnsafeRawBufferPointer(start: ref.pointer, count: Int(ref.byteCount))))
            contexts.append(context)
            context = nil
        }
        return (outcome, packets, contexts)
    }

    private static let ethernet: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
    private static let tagged = ethernet + [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7]
    /// Hop-by-hop options: padding.
    private static let hopByHop: [UInt8] = [0, 0, 1, 4, 0, 0, 0, 0]

    private static func packet(
        ipv6: Bool, tcp: Bool, payload: [UInt8], tags: Bool = false, extras: Bool = false,
        flags: UInt8 = 0x18
    ) -> LayeredPacket {
        let link = (tags ? tagged : ethernet) + (ipv6 ? [0x86, 0xdd] : [8, 0])
        return LayeredPacket(
            link: link, isIPv6: ipv6,
            extras: extras ? (ipv6 ? hopByHop : [1, 1, 1, 0]) : [],
            destinationOptions: extras && ipv6 ? [tcp ? 6 : 17, 0, 1, 4, 0, 0, 0, 0] : [],
            isTCP: tcp, tcpOptions: extras && tcp ? [1, 1, 1, 1] : [], flags: flags,
            payload: payload)
    }

    private static func type(ipv6: Bool, tcp: Bool) -> UInt8 {
        if !tcp { return SegmentationType.udpDatagrams }
        return ipv6 ? SegmentationType.tcp6 : SegmentationType.tcp4
    }

    @Test(
        "Segments are those of the twin, for all sizes around the segment's",
        .timeLimit(.minutes(1)))
    func segments() {
        var random = SeededRandom(seed: 1)
        var multiple = 0
        for shape in 0..<32 {
            let (ipv6, tcp) = (shape & 1 != 0, shape & 2 != 0)
            let isSummed = shape & 16 == 0
            for size in 1...6 {
                for byteCount in 0...3 * size + 1 {
                    let flags: UInt8 = random.pick([0x18, 0x19, 0x99, 0xd9, 0x10])
                    let packet = Self.packet(
                        ipv6: ipv6, tcp: tcp, payload: random.bytes(byteCount),
                        tags: shape & 4 != 0, extras: shape & 8 != 0, flags: flags)
                    let source = SourcePacket(
                        packet.bytes,
                        offloads: packet.offloads(Self.type(ipv6: ipv6, tcp: tcp), size: size)
                    ).scattered(&random, most: random.pick([1, 3, 7, 200]))
                    let result = finish(source, for: isSummed ? [] : .guestChecksum)
                    let expected = NaiveOffload.segments(packet, size: size, isSummed: isSummed)
                    let isRight = result.packets == expected
                    #expect(isRight, "shape \(shape) \(size) \(byteCount): \(result.outcome)")
                    for context in result.contexts {
                        #expect((context == nil) == isSummed)
                        guard let context else { continue }
                        #expect(Int(context.csumStart) == packet.transportStart)
                        #expect(context.csumOffset == (tcp ? 16 : 6))
                        #expect(context.needsChecksum && context.gsoType == 0)
                    }
                    if expected.count > 1 { multiple += 1 }
                }
            }
        }
        #expect(multiple > 1000)
    }

    @Test("Segments of the largest packets, with ECN")
    func large() {
        var random = SeededRandom(seed: 2)
        for ipv6 in [false, true] {
            for tcp in [false, true] {
                let packet = Self.packet(
                    ipv6: ipv6, tcp: tcp, payload: random.bytes(65000), flags: 0xd9)
                var type = Self.type(ipv6: ipv6, tcp: tcp)
                if tcp { type |= SegmentationType.ecn }
                let source = SourcePacket(
                    packet.bytes, offloads: packet.offloads(type, size: 1447)
                ).scattered(&random, most: 2000)
                let expected = NaiveOffload.segments(packet, size: 1447)
                #expect(expected.count == 45)
                #expect(finish(source).packets == expected)
            }
        }
    }

    @Test("A checksum alone, over every odd border")
    func checksum() {
        var random = SeededRandom(seed: 3)
        for shape in 0..<16 {
            for byteCount in 0...70 {
                let packet = Self.packet(
                    ipv6: shape & 1 != 0, tcp: shape & 2 != 0, payload: random.bytes(byteCount),
                    tags: shape & 4 != 0, extras: shape & 8 != 0)
                let source = SourcePacket(packet.bytes, offloads: packet.offloads(0, size: 0))
                    .scattered(&random, most: random.pick([1, 3, 7, 200]))
                let result = finish(source)
                #expect(result.packets == [NaiveOffload.whole(packet)])
                #expect(result.contexts == [nil])
            }
        }
    }

    @Test("A sum of 0 is written as 0xffff, which UDP needs")
    func zeroSum() throws {
        var packet = Self.packet(ipv6: false, tcp: false, payload: [0, 0])
        let sum = NaiveOffload.whole(packet).suffix(4).prefix(2)
        packet.payload = [UInt8](sum)
        let finished = try #require(
            finish(SourcePacket(packet.bytes, offloads: packet.offloads(0, size: 0))).packets.first)
        #expect([UInt8](finished.suffix(4).prefix(2)) == [0xff, 0xff])
        #expect(finished == NaiveOffload.whole(packet))
    }

    @Test("IP fragments are those of the twin")
    func fragments() {
        var random = SeededRandom(seed: 4)
        var ids: Set<[UInt8]> = []
        for shape in 0..<8 {
            for size in [16, 23, 24, 1480] {
                for byteCount in [0, 1, 7, 8, 9, 15, 16, 17, 100, 3000] {
                    let ipv6 = shape & 1 != 0
                    let packet = Self.packet(
                        ipv6: ipv6, tcp: false, payload: random.bytes(byteCount),
                        tags: shape & 2 != 0, extras: shape & 4 != 0)
                    let source = SourcePacket(
                        packet.bytes,
                        offloads: packet.offloads(SegmentationType.udpFragments, size: size)
                    ).scattered(&random, most: random.pick([1, 3, 7, 200]))
                    let result = finish(source)
                    var id: [UInt8] = []
                    if ipv6, result.packets.count > 1 {
                        let start = packet.link.count + 40 + packet.extras.count
                        id = [UInt8](result.packets[0][start + 4..<start + 8])
                        #expect(ids.insert(id).inserted)
                    }
                    let expected = NaiveOffload.fragments(packet, size: size & ~7, id: id)
                    let isRight = result.packets == expected
                    #expect(isRight, "shape \(shape) \(size) \(byteCount): \(result.outcome)")
                }
            }
        }
        #expect(ids.count > 50)
    }

    /// A packet that is to become a wrong one.
    private struct Lie {
        var bytes: [UInt8]
        var offloads: PacketOffloads
    }

    @Test("Refusals name what is wrong")
    func refusals() {
        typealias Change = (inout Lie) -> Void
        let cases: [(String, SoftwareOffload.Refusal, Change)] = [
            ("no size", .badOffload, { $0.offloads.gsoSize = 0 }),
            ("no checksum", .badOffload, { $0.offloads.flags = 0 }),
            ("unknown type", .badOffload, { $0.offloads.gsoType = 2 }),
            (
                "UDP with ECN", .badOffload,
                { $0.offloads.gsoType = SegmentationType.udpDatagrams | 0x80 }
            ),
            ("the other family", .badHeaders, { $0.offloads.gsoType = SegmentationType.tcp6 }),
            (
                "UDP that is TCP", .badHeaders,
                { $0.offloads.gsoType = SegmentationType.udpDatagrams }
            ),
            ("another start", .badHeaders, { $0.offloads.csumStart += 2 }),
            ("another field", .badHeaders, { $0.offloads.csumOffset = 6 }),
            ("length beyond the packet", .badHeaders, { $0.bytes[17] += 1 }),
            (
                "length inside the headers", .badHeaders,
                {
                    $0.bytes[16] = 0; $0.bytes[17] = 39
                }
            ),
            ("short IP header", .badHeaders, { $0.bytes[14] = 0x44 }),
            ("IP header beyond the packet", .badHeaders, { $0.bytes[14] = 0x4f }),
            ("another version", .badHeaders, { $0.bytes[14] = 0x65 }),
            ("a fragment", .badHeaders, { $0.bytes[21] = 1 }),
            ("more fragments", .badHeaders, { $0.bytes[20] |= 0x20 }),
            ("another protocol", .badHeaders, { $0.bytes[23] = 1 }),
            ("short TCP header", .badHeaders, { $0.bytes[46] = 0x40 }),
            ("TCP header beyond the packet", .badHeaders, { $0.bytes[46] = 0xf0 }),
            ("not IP", .badHeaders, { $0.bytes[12] = 0x99 }),
            ("cut inside the headers", .badHeaders, { $0.bytes.removeLast($0.bytes.count - 50) }),
            ("cut inside Ethernet", .badOffload, { $0.bytes.removeLast($0.bytes.count - 13) }),
        ]
        let packet = Self.packet(ipv6: false, tcp: true, payload: [UInt8](0..<20))
        for (name, refusal, change) in cases {
            var lie = Lie(
                bytes: packet.bytes, offloads: packet.offloads(SegmentationType.tcp4, size: 8))
            #expect(finish(SourcePacket(lie.bytes, offloads: lie.offloads)).packets.count == 3)
            change(&lie)
            let outcome = finish(SourcePacket(lie.bytes, offloads: lie.offloads)).outcome
            #expect(outcome == .refused(refusal), "\(name)")
        }
    }

    @Test("A checksum field beyond the packet, or no room, is refused")
    func bounds() {
        let packet = Self.packet(ipv6: true, tcp: true, payload: [UInt8](0..<20))
        let bytes = packet.bytes
        func outcome(_ offloads: PacketOffloads, capacity: Int = 1024) -> SoftwareOffload.Outcome {
            finish(SourcePacket(bytes, offloads: offloads), capacity: capacity).outcome
        }
        var offloads = packet.offloads(0, size: 0)
        offloads.csumOffset = UInt16(bytes.count - packet.transportStart - 2)
        #expect(outcome(offloads) == .finished(1))
        offloads.csumOffset += 1
        #expect(outcome(offloads) == .refused(.badOffload))
        offloads.csumStart = .max
        offloads.csumOffset = .max
        #expect(outcome(offloads) == .refused(.badOffload))
        let tcp = packet.offloads(SegmentationType.tcp6, size: 5)
        #expect(outcome(tcp, capacity: 4) == .finished(4))
        #expect(outcome(tcp, capacity: 3) == .refused(.noRoom))
        let most = SoftwareOffload.maximumSegmentCount
        for (byteCount, expected) in [
            (most, SoftwareOffload.Outcome.finished(most)), (most + 1, .refused(.noRoom)),
        ] {
            let packet = Self.packet(
                ipv6: true, tcp: true, payload: [UInt8](repeating: 1, count: byteCount))
            let source = SourcePacket(
                packet.bytes, offloads: packet.offloads(SegmentationType.tcp6, size: 1))
            #expect(finish(source).outcome == expected)
        }
        let large = SourcePacket(
            [UInt8](repeating: 0, count: SoftwareOffload.maximumByteCount + 1), offloads: offloads)
        #expect(finish(large).outcome == .refused(.tooLong))
        // The largest fragment size that does not hold the headers.
        let udp = Self.packet(ipv6: false, tcp: false, payload: [UInt8](0..<20))
        let small = udp.offloads(SegmentationType.udpFragments, size: 7)
        #expect(
            finish(SourcePacket(udp.bytes, offloads: small)).outcome == .refused(.badOffload))
    }

    @Test("Padding after IPv4's total length is in no segment")
    func padding() {
        let packet = Self.packet(ipv6: false, tcp: true, payload: [UInt8](0..<20))
        let source = SourcePacket(
            packet.bytes + [9, 9, 9], offloads: packet.offloads(SegmentationType.tcp4, size: 10))
        #expect(finish(source).packets == NaiveOffload.segments(packet, size: 10))
    }

    @Test("Random headers never trap, and what is made stays within the packet's size")
    func random() {
        var random = SeededRandom(seed: 5)
        var finished = 0
        for _ in 0..<6000 {
            let (ipv6, tcp) = (random.chance(50), random.chance(50))
            var bytes = Self.packet(
                ipv6: ipv6, tcp: tcp, payload: random.bytes(random.int(0...60)),
                tags: random.chance(30), extras: random.chance(30))
            bytes.flags = UInt8(random.int(0...255))
            var offloads = bytes.offloads(
                random.pick([Self.type(ipv6: ipv6, tcp: tcp), 1, 3, 4, 5, 0x81, 0]),
                size: random.pick([1, 8, 20, 65535]))
            if random.chance(10) { offloads.csumStart = UInt16(random.int(0...200)) }
            var frame = bytes.bytes
            for _ in 0..<random.int(0...3) {
                frame[random.int(12...min(80, frame.count - 1))] = UInt8(random.int(0...255))
            }
            if random.chance(20) { frame.removeLast(random.int(0...frame.count - 1)) }
            let source = SourcePacket(frame, offloads: offloads).scattered(&random, most: 40)
            let result = finish(source)
            if result.packets.isEmpty { continue }
            finished += 1
            #expect(result.packets.allSatisfy { $0.count <= frame.count + 8 })
        }
        #expect(finished > 1000)
    }
}
