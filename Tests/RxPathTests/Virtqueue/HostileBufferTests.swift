// Descriptors that are no good as receive buffers (catalogue B13, B15 to B21).
import RxPath
import TestSupport
import Testing

@Suite("Hostile buffers")
struct HostileBufferTests {
    private static let end = EvilRig.dataAddress + UInt64(EvilRig.dataByteCount)
    private static let link = DescriptorFlags.write | DescriptorFlags.next

    @Test("B13: a readable descriptor breaks the queue, first, in the middle or last")
    func readable() throws {
        for readable in 0..<3 {
            let rig = try EvilRig(features: [])
            for index in 0..<3 {
                let write = index == readable ? 0 : DescriptorFlags.write
                rig.ring.describe(
                    index, EvilRig.page(index), 600,
                    flags: write | (index < 2 ? DescriptorFlags.next : 0), next: index + 1)
            }
            rig.ring.post(0)
            expectBroken(rig, .direction, "descriptor \(readable)")
        }
    }

    @Test("B13: also behind the bytes that the packet needs")
    func readableBehind() throws {
        let rig = try EvilRig(features: [])
        rig.ring.describe(0, EvilRig.page(0), 4096, flags: Self.link, next: 1)
        rig.ring.describe(1, EvilRig.page(1), 10, flags: 0)
        rig.ring.post(0)
        expectBroken(rig, .direction)
    }

    @Test(
        "B15, B16: empty descriptors are skipped, wherever they point",
        arguments: [EvilRig.page(5), 0, 0x5_0000, EvilRig.page(0) - 1, UInt64.max])
    func emptyDescriptors(address: UInt64) throws {
        for position in 0..<3 {
            let rig = try EvilRig(features: [])
            for index in 0..<3 {
                rig.ring.describe(
                    index, index == position ? address : EvilRig.page(index),
                    index == position ? 0 : 700,
                    flags: DescriptorFlags.write | (index < 2 ? DescriptorFlags.next : 0),
                    next: index + 1)
            }
            rig.ring.post(0)
            expectDelivered(rig)
        }
    }

    @Test(
        "B15, B16: a buffer that is empty altogether is given back with length 0",
        arguments: [EvilRig.page(5), 0, Self.end, UInt64.max])
    func emptyBuffer(address: UInt64) throws {
        for features in [VirtioFeatures.mergeableBuffers, []] {
            let rig = try EvilRig(features: features)
            rig.ring.describe(0, address, 0)
            rig.ring.post(0)
            rig.post(1)
            expectDelivered(rig, [0, 1066])
            #expect(rig.queue.counters.tinyBuffers == 1)
        }
    }

    @Test("B17: a buffer whose end wraps breaks the queue")
    func wraps() throws {
        for (address, length) in [
            (UInt64.max, 2), (UInt64.max, 1), (UInt64.max - 15, 17), (1 << 63, 0xffff_ffff),
            (UInt64.max - 0xffff_fffe, 0xffff_ffff), (0, 1), (0, 0xffff_ffff),
        ] {
            let rig = try EvilRig()
            rig.ring.describe(0, address, length)
            rig.ring.post(0)
            expectBroken(rig, .range, "0x\(String(address, radix: 16)) + \(length)")
        }
    }

    @Test("B18: a buffer over two adjacent regions is filled piece by piece")
    func acrossRegions() throws {
        for before in [1, 11, 12, 13, 500, 1065, 1066, 1067] {
            for features in [VirtioFeatures.mergeableBuffers, []] {
                let guest = try EvilGuest([(0x1_0000, 0x3_0005), (0x4_0005, 0x1_0000)])
                let rig = try EvilRig(features: features, guest: guest)
                let start = 0x4_0005 - UInt64(before)
                rig.ring.describe(0, start, 4096)
                rig.ring.post(0)
                expectDelivered(rig, [1066], "\(before) bytes before the border")
                let packet = TestFrames.tcp4(TestFrames.payload(1000))
                #expect(guest.read(start + 12, 1054) == packet)
            }
        }
    }

