// Slots that come back out of order: claims beside a naive twin, whatever the driver posts
// (catalogue D03, D04, D08, D11, D12).
import CleaveHost
import CleaveRings
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

/// A header queue with return rings in an evil guest, and a naive twin of it.
private final class RingRig {
    static let ringAddress: UInt64 = 0x9_0000
    let guest: EvilGuest
    let layout: HeaderQueueLayout
    let queue: HeaderQueue
    var slotCount: Int { layout.slotCount }
    private let memory: UnsafeMutablePointer<UInt16>
    /// Entries written since creation, of each ring.
    private(set) var posted: [UInt64]

    /// - Parameters:
    ///   - rings: rings of groups; 0 for one ring of slots.
    ///   - start: entries that were posted and taken before, of each ring.
    init(slotCount: Int, rings: Int = 0, groupSize: Int = 1, start: UInt64 = 0) throws {
        guest = try EvilGuest([(0x1_0000, 0x10_0000)])
        layout = HeaderQueueLayout(
            base: GuestAddress(EvilRig.headerAddress + 256),
            control: GuestAddress(EvilRig.headerAddress), slotSize: 64, slotCount: slotCount,
            returnRing: GuestAddress(Self.ringAddress), groupRingCount: rings,
            groupSize: groupSize)
        queue = try HeaderQueue(layout, memory: guest.memory)
        memory = .allocate(capacity: 257)
        posted = Array(repeating: start, count: layout.returnRingCount)
        for ring in posted.indices {
            queue.claimer.returns.words(ring).taken.store(start)
            // Left by the earlier entries.
            for place in start - min(start, UInt64(layout.groupCount))..<start {
                guest.put(lap(place) << 16, at: address(place, ring))
            }
        }
    }

    private func lap(_ place: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: place / UInt64(layout.groupCount)) & 0x7fff | 0x8000
    }

    deinit { memory.deallocate() }

    func address(_ place: UInt64, _ ring: Int = 0) -> UInt64 {
        Self.ringAddress + UInt64(ring * layout.returnRingStride + layout.firstEntryOffset)
            + 4 * (place % UInt64(layout.groupCount))
    }

    /// Writes an entry, a slot or a group, and its lap.
    func post(_ index: Int, _ ring: Int = 0) {
        guest.put(UInt32(index) | lap(posted[ring]) << 16, at: address(posted[ring], ring))
        posted[ring] += 1
    }

    /// Writes any entry at the next position.
    func put(raw entry: UInt32) { guest.put(entry, at: address(posted[0])) }

    /// What an RQ claims, in its own words.
    struct Claimed: Equatable {
        var slots: [Int] = []
        fileprivate var groups: [UInt16] = []
        fileprivate var claim = HeaderClaimer.Claim(first: 0, count: 0, retries: 0)

        static func == (left: Claimed, right: Claimed) -> Bool { left.slots == right.slots }
    }

    func claim(_ wanted: Int, ring: Int) -> Claimed {
        let claimer = queue.claimer(ring: ring)
        let claim = claimer.claim(wanted, into: memory)
        let slots = (0..<claim.count).map { claimer.returns.slot(Int(claim.first) + $0, memory) }
        let end = Int(claim.first) + claim.count + layout.groupSize - 1
        return Claimed(
            slots: slots, groups: (0..<end / layout.groupSize).map { memory[$0] }, claim: claim)
    }

    func claim(_ wanted: Int) -> [Int] { claim(wanted, ring: 0).slots }

    /// Reports that the claim's slots are written.
    func report(_ claimed: Claimed, ring: Int) {
        queue.claimer(ring: ring).report(claimed.groups, claimed.claim)
    }

    /// Reports that slots are written, each a claim of its own; for groups of one slot.
    func report(_ slots: [Int]) {
        for slot in slots {
            queue.claimer.report(
                [UInt16(slot)], HeaderClaimer.Claim(first: 0, count: 1, retries: 0))
        }
    }
}

/// Whom each group is with, written down as plainly as can be.
private struct RingTwin {
    enum Owner: Equatable {
        case nobody
        case rq(Int)
        case out(Int)
    }

    let groupSize: Int
    var owners: [Owner]
    /// Entries that nobody took, of each ring.
    var posted: [[Int]]
    /// Slots that are left of the group that each RQ has begun.
    var begun: [[Int]]
    var duplicates: UInt64 = 0

    init(_ layout: HeaderQueueLayout) {
        groupSize = layout.groupSize
        owners = Array(repeating: .nobody, count: layout.groupCount)
        posted = Array(repeating: [], count: layout.returnRingCount)
        begun = Array(repeating: [], count: layout.returnRingCount)
    }

