// Many claimers and many retiring threads on one header queue.
//
//   claimer 0 --ring--> driver 0          a claimer owns a slot from its claim until it is passed
//   claimer 1 --ring--> driver 1          on, a driver from then until it retires it; the owner
//   claimer 2 --ring--> driver 0 ...      table knows of every slot whether anybody does
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Header queue among threads")
struct HeaderQueueStressTests {
    /// Shared by the threads of one run.
    private final class Arena: Sendable {
        let space: GuestSpace
        let driverQueue: DriverHeaderQueue
        let deviceQueue: HeaderQueue
        let owners: SharedWords
        /// Words: wrong owners, harmed slots, tail steps back, given up.
        let findings = SharedWords(count: 4)
        let slotCount: Int

        init(slotCount: Int, _ slotReturn: SlotReturn, claimers: Int) throws {
            space = try GuestSpace(byteCount: slotCount * 128 + 16384)
            self.slotCount = slotCount
            driverQueue = try DriverHeaderQueue(
                slotSize: 128, slotCount: slotCount, slotReturn: slotReturn,
                rqCount: claimers, in: space)
            deviceQueue = try HeaderQueue(driverQueue.layout, memory: space.memory)
            owners = SharedWords(count: slotCount)
        }

        func change(_ slot: Int, from old: UInt64, to new: UInt64) {
            if !owners[slot].compareExchange(expected: old, desired: new).exchanged {
                findings[0].fetchAdd(1)
            }
        }

        /// A slot's memory as plain words: a race on them is a race for ThreadSanitizer.
        func words(_ slot: Int) -> UnsafeMutablePointer<UInt64> {
            let address = driverQueue.layout.base.advanced(by: 128 * slot)
            return space.memory.translate(address, byteCount: 128)!
                .assumingMemoryBound(to: UInt64.self)
        }
    }

    private struct Passed: BitwiseCopyable {
        var slot: UInt32
        var claimer: UInt32
        var mark: UInt64
    }

    @Test(
        "No slot has two owners, and none is lost",
        arguments: [1, 2, 4, 16, 64, 256], SlotReturn.allCases)
    func ownership(_ slotCount: Int, _ slotReturn: SlotReturn) throws {
        for (claimers, drivers) in [(2, 2), (3, 2), (4, 3)] {
            try ownership(slotCount, slotReturn, (claimers, drivers))
        }
    }

    private func ownership(
        _ slotCount: Int, _ slotReturn: SlotReturn, _ threads: (claimers: Int, drivers: Int)
    ) throws {
        let arena = try Arena(slotCount: slotCount, slotReturn, claimers: threads.claimers)
        let quota = slotCount < 16 ? 1_500 : 12_000
        let byteCount = SPSCRing<Passed>.byteCount(capacity: 512)
        let memories = (0..<threads.claimers).map { _ in
            UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
        }
        defer { for memory in memories { memory.deallocate() } }
        let rings = memories.map { SPSCRing<Passed>(memory: $0, capacity: 512) }
        var bodies: [@Sendable () -> Void] = []
        for (index, ring) in rings.enumerated() {
            let end = Held(ring.makeProducer())
            bodies.append { Self.claim(index, quota: quota, arena, &end.pointer.pointee) }
        }
        for index in 0..<threads.drivers {
            let mine = rings.indices.filter { $0 % threads.drivers == index }
                .map { Held(rings[$0].makeConsumer()) }
            bodies.append { Self.retire(index, total: quota * mine.count, arena, mine) }
        }
        try inThreads(bodies)

        let claimed = quota * threads.claimers
        #expect(arena.findings[0].load() == 0, "slots with two owners")
        #expect(arena.findings[1].load() == 0, "slots that another claimer wrote into")
        #expect(arena.findings[2].load() == 0, "tails that went back or too far")
        #expect(arena.findings[3].load() == 0, "threads that gave up")
        #expect(arena.driverQueue.doubleRetireCount == 0)
        #expect(!arena.deviceQueue.isBroken)
        #expect(arena.deviceQueue.claimedCount == UInt64(claimed))
        for slot in 0..<slotCount where arena.owners[slot].load() != 0 {
            Issue.record("slot \(slot) still has an owner")
        }
        #expect(arena.deviceQueue.duplicateCount == 0)
        if slotReturn != .tail {
            let waiting = arena.driverQueue.waitingSlotCount
            #expect(arena.deviceQueue.freeCount == slotCount - waiting)
            // Of the group that each claimer had begun.
            #expect(waiting <= threads.claimers * (arena.driverQueue.groupSize - 1))
            return
        }
        // Everything is retired: the tail is after the last whole group.
        let group = arena.driverQueue.groupSize
        #expect(Int(arena.driverQueue.currentTail) == slotCount + claimed / group * group)
        #expect(arena.deviceQueue.freeCount == slotCount - claimed % group)
    }

