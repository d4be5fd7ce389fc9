// Descriptors that are unsuitable as receive buffers, in rings of both formats (catalogue B05, B13,
// B15 to B21).
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Hostile buffers")
struct HostileBufferTests {
    private static let end = EvilRig.dataAddress + UInt64(EvilRig.dataByteCount)

    private static func page(_ index: Int, _ length: Int) -> PostedPiece {
        PostedPiece(EvilRig.page(index), length)
    }

    @Test(
        "B05: a chain of all descriptors is fine, and there is no lower limit",
        arguments: RingFormat.allCases)
    func longestChain(format: RingFormat) throws {
        for size in [1, 2, 8, 256] {
            let rig = try format.rig(size: size, features: [])
            rig.post(
                (0..<size).map { index in
                    PostedPiece(
                        EvilRig.dataAddress + UInt64(index * 500), index == size - 1 ? 2048 : 10)
                }, id: 0)
            expectDelivered(rig, [1066], "\(size) descriptors")
        }
    }

    @Test(
        "B05: chains of all 32768 descriptors of the largest ring", arguments: RingFormat.allCases)
    func longestChainOfAll(format: RingFormat) throws {
        let guest = try EvilGuest([(0x1_0000, 2 << 20)])
        let size = 32768
        let data: UInt64 = 0x10_0000
        let arenas = ArenaSupply(chunk: 1 << 18)
        // One byte each but for the last, which takes the rest.
        let pieces = (0..<size).map { index in
            PostedPiece(data + UInt64(index), index == size - 1 ? 2000 : 1)
        }
        let addresses: VirtqueueAddresses
        switch format {
        case .split:
            var ring = EvilRing(guest, size: size, at: 0x1_0000)
            for (index, piece) in pieces.enumerated() {
                ring.describe(
                    index, piece.address, piece.length,
                    flags: piece.flags | (index < size - 1 ? DescriptorFlags.next : 0),
                    next: index + 1)
            }
            ring.post(0)
            addresses = ring.addresses
        case .packed:
            var ring = PackedEvilRing(guest, size: size, at: 0x1_0000)
            ring.post(pieces, id: 0)
            addresses = ring.addresses
        }
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: addresses, features: [], memory: guest.memory, method: .whole))
        let packet = TestFrames.opaque(34000)
        #expect(MockPort().enqueue([packet], to: queue).fates == [true])
        let isWhole = guest.read(data + 12, packet.count) == packet
        #expect(isWhole && queue.counters.buffers == 1 && guest.bandsAreIntact)
    }

    @Test(
        "B13: a readable descriptor breaks the queue, first, in the middle or last",
        arguments: RingFormat.allCases)
    func readable(format: RingFormat) throws {
        for readable in 0..<3 {
            let rig = try format.rig(features: [])
            rig.post(
                (0..<3).map {
                    PostedPiece(
                        EvilRig.page($0), 600, flags: $0 == readable ? 0 : DescriptorFlags.write)
                }, id: 0)
            expectBroken(rig, .direction, "descriptor \(readable)")
        }
        let single = try format.rig()
        single.post([PostedPiece(EvilRig.page(0), 4096, flags: 0)], id: 0)
        expectBroken(single, .direction)
    }

    @Test("B13: also behind the bytes that the packet needs", arguments: RingFormat.allCases)
    func readableBehind(format: RingFormat) throws {
        let rig = try format.rig(features: [])
        rig.post([Self.page(0, 4096), PostedPiece(EvilRig.page(1), 10, flags: 0)], id: 0)
        expectBroken(rig, .direction)
    }

    @Test(
        "B15, B16: empty descriptors are skipped, wherever they point",
        arguments: RingFormat.allCases)
    func emptyDescriptors(format: RingFormat) throws {
        for address in [EvilRig.page(5), 0, 0x5_0000, EvilRig.page(0) - 1, UInt64.max] {
            for position in 0..<3 {
                let rig = try format.rig(features: [])
                rig.post(
                    (0..<3).map {
                        $0 == position ? PostedPiece(address, 0) : Self.page($0, 700)
                    }, id: 0)
                expectDelivered(rig)
                #expect(rig.queue.counters.emptyDescriptors == 1)
            }
        }
    }

    @Test(
        "B15: empty descriptors count once the packet is there, in tables too",
        arguments: RingFormat.allCases)
    func countedOnce(format: RingFormat) throws {
        let rig = try format.rig(features: [.mergeableBuffers, .indirectDescriptors])
        let table = EvilRig.page(16)
        let pieces = [Self.page(0, 0), Self.page(0, 500), Self.page(1, 0), Self.page(1, 0)]
        rig.describeTable(table, pieces)
        rig.postTable(table, length: 64)
        let packet = TestFrames.tcp4(TestFrames.payload(1000))
        for _ in 0..<5 { #expect(rig.enqueue([packet]).result.consumed == 0) }
        #expect(rig.queue.counters.emptyDescriptors == 0)
        rig.post(1)
        #expect(rig.enqueue([packet]).fates == [true])
        #expect(rig.queue.counters.emptyDescriptors == 3)
        #expect(rig.reports.map(\.length) == [500, 566])
    }

    @Test(
        "B15, B16: a buffer that is empty altogether is given back with length 0",
        arguments: RingFormat.allCases)
    func emptyBuffer(format: RingFormat) throws {
        for address in [EvilRig.page(5), 0, Self.end, UInt64.max] {
            for features in [VirtioFeatures.mergeableBuffers, []] {
                let rig = try format.rig(features: features)
                rig.post([PostedPiece(address, 0)], id: 0)
                rig.post(1)
                expectDelivered(rig, [0, 1066])
                #expect(rig.queue.counters.undersizedBuffers == 1)
                #expect(rig.queue.counters.emptyDescriptors == 0)
            }
        }
    }

    @Test("B17: a buffer whose end wraps breaks the queue", arguments: RingFormat.allCases)
    func wraps(format: RingFormat) throws {
        for (address, length) in [
            (UInt64.max, 2), (UInt64.max, 1), (UInt64.max - 15, 17), (1 << 63, 0xffff_ffff),
            (UInt64.max - 0xffff_fffe, 0xffff_ffff), (0, 1), (0, 0xffff_ffff),
        ] {
            let rig = try format.rig()
            rig.post([PostedPiece(address, length)], id: 0)
            expectBroken(rig, .range, "0x\(String(address, radix: 16)) + \(length)")
        }
    }

    @Test(
        "B18: a buffer over two adjacent regions is filled piece by piece",
        arguments: RingFormat.allCases)
    func acrossRegions(format: RingFormat) throws {
        for before: UInt64 in [1, 11, 12, 13, 500, 1065, 1066, 1067] {
            for features in [VirtioFeatures.mergeableBuffers, []] {
                let guest = try EvilGuest([(0x1_0000, 0x3_0005), (0x4_0005, 0x1_0000)])
                let rig = try format.rig(features: features, guest: guest)
                let start = 0x4_0005 - before
                rig.post([PostedPiece(start, 4096)], id: 0)
                expectDelivered(rig, [1066], "\(before) bytes before the border")
                let packet = TestFrames.tcp4(TestFrames.payload(1000))
                #expect(guest.read(start + 12, 1054) == packet)
            }
        }
    }

    @Test(
        "B19: a buffer into a hole breaks the queue before a byte is written",
        arguments: RingFormat.allCases)
    func intoHole(format: RingFormat) throws {
        for (address, length) in [
            (Self.end - 1, 2), (Self.end - 4096, 4097), (Self.end, 1), (0xffff, 2), (0xffff, 1),
            (EvilRig.page(0), EvilRig.dataByteCount + 1), (EvilRig.page(0), 0xffff_ffff),
        ] {
            let rig = try format.rig()
            rig.post([PostedPiece(address, length)], id: 0)
            expectBroken(rig, .range, "0x\(String(address, radix: 16)) + \(length)")
        }
    }

    @Test("B19: the last byte of memory can be used", arguments: RingFormat.allCases)
    func lastByte(format: RingFormat) throws {
        let rig = try format.rig()
        rig.post([PostedPiece(Self.end - 1066, 1066)], id: 0)
        expectDelivered(rig)
    }

    @Test(
        "B19: a later descriptor or buffer in a hole spoils the packet before it is begun",
        arguments: RingFormat.allCases)
    func laterIntoHole(format: RingFormat) throws {
        let chained = try format.rig(features: [])
        chained.post([Self.page(0, 4096), PostedPiece(Self.end, 10)], id: 0)
        expectBroken(chained, .range)
        let merged = try format.rig()
        merged.post(0, byteCount: 500)
        merged.post([PostedPiece(Self.end - 10, 11)], id: 1)
        expectBroken(merged, .range)
    }

    @Test(
        "B20: a chain of more than 2^32 bytes breaks the queue, one of 2^32 is fine",
        arguments: RingFormat.allCases)
    func hugeChain(format: RingFormat) throws {
        let guest = try EvilGuest([(0x1_0000, 64 << 20)])
        let half = Self.page(0, 32 << 20)
        for (count, rest) in [(128, 0), (128, 1), (127, (32 << 20) + 1), (256, 0)] {
            for isTable in [false, true] {
                let rig = try format.rig(
                    size: 256, features: .indirectDescriptors, guest: guest)
                guest.fill(EvilRig.ringAddress, 0x2000, with: 0)
                let last = rest > 0 ? [Self.page(0, rest)] : []
                let pieces = Array(repeating: half, count: count) + last
                let table: UInt64 = 0x200_0000
                if isTable {
                    rig.describeTable(table, pieces)
                    rig.postTable(table, length: 16 * pieces.count)
                } else {
                    rig.post(pieces, id: 0)
                }
                if count == 128 && rest == 0 {
                    expectDelivered(rig)
                } else {
                    expectBroken(rig, .overflow, "\(count) x 32 MiB and \(rest)")
                }
            }
        }
    }

    private static let methods: [RxMethod] = [
        .whole, .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]

    @Test(
        "B21: a buffer over the queue's own rings harms nobody else",
        arguments: RingFormat.allCases, methods)
    func overlapsRings(format: RingFormat, method: RxMethod) throws {
        let rig = try format.rig(method: method, slots: (128, 4))
        let packet = TestFrames.tcp4([UInt8](repeating: 0xFF, count: 3000))
        for round in 0..<8 {
            let start = EvilRig.ringAddress + UInt64(round * 16)
            rig.post([PostedPiece(start, 4096)], id: round)
            rig.enqueue([packet, packet])
        }
        #expect(rig.guest.bandsAreIntact)
    }

    @Test("B21: header slots over the rings harm nobody else", arguments: RingFormat.allCases)
    func slotsOverlapRings(format: RingFormat) throws {
        let rig = try format.rig(burst: 4)
        let layout = HeaderQueueLayout(
            base: GuestAddress(EvilRig.ringAddress), control: GuestAddress(EvilRig.ringAddress),
            slotSize: 64, slotCount: 8)
        let arenas = ArenaSupply(chunk: 1 << 18)
        var configuration = rig.queue.configuration
        configuration.method = .headerQueue(.netHeader)
        configuration.headerQueue = try HeaderQueue(layout, memory: rig.guest.memory)
        let queue = try arenas.queue(configuration)
        for index in 0..<8 { rig.post(index) }
        for _ in 0..<8 { _ = rig.port.enqueue([TestFrames.tcp4([9])], to: queue) }
        #expect(rig.guest.bandsAreIntact)
    }
}