    func counts(_ group: Int, in ring: Int) -> Bool {
        owners[group] == .nobody || owners[group] == .out(ring)
    }

    /// Slots that RQ `rq` can claim.
    func freeCount(_ rq: Int) -> Int { postedGroups.count * groupSize + begun[rq].count }

    /// Groups that the next claims will keep.
    private var postedGroups: Set<Int> {
        var seen = Set<Int>()
        for ring in posted.indices { seen.formUnion(posted[ring].filter { counts($0, in: ring) }) }
        return seen
    }

    /// RQ `rq` took `count` entries of `ring`.
    /// - Returns: the groups that it got by that.
    mutating func take(_ count: Int, of ring: Int, by rq: Int) -> [Int] {
        let entries = posted[ring].prefix(count)
        posted[ring].removeFirst(count)
        return entries.filter { group in
            guard counts(group, in: ring) else {
                duplicates += 1
                return false
            }
            owners[group] = .rq(rq)
            return true
        }
    }
}

@Suite("Out-of-order return of header slots")
struct ReturnRingTests {
    /// Around the wrap of a lap's 15 bits and of 32 bits of positions.
    private static func starts(_ groupCount: Int) -> [UInt64] {
        let n = UInt64(groupCount)
        return [0, n, 32767 * n, 32768 * n - 1, 65536 * n - 1, 1 << 32, (1 << 33) - 1]
    }

    /// One ring for all (0), and a ring for each of some RQs; slots in a group.
    private static let shapes = [(0, 1), (1, 1), (1, 4), (2, 1), (2, 2), (3, 4), (9, 8)]

    @Test("Claims are what a table of groups gives, for drivers honest and not")
    func twin() throws {
        try withEvery(
            Axis("groups", [1, 2, 4, 8, 32]), Axis("start", Array(0..<7)),
            Axis("shape", Self.shapes.indices.map { $0 }), Axis("lies", [false, true])
        ) { groups, start, shape, lies in
            let (rings, groupSize) = Self.shapes[shape]
            let rig = try RingRig(
                slotCount: groups * groupSize, rings: rings, groupSize: groupSize,
                start: Self.starts(groups)[start])
            try drive(rig, lies: lies, seed: UInt64(groups * 100 + start * 10 + shape))
        }
    }

    private func drive(_ rig: RingRig, lies: Bool, seed: UInt64) throws {
        let layout = rig.layout
        var random = SeededRandom(seed: seed)
        var twin = RingTwin(layout)
        let rqs = 0..<layout.returnRingCount
        /// Claims that are not reported yet, by RQ: a worker has one at a time.
        var open = [RingRig.Claimed?](repeating: nil, count: rqs.count)
        /// Slots of each group that the driver has been told of, and by which RQ.
        var told = [Int](repeating: 0, count: layout.groupCount)
        var withDriver = Array(0..<layout.groupCount)
        for _ in 0..<300 {
            for _ in 0..<random.int(0...layout.groupCount) {
                if lies {
                    let ring = random.int(0...rqs.count - 1)
                    if twin.posted[ring].count == layout.groupCount { continue }
                    let group = random.int(0...layout.groupCount - 1)
                    rig.post(group, ring)
                    twin.posted[ring].append(group)
                } else if let group = withDriver.popLast() {
                    let ring =
                        if case .out(let rq) = twin.owners[group] { rq } else {
                            random.int(0...rqs.count - 1)
                        }
                    rig.post(group, ring)
                    twin.posted[ring].append(group)
                }
            }
            let rq = random.int(0...rqs.count - 1)
            if let claimed = open[rq] {
                rig.report(claimed, ring: rq)
                open[rq] = nil
                for slot in claimed.slots {
                    let group = slot / layout.groupSize
                    told[group] += 1
                    if told[group] == layout.groupSize {
                        told[group] = 0
                        twin.owners[group] = .out(rq)
                        withDriver.append(group)
                    }
                }
                withDriver.shuffle(using: &random)
            } else {
                let wanted = random.int(0...layout.slotCount + 1)
                open[rq] = try claim(wanted, rq, rig, &twin)
            }
            // No slot is with two workers, nor with one and free.
            let rests = twin.begun.flatMap { $0 }
            let held = open.compactMap { $0 }.flatMap(\.slots) + rests
            try #require(Set(held).count == held.count)
            let free = twin.freeCount(0) - twin.begun[0].count + rests.count
            try #require(rig.queue.freeCount == free)
            try #require(rig.queue.duplicateCount == twin.duplicates && !rig.queue.isBroken)
            if lies { continue }
            let theirs = withDriver.count * layout.groupSize + told.reduce(0, +)
            try #require(free + held.count - rests.count + theirs == layout.slotCount)
        }
        try #require(lies == (twin.duplicates > 0) || layout.groupCount == 1)
        try #require(rig.guest.bandsAreIntact)
    }