    private static func claim(
        _ index: Int, quota: Int, _ arena: Arena, _ ring: inout SPSCProducer<Passed>
    ) {
        let slotReturn = arena.driverQueue.layout.slotReturn
        let claimer = arena.deviceQueue.claimer(ring: slotReturn == .groups ? index : 0)
        let list = UnsafeMutablePointer<UInt16>.allocate(capacity: 41)
        defer { list.deallocate() }
        var random = SeededRandom(seed: UInt64(index))
        var left = quota
        var mark: UInt64 = UInt64(index) << 32
        var patience = Patience()
        while left > 0 {
            let wanted = min(left, random.int(1...40))
            let lists = slotReturn != .tail
            let claim = lists ? claimer.claim(wanted, into: list) : claimer.claim(wanted)
            let slots = (0..<claim.count).map { offset in
                lists
                    ? claimer.returns.slot(Int(claim.first) + offset, list)
                    : Int(claim.first &+ UInt32(offset)) & (arena.slotCount - 1)
            }
            let firstMark = mark + 1
            for slot in slots {
                arena.change(slot, from: 0, to: UInt64(index + 1))
                mark += 1
                for word in 0..<16 { arena.words(slot)[word] = mark }
            }
            if lists { claimer.report(list, claim) }
            for (offset, slot) in slots.enumerated() {
                let passed = Passed(
                    slot: UInt32(slot), claimer: UInt32(index), mark: firstMark + UInt64(offset))
                var room = Patience()
                while ring.reserve(1) == 0 {
                    if !room.wait(after: 0) { return arena.findings[3].fetchAdd(1) }
                }
                ring[0] = passed
                ring.commit(1)
            }
            left -= claim.count
            if !patience.wait(after: claim.count) { return arena.findings[3].fetchAdd(1) }
        }
    }

    private static func retire(
        _ index: Int, total: Int, _ arena: Arena, _ rings: [Held<SPSCConsumer<Passed>>]
    ) {
        var random = SeededRandom(seed: 100 + UInt64(index))
        var held: [Passed] = []
        var retired = 0
        var patience = Patience()
        let buffer = UnsafeMutablePointer<Passed>.allocate(capacity: 32)
        defer { buffer.deallocate() }
        while retired < total {
            var got = 0
            for ring in rings {
                let count = ring.pointer.pointee.pop(into: buffer, count: 32)
                held += UnsafeBufferPointer(start: buffer, count: count)
                got += count
            }
            // Some are kept back, so that others overtake them; all go when nothing more arrives.
            let keep = got == 0 ? 0 : random.int(0...held.count)
            while held.count > keep {
                let one = held.remove(at: random.int(0...held.count - 1))
                giveBack(one, arena)
                retired += 1
                got += 1
            }
            if !patience.wait(after: got) { return arena.findings[3].fetchAdd(1) }
        }
    }

    private static func giveBack(_ one: Passed, _ arena: Arena) {
        let slot = Int(one.slot)
        for word in 0..<16 where arena.words(slot)[word] != one.mark {
            arena.findings[1].fetchAdd(1)
            break
        }
        arena.change(slot, from: UInt64(one.claimer + 1), to: 0)
        let before = arena.driverQueue.currentTail
        let isInGroups = arena.driverQueue.layout.slotReturn == .groups
        arena.driverQueue.retire(
            first: slot, count: 1, ring: isInGroups ? Int(one.claimer) : 0)
        let after = arena.driverQueue.currentTail
        // Backwards shows as a huge distance. Other threads may move it too, but not far: what
        // they retire was claimed from this tail.
        if after &- before > UInt32(1 << 24) { arena.findings[2].fetchAdd(1) }
    }
}
