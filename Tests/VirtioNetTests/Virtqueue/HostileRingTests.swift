// Split rings that lie: indices, heads and links (catalogue B01 to B04).
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Hostile split ring")
struct HostileRingTests {
    @Test("B01: avail.idx beyond the ring, or behind, breaks the queue, across 0xFFFF too")
    func availJump() throws {
        let arenas = ArenaSupply()
        for size in [1, 2, 8, 256] {
            for start in [0, 1, 3, 255, 32768, 65534, 65535] {
                for jump in [size + 1, size + 7, 32768, 65534, 65535] {
                    let first = UInt16(start)
                    let rig = try EvilRig(size: size, firstIndex: first, arenas: arenas)
                    rig.ring.setAvailIndex(first &+ UInt16(jump))
                    expectBroken(rig, .availJump, "size \(size), start \(start), jump \(jump)")
                }
            }
        }
    }

    @Test("B01: a full ring is no jump, wherever it starts")
    func fullRing() throws {
        for start in [0, 65528, 65535] {
            let rig = try EvilRig(firstIndex: UInt16(start))
            for head in 0..<8 { rig.post(head) }
            for _ in 0..<8 { expectDelivered(rig) }
            #expect(rig.enqueue([TestFrames.tcp4([])]).result.consumed == 0)
            #expect(rig.queue.counters.fault == .none)
        }
    }

    @Test("B01: in mid burst the buffers taken so far still count as posted")
    func availJumpInMidBurst() throws {
        for (extra, fault) in [(0, QueueFault.none), (1, .availJump)] {
            let rig = try EvilRig()
            for head in 0..<8 { rig.post(head, byteCount: 600) }
            for _ in 0..<3 { expectDelivered(rig, [600, 466]) }
            // Six are used, two known of; four are posted again, which makes six outstanding.
            for head in 0..<4 { rig.post(head, byteCount: 600) }
            rig.ring.setAvailIndex(UInt16(6 + 8 + extra))
            for entry in 0..<8 { rig.ring.setAvailEntry(entry, UInt16(entry)) }
            let outcome = rig.enqueue([TestFrames.tcp4(TestFrames.payload(4000))])
            #expect(outcome.result.consumed == (fault == .none ? 1 : 0))
            #expect(rig.queue.counters.fault == fault)
            #expect(rig.ring.usedIndex == (fault == .none ? 13 : 6))
            #expect(rig.guest.bandsAreIntact)
        }
    }

    @Test("B02: a head outside the table breaks the queue")
    func headOutOfRange() throws {
        for size in [1, 2, 8, 256] {
            for head in [size, size + 1, 2 * size, 32768, 65535] {
                let rig = try EvilRig(size: size)
                rig.ring.post(head)
                expectBroken(rig, .head, "size \(size), head \(head)")
            }
        }
    }

    @Test("B02: packets before the lie are delivered, buffers from it on stay")
    func headOutOfRangeInMidBurst() throws {
        let rig = try EvilRig()
        rig.post(0)
        rig.post(1)
        rig.ring.post(99)
        rig.post(2)
        let packet = TestFrames.tcp4([7])
        let outcome = rig.enqueue([packet, packet, packet, packet])
        #expect(outcome.fates == [true, true])
        #expect(rig.used.map(\.head) == [0, 1])
        #expect(rig.queue.base == 2)
        #expect(rig.queue.counters.fault == .head)
        #expect(rig.enqueue([packet, packet]).fates == [false, false])
        #expect(rig.queue.counters.dropped == [.queueBroken: 2])
    }

    @Test("B03: a link outside the table breaks the queue")
    func nextOutOfRange() throws {
        for next in [8, 9, 255, 32768, 65535] {
            let rig = try EvilRig()
            rig.ring.describe(
                0, EvilRig.page(0), 100, flags: DescriptorFlags.write | DescriptorFlags.next,
                next: next)
            rig.ring.post(0)
            expectBroken(rig, .next, "next \(next)")
        }
    }

    @Test("B03: next without NEXT is not looked at")
    func nextWithoutFlag() throws {
        let rig = try EvilRig()
        rig.ring.describe(0, EvilRig.page(0), 4096, next: 65535)
        rig.ring.post(0)
        expectDelivered(rig)
    }

    @Test("B04: loops break the queue", arguments: [1, 2, 3, 8])
    func loops(length: Int) throws {
        for count in [0, 1, 100, 4096] {
            let rig = try EvilRig()
            for index in 0..<length {
                rig.ring.describe(
                    index, EvilRig.page(index), count,
                    flags: DescriptorFlags.write | DescriptorFlags.next,
                    next: (index + 1) % length)
            }
            rig.ring.post(0)
            expectBroken(rig, .loop, "\(length) descriptors of \(count) bytes")
        }
    }

    @Test("A broken queue leaves others alone")
    func othersGoOn() throws {
        let guest = try EvilGuest()
        let broken = try EvilRig(guest: guest)
        var ring = EvilRing(guest, size: 4, at: EvilRig.ringAddress + 0x1000)
        let arenas = ArenaSupply(chunk: 1 << 18)
        let other = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: [.mergeableBuffers], memory: guest.memory,
                method: .whole))
        broken.ring.post(4711)
        expectBroken(broken, .head)
        ring.describe(0, EvilRig.page(0), 4096)
        ring.post(0)
        #expect(MockPort().enqueue([TestFrames.tcp4([1])], to: other).fates == [true])
        #expect(other.counters.fault == .none && other.counters.droppedTotal == 0)
        #expect((other.counters + broken.queue.counters).fault == .head)
    }
}