    /// One claim, beside the twin.
    private func claim(
        _ wanted: Int, _ rq: Int, _ rig: RingRig, _ twin: inout RingTwin
    ) throws -> RingRig.Claimed {
        let returns = rig.queue.claimer.returns
        let before = twin.posted.indices.map { returns.words($0).taken.load() }
        let free = twin.freeCount(rq)
        let all = rig.queue.claimedCount
        let claimed = rig.claim(wanted, ring: rq)
        try #require(claimed.slots.count == min(wanted, free))
        try #require(rig.queue.claimedCount - all == UInt64(claimed.slots.count))
        var expected = twin.begun[rq]
        var others: [Int] = []
        // The RQ's own ring first.
        for ring in [rq] + twin.posted.indices.filter({ $0 != rq }) {
            let taken = Int(returns.words(ring).taken.load() - before[ring])
            let groups = twin.take(taken, of: ring, by: rq)
            if ring == rq {
                expected += groups.flatMap { group in
                    (0..<twin.groupSize).map { group * twin.groupSize + $0 }
                }
            } else {
                // Only if the RQ's own ring had too few.
                if taken > 0 { try #require(twin.posted[rq].isEmpty) }
                others += groups
            }
        }
        let own = min(expected.count, claimed.slots.count)
        try #require(claimed.slots.prefix(own) == expected.prefix(own))
        let rest = claimed.slots.dropFirst(own)
        // Groups of other rings: whole ones, each from its first slot on, but the last.
        var left = others
        var last: [Int] = []
        for (place, slot) in rest.enumerated() {
            if place % twin.groupSize == 0 {
                let group = slot / twin.groupSize
                try #require(left.contains(group))
                left.removeAll { $0 == group }
                last = (0..<twin.groupSize).map { group * twin.groupSize + $0 }
            }
            try #require(last.first == slot)
            last.removeFirst()
        }
        try #require(left.isEmpty)
        twin.begun[rq] = rest.isEmpty ? Array(expected.dropFirst(own)) : last
        // No more groups than it needs.
        try #require(twin.begun[rq].count < twin.groupSize)
        return claimed
    }

    @Test("D03: an index beyond the slots breaks the queue for good")
    func index() throws {
        for slot in [4, 5, 0x7fff, 0xffff] {
            let rig = try RingRig(slotCount: 4)
            rig.post(1)
            rig.post(slot)
            rig.post(2)
            #expect(rig.claim(3) == [1])
            #expect(rig.queue.isBroken)
            #expect(rig.claim(1) == [] && rig.claim(3) == [])
        }
    }

    @Test("An entry counts in its own lap alone: not before it is written, not the lap after")
    func laps() throws {
        let rig = try RingRig(slotCount: 4)
        // Zeroed memory, other laps, and the right one at last.
        for lap: UInt32 in [0, 1, 0x8001, 0xffff] {
            rig.put(raw: 3 | lap << 16)
            #expect(rig.claim(1) == [] && !rig.queue.isBroken)
        }
        // An index is not read before its lap is right.
        rig.put(raw: 0xffff | 7 << 16)
        #expect(rig.claim(1) == [] && !rig.queue.isBroken)
        rig.post(3)
        #expect(rig.claim(4) == [3])
        rig.report([3])
        // The device has taken one entry and finds three of no lap after it.
        #expect(rig.queue.freeCount == 0)
    }

    @Test("D04, D08: a slot that the device has is skipped and counted")
    func duplicates() throws {
        let rig = try RingRig(slotCount: 8)
        for slot in [5, 5, 6] { rig.post(slot) }
        #expect(rig.claim(2) == [5, 6])
        #expect(rig.queue.duplicateCount == 1)
        // 5 and 6 are being written.
        for slot in [5, 6, 7] { rig.post(slot) }
        #expect(rig.claim(8) == [7])
        #expect(rig.queue.duplicateCount == 3)
        rig.report([5])
        rig.post(5)
        #expect(rig.claim(8) == [5])
        #expect(rig.queue.duplicateCount == 3 && !rig.queue.isBroken)
    }

    @Test("A group counts in the ring of the RQ that reported it alone, and once all of it is out")
    func homes() throws {
        let rig = try RingRig(slotCount: 8, rings: 2, groupSize: 4)
        rig.post(0, 0)
        rig.post(1, 1)
        let first = rig.claim(3, ring: 0)
        #expect(first.slots == [0, 1, 2])
        rig.report(first, ring: 0)
        // Three of its slots are out.
        rig.post(0, 0)
        let second = rig.claim(1, ring: 0)
        #expect(second.slots == [3])
        // Written, not reported.
        rig.post(0, 0)
        #expect(rig.claim(1, ring: 1).slots == [4])
        let third = rig.claim(1, ring: 0)
        #expect(third.slots == [] && rig.queue.duplicateCount == 2)
        rig.report(second, ring: 0)
        rig.post(0, 1)
        #expect(rig.claim(8, ring: 1).slots == [5, 6, 7] && rig.queue.duplicateCount == 3)
        rig.post(0, 0)
        #expect(rig.queue.freeCount == 4)
        // RQ 1 has no other: it takes what lies in RQ 0's ring, and its driver gives it back.
        let fourth = rig.claim(8, ring: 1)
        #expect(fourth.slots == [0, 1, 2, 3] && rig.queue.duplicateCount == 3)
        rig.report(fourth, ring: 1)
        rig.post(0, 1)
        #expect(rig.claim(8, ring: 0).slots == [0, 1, 2, 3])
    }

    @Test("An RQ takes from others only what it needs, and keeps no more than a group it has begun")
    func stealing() throws {
        let rig = try RingRig(slotCount: 64, rings: 4, groupSize: 4)
        for group in 0..<16 { rig.post(group, 3) }
        for (ring, wanted) in [(0, 1), (1, 5), (2, 4)] {
            #expect(rig.claim(wanted, ring: ring).slots.count == wanted)
        }
        // RQ 0 keeps 3 slots, RQ 1 keeps 3, RQ 2 none; four groups were taken.
        #expect(rig.queue.claimer.returns.words(3).taken.load() == 4)
        #expect(rig.queue.freeCount == 64 - 10)
        #expect(rig.claim(64, ring: 3).slots.count == 48)
        #expect(rig.claim(64, ring: 0).slots.count == 3)
        #expect(rig.queue.freeCount == 3)
    }

    @Test("A starved RQ looks at eight rings at most in one claim, and at all in turn")
    func looks() throws {
        let rig = try RingRig(slotCount: 128, rings: 32, groupSize: 1)
        rig.post(5, 20)
        var claims = 0
        while rig.claim(1, ring: 2).slots.isEmpty { claims += 1 }
        #expect(claims == 2)
    }

    @Test("D18: while another worker takes from a ring, nobody waits", arguments: [0, 2])
    func locked(rings: Int) throws {
        let rig = try RingRig(slotCount: 8, rings: rings, groupSize: rings == 0 ? 1 : 2)
        for index in 0..<rig.layout.groupCount { rig.post(index) }
        let first = rings == 0 ? [0] : [0]
        #expect(rig.claim(1) == first)
        let lock = rig.queue.claimer.returns.words(0).lock
        lock.store(1)
        // What is left of the group it has begun is nobody else's.
        #expect(rig.claim(8) == (rings == 0 ? [] : [1]))
        #expect(rig.claim(8) == [])
        if rings > 0 {
            #expect(rig.claim(8, ring: 1).slots == [])
            rig.post(0, 1)
        }
        lock.store(0)
        #expect(rig.claim(8).count == (rings == 0 ? 7 : 6))
    }

    @Test("P3: one poll looks at a bounded number of entries")
    func bound() throws {
        let slotCount = 4096
        let rig = try RingRig(slotCount: slotCount)
        for _ in 0..<slotCount { rig.post(9) }
        let limit = UInt64(ReturnRing.maximumSkips)
        #expect(rig.claim(2) == [9])
        #expect(rig.queue.duplicateCount == limit + 1)
        #expect(rig.claim(2) == [])
        #expect(rig.queue.duplicateCount == 2 * limit + 3)
    }

    @Test("Within a group that is begun a claim takes no lock and reads no guest memory")
    func cost() throws {
        let rig = try RingRig(slotCount: 64, rings: 2, groupSize: 32)
        rig.post(1, 0)
        #expect(rig.claim(1, ring: 0).slots == [32])
        rig.queue.claimer.returns.words(0).lock.store(1)
        for place in 0..<2 { rig.guest.put(UInt32.max, at: rig.address(UInt64(place))) }
        for slot in 33..<64 { #expect(rig.claim(1, ring: 0).slots == [slot]) }
        #expect(!rig.queue.isBroken)
    }

    @Test("A queue resumes where the rings' words say that another stopped")
    func resume() throws {
        let rig = try RingRig(slotCount: 16, rings: 2, groupSize: 4, start: (1 << 32) - 2)
        for group in [3, 1, 2] { rig.post(group, 0) }
        rig.post(0, 1)
        let claimed = rig.claim(6, ring: 0)
        #expect(claimed.slots == [12, 13, 14, 15, 4, 5])
        rig.report(claimed, ring: 0)
        rig.queue.leave()
        let next = try HeaderQueue(rig.layout, memory: rig.guest.memory, base: rig.queue.base)
        #expect(next.freeCount == 2 + 8 && next.claimedCount == 0)
        var list = [UInt16](repeating: 0, count: 9)
        let claimer = next.claimer(ring: 0)
        let claim = claimer.claim(16, into: &list)
        #expect(
            (0..<claim.count).map { claimer.returns.slot(Int(claim.first) + $0, list) }
                == [6, 7, 8, 9, 10, 11, 0, 1, 2, 3])
        #expect(next.claimedCount == 10 && next.duplicateCount == 0)
        // What was out is given to the next device.
        rig.post(3, 0)
        #expect(next.freeCount == 4)
    }

    @Test("Positions that a driver has changed: no group has two owners")
    func resumeLies() throws {
        // The next slot above, the group below.
        let cases: [(UInt32, UInt32)] = [
            (0x2_0001, 0x1_0001), (0x1_0004, 0x3_ffff), (0x4_0001, 0xffff_0001),
        ]
        for (words0, words1) in cases {
            let rig = try RingRig(slotCount: 16, rings: 2, groupSize: 4)
            rig.queue.leave()
            for (ring, words) in [words0, words1].enumerated() {
                rig.guest.put(
                    words, at: RingRig.ringAddress + UInt64(ring * rig.layout.returnRingStride + 4))
            }
            let next = try HeaderQueue(
                rig.layout, memory: rig.guest.memory, base: rig.queue.base)
            let isPossible = words0 == 0x2_0001
            #expect(next.freeCount == (isPossible ? 2 : 0))
            var list = [UInt16](repeating: 0, count: 9)
            #expect(next.claimer(ring: 1).claim(16, into: &list).count == 0)
            #expect(next.claimer(ring: 0).claim(16, into: &list).count == (isPossible ? 2 : 0))
        }
    }

    @Test("Reset, a queue begins anew: nothing is the device's, the ring starts at lap 0")
    func reset() throws {
        let rig = try RingRig(slotCount: 4)
        for slot in 0..<4 { rig.post(slot) }
        _ = rig.claim(2)
        rig.post(0x8000)
        _ = rig.claim(4)
        #expect(rig.queue.isBroken)
        let before = rig.queue.claimedCount
        for place in 0..<4 { rig.guest.put(UInt32(0), at: RingRig.ringAddress + UInt64(4 * place)) }
        rig.queue.reset()
        #expect(!rig.queue.isBroken && rig.queue.freeCount == 0)
        #expect(rig.queue.claimedCount == before)
        for place in 0..<4 {
            let address = RingRig.ringAddress + UInt64(4 * place)
            rig.guest.put(UInt32(3 - place) | 0x8000_0000, at: address)
        }
        #expect(rig.queue.freeCount == 4)
        #expect(rig.claim(4) == [3, 2, 1, 0])
        #expect(rig.queue.duplicateCount == 0 && rig.queue.claimedCount == before + 4)
    }

    @Test("The ring lies aligned in one region")
    func places() throws {
        let guest = try EvilGuest([(0x1_0000, 0x1_0000), (0x2_0000, 0x1_0000)])
        func refusal(_ ring: UInt64) -> String? {
            let layout = HeaderQueueLayout(
                base: GuestAddress(0x1_1000), control: GuestAddress(0x1_0000), slotSize: 64,
                slotCount: 64, returnRing: GuestAddress(ring))
            do throws(SetupError) {
                _ = try HeaderQueue(layout, memory: guest.memory)
                return nil
            } catch { return error.description }
        }
        #expect(refusal(0x2_ff00) == nil)
        #expect(refusal(0x2_0020) == "header return ring does not start on a 64-byte boundary")
        for ring: UInt64 in [0x2_ff40, 0x1_ff40, 0x3_0000, UInt64.max - 63] {
            #expect(refusal(ring) == "header return ring, 256 bytes, is not in one memory region")
        }
    }
}
