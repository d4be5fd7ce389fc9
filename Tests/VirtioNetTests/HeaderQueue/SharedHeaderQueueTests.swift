// One header queue, two RQs: a naive table records who owns which slot, and nothing is lost or
// owned twice (catalogue D01, D17).
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

/// Two RQs of one guest that share a header queue.
private final class SharedRig {
    let guest: EvilGuest
    let headers: EvilHeaderQueue
    let headerQueue: HeaderQueue
    var rings: [EvilRing]
    let queues: [RxQueue]
    private let arenas = ArenaSupply(chunk: 1 << 19)
    private let port = MockPort()

    /// - Parameter head: slots that the device has claimed before, all of them retired.
    init(slotCount: Int, report: HeaderReport, head: Int = 0) throws {
        let guest = try EvilGuest()
        self.guest = guest
        headers = EvilHeaderQueue(
            guest, slotCount: slotCount, at: EvilRig.headerAddress,
            tail: UInt32(truncatingIfNeeded: head + slotCount))
        headerQueue = try HeaderQueue(headers.layout, memory: guest.memory)
        headerQueue.claimer.claimedHead.store(UInt64(head))
        rings = [0, 0x1000].map { EvilRing(guest, size: 16, at: EvilRig.ringAddress + $0) }
        var queues: [RxQueue] = []
        for ring in rings {
            queues.append(
                try arenas.queue(
                    RxQueueConfiguration(
                        virtqueue: ring.addresses, features: .mergeableBuffers,
                        memory: guest.memory, method: .headerQueue(report),
                        headerQueue: headerQueue)))
        }
        self.queues = queues
    }

    /// Delivers `count` small packets through one RQ, of which some cannot be split.
    /// - Returns: the slots that were reported.
    func deliver(_ count: Int, through number: Int, _ random: inout SeededRandom) throws -> [Int] {
        let packets = (0..<count).map { index in
            random.chance(80) ? TestFrames.tcp4([UInt8(index)]) : TestFrames.opaque(60)
        }
        let from = rings[number].usedIndex
        for index in 0..<count {
            let head = (Int(from) + index) % 16
            rings[number].describe(head, EvilRig.page(number * 16 + head), 4096)
            rings[number].post(head)
        }
        let outcome = port.enqueue(packets, to: queues[number])
        try check(outcome.result.delivered == count, "delivered \(outcome.result.delivered)")
        return rings[number].used(since: from).compactMap { used in
            if queues[number].configuration.method.namesSlotsInUsedEntries { return used.slot }
            let page = EvilRig.page(number * 16 + used.head)
            let isSplit = guest.number(page + 18, as: UInt16.self) & 1 == 1
            return isSplit ? Int(guest.number(page + 12, as: UInt32.self)) : nil
        }
    }
}

@Suite("Header queue shared by two RQs")
struct SharedHeaderQueueTests {
    @Test(
        "free + reported = slotCount after every step, and no slot has two owners",
        arguments: HeaderReport.allCases)
    func owners(report: HeaderReport) throws {
        // The second start lets the 32-bit tail wrap early on.
        let starts = [0, (1 << 32) - 128]
        try withEvery(Axis("slotCount", [1, 2, 4, 8, 16, 64]), Axis("start", starts)) {
            slotCount, start in
            let rig = try SharedRig(slotCount: slotCount, report: report, head: start)
            var random = SeededRandom(seed: UInt64(slotCount))
            /// Which RQ's packet lies in a slot; nil while the device may claim it.
            var owner = [Int?](repeating: nil, count: slotCount)
            var tail = start + slotCount
            var claimed = start
            for _ in 0..<200 {
                let number = random.int(0...1)
                for slot in try rig.deliver(random.int(0...12), through: number, &random) {
                    try #require(slot == claimed % slotCount)
                    try #require(owner[slot] == nil, "\(slot) of \(owner)")
                    owner[slot] = number
                    claimed += 1
                }
                let reported = owner.count { $0 != nil }
                try #require(rig.headerQueue.freeCount + reported == slotCount)
                try #require(rig.headerQueue.claimedCount == UInt64(claimed))
                let counters = rig.queues[0].counters + rig.queues[1].counters
                try #require(counters.slots == UInt64(claimed - start))
                try #require(counters.split == counters.slots)
                try #require(counters.split + counters.fallbackTotal == counters.packets)
                // The driver retires some of the oldest, whichever RQ they came by.
                for _ in 0..<random.int(0...reported) {
                    owner[tail % slotCount] = nil
                    tail += 1
                }
                rig.headers.setTail(UInt32(truncatingIfNeeded: tail))
                try #require(
                    rig.headerQueue.freeCount + owner.count { $0 != nil } == slotCount)
            }
            try #require(rig.guest.bandsAreIntact && !rig.headerQueue.isBroken)
        }
    }

    @Test(
        "D01: after a tail jump both RQs go on unsplit, each packet counted",
        arguments: HeaderReport.allCases)
    func tailJump(report: HeaderReport) throws {
        for jump: UInt32 in [9, 10, 0x8000_0000, 0xffff_ffff] {
            let rig = try SharedRig(slotCount: 8, report: report)
            var random = SeededRandom(seed: 1)
            let before = try rig.deliver(6, through: 0, &random).count
            #expect(before > 0)
            rig.headers.setTail(UInt32(before) &+ jump)
            for number in [0, 1, 0] {
                #expect(try rig.deliver(5, through: number, &random).isEmpty)
            }
            let counters = rig.queues[0].counters + rig.queues[1].counters
            #expect(rig.headerQueue.isBroken && counters.fault == .none)
            #expect(counters.packets == 21 && counters.dropped.isEmpty)
            #expect(counters.split == UInt64(before))
            #expect(counters.fallback[.noSlot] == nil)
            #expect(counters.fallback[.headerQueueBroken, default: 0] > 10)
            #expect(counters.split + counters.fallbackTotal == 21)
        }
    }

    @Test("Without free slots packets stay whole, and split again once there are some")
    func exhaustion() throws {
        let rig = try SharedRig(slotCount: 4, report: .usedLength)
        var random = SeededRandom(seed: 3)
        var split = 0
        while split < 4 { split += try rig.deliver(3, through: 0, &random).count }
        #expect(try rig.deliver(8, through: 1, &random).isEmpty)
        #expect(rig.queues[1].counters.fallback[.noSlot, default: 0] > 0)
        rig.headers.setTail(8)
        #expect(try rig.deliver(12, through: 1, &random) == [0, 1, 2, 3])
    }
}