    @Test("B19: a buffer into a hole breaks the queue before a byte is written")
    func intoHole() throws {
        for (address, length) in [
            (Self.end - 1, 2), (Self.end - 4096, 4097), (Self.end, 1), (0xffff, 2), (0xffff, 1),
            (EvilRig.page(0), EvilRig.dataByteCount + 1), (EvilRig.page(0), 0xffff_ffff),
        ] {
            let rig = try EvilRig()
            rig.ring.describe(0, address, length)
            rig.ring.post(0)
            expectBroken(rig, .range, "0x\(String(address, radix: 16)) + \(length)")
        }
    }

    @Test("B19: the last byte of memory can be used")
    func lastByte() throws {
        let rig = try EvilRig()
        rig.ring.describe(0, Self.end - 1066, 1066)
        rig.ring.post(0)
        expectDelivered(rig)
    }

    @Test("B19: a later descriptor or buffer in a hole spoils the packet before it is begun")
    func laterIntoHole() throws {
        let chained = try EvilRig(features: [])
        chained.ring.describe(0, EvilRig.page(0), 4096, flags: Self.link, next: 1)
        chained.ring.describe(1, Self.end, 10)
        chained.ring.post(0)
        expectBroken(chained, .range)
        let merged = try EvilRig()
        merged.post(0, byteCount: 500)
        merged.ring.describe(1, Self.end - 10, 11)
        merged.ring.post(1)
        expectBroken(merged, .range)
    }

    @Test("B20: a chain of more than 2^32 bytes is fine: no sum of lengths is ever narrowed")
    func hugeChain() throws {
        let guest = try EvilGuest([(0x1_0000, 64 << 20)])
        let rig = try EvilRig(size: 128, features: [], guest: guest)
        for index in 0..<128 {
            rig.ring.describe(
                index, EvilRig.page(0), 48 << 20,
                flags: DescriptorFlags.write | (index < 127 ? DescriptorFlags.next : 0),
                next: index + 1)
        }
        rig.ring.post(0)
        expectDelivered(rig)
    }

    @Test("B21: a buffer over the queue's own rings harms nobody else")
    func overlapsRings() throws {
        for method in [RxMethod.whole, .headerQueue(.netHeader), .headerQueue(.usedElement)] {
            let rig = try EvilRig(method: method, slots: (128, 4))
            let packet = TestFrames.tcp4([UInt8](repeating: 0xFF, count: 3000))
            for round in 0..<8 {
                let start = EvilRig.ringAddress + UInt64(round * 16)
                rig.ring.describe(round, start, 4096)
                rig.ring.post(round)
                _ = rig.enqueue([packet, packet])
            }
            #expect(rig.guest.bandsAreIntact)
        }
    }

    @Test("B21: header slots over the rings harm nobody else")
    func slotsOverlapRings() throws {
        let guest = try EvilGuest()
        let ring = EvilRing(guest, size: 8, at: EvilRig.ringAddress)
        let layout = HeaderQueueLayout(
            base: GuestAddress(EvilRig.ringAddress), control: GuestAddress(EvilRig.ringAddress),
            slotSize: 64, slotCount: 8)
        let headerQueue = try HeaderQueue(layout, memory: guest.memory)
        let arenas = ArenaSupply(chunk: 1 << 18)
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: .mergeableBuffers, memory: guest.memory,
                method: .headerQueue(.netHeader), headerQueue: headerQueue))
        for index in 0..<8 { ring.describe(index, EvilRig.page(index), 4096) }
        ring.setAvailIndex(8)
        let port = MockPort()
        for _ in 0..<8 { _ = port.enqueue([TestFrames.tcp4([9])], to: queue) }
        #expect(guest.bandsAreIntact)
    }
}
