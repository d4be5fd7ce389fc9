// Slots that come back out of order: claims beside a naive twin, whatever the driver posts
// (catalogue D03, D04, D08, D11, D12).
import CleaveHost
import CleaveRings
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

/// A header queue with a return ring in an evil guest, and the list of a worker.
private final class RingRig {
    static let ringAddress: UInt64 = 0x9_0000
    let guest: EvilGuest
    let queue: HeaderQueue
    let slotCount: Int
    private let memory: UnsafeMutablePointer<UInt16>
    /// Entries written since creation.
    private(set) var posted: UInt64

    /// - Parameter start: entries that were posted and taken before.
    init(slotCount: Int, start: UInt64 = 0) throws {
        guest = try EvilGuest([(0x1_0000, 0x10_0000)])
        self.slotCount = slotCount
        queue = try HeaderQueue(
            HeaderQueueLayout(
                base: GuestAddress(EvilRig.headerAddress + 256),
                control: GuestAddress(EvilRig.headerAddress), slotSize: 64, slotCount: slotCount,
                returnRing: GuestAddress(Self.ringAddress)), memory: guest.memory)
        memory = .allocate(capacity: 256)
        posted = start
        queue.claimer.returns.taken.store(start)
        // Left by the earlier entries.
        for place in start - min(start, UInt64(slotCount))..<start {
            guest.put(Self.lap(place, slotCount) << 16, at: address(place))
        }
    }

    private static func lap(_ place: UInt64, _ slotCount: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: place / UInt64(slotCount)) & 0x7fff | 0x8000
    }

    deinit { memory.deallocate() }

    private func address(_ place: UInt64) -> UInt64 {
        Self.ringAddress + 4 * (place % UInt64(slotCount))
    }

    /// Writes an entry and its lap.
    func post(_ slot: Int) {
        guest.put(UInt32(slot) | Self.lap(posted, slotCount) << 16, at: address(posted))
        posted += 1
    }

    /// Writes any entry at the next position.
    func put(raw entry: UInt32) { guest.put(entry, at: address(posted)) }

    func claim(_ wanted: Int) -> [Int] {
        let claim = queue.claimer.claim(wanted, into: memory)
        return (0..<claim.count).map { Int(memory[$0]) }
    }

    /// Reports that slots are written.
    func report(_ slots: [Int]) {
        var list = slots.map { UInt16($0) }
        queue.claimer.report(&list, list.count)
    }
}

@Suite("Out-of-order return of header slots")
struct ReturnRingTests {
    /// Around the wrap of a lap's 15 bits and of 32 bits of positions.
    private static func starts(_ slotCount: Int) -> [UInt64] {
        let n = UInt64(slotCount)
        return [0, n, 32767 * n, 32768 * n - 1, 65536 * n - 1, 1 << 32, (1 << 33) - 1]
    }

    @Test("Claims are what a queue of posted slots gives, for drivers honest and not")
    func twin() throws {
        try withEvery(
            Axis("slotCount", [1, 2, 4, 8, 64]), Axis("start", Array(0..<7)),
            Axis("lies", [false, true])
        ) { slotCount, start, lies in
            let rig = try RingRig(slotCount: slotCount, start: Self.starts(slotCount)[start])
            var random = SeededRandom(seed: UInt64(slotCount * 100 + start))
            // The device's expected state: the free list in order, and owned slots.
            var freeList: [Int] = []
            var isDevices = [Bool](repeating: false, count: slotCount)
            var unseen: [Int] = []
            var written: [Int] = []
            var withDriver = Set(0..<slotCount)
            var duplicates: UInt64 = 0
            for _ in 0..<400 {
                for _ in 0..<random.int(0...slotCount) where unseen.count < slotCount {
                    let choices = lies ? Array(0..<slotCount) : withDriver.sorted()
                    if choices.isEmpty { break }
                    let slot = random.pick(choices)
                    withDriver.remove(slot)
                    rig.post(slot)
                    unseen.append(slot)
                }
                let wanted = random.int(0...slotCount + 1)
                // Slots that are posted twice, or that the device has already, add nothing to
                // claim.
                let fresh = Set(unseen.filter { !isDevices[$0] })
                try #require(rig.queue.freeCount == freeList.count + fresh.count)
                if freeList.count < max(wanted, slotCount / 2) && wanted > 0 {
                    for slot in unseen {
                        if isDevices[slot] { duplicates += 1 } else { freeList.append(slot) }
                        isDevices[slot] = true
                    }
                    unseen = []
                }
                let expected = Array(freeList.prefix(wanted))
                try #require(rig.claim(wanted) == expected)
                freeList.removeFirst(expected.count)
                written += expected
                // No slot is with two workers, nor with one and in the free list.
                let devices = freeList + written
                try #require(Set(devices).count == devices.count)
                let done = written.prefix(random.int(0...written.count))
                rig.report(Array(done))
                for slot in done {
                    isDevices[slot] = false
                    withDriver.insert(slot)
                }
                written.removeFirst(done.count)
                try #require(rig.queue.duplicateCount == duplicates && !rig.queue.isBroken)
                if !lies {
                    // free + claimed + with the driver are all there are.
                    let free = rig.queue.freeCount
                    try #require(free + written.count + withDriver.count == slotCount)
                }
            }
            try #require(lies == (duplicates > 0))
            try #require(rig.guest.bandsAreIntact)
        }
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

    @Test("D04, D08: a slot that the device has is skipped and counted, wherever it is")
    func duplicates() throws {
        let rig = try RingRig(slotCount: 8)
        for slot in [5, 5, 6] { rig.post(slot) }
        #expect(rig.claim(1) == [5])
        #expect(rig.queue.duplicateCount == 1)
        // 5 is being written, 6 is in the free list.
        for slot in [5, 6, 7] { rig.post(slot) }
        #expect(rig.claim(8) == [6, 7])
        #expect(rig.queue.duplicateCount == 3)
        rig.report([5])
        rig.post(5)
        #expect(rig.claim(8) == [5])
        #expect(rig.queue.duplicateCount == 3 && !rig.queue.isBroken)
    }

    @Test("D18: while another worker refills, the free list is what there is, and nobody waits")
    func locked() throws {
        let rig = try RingRig(slotCount: 8)
        for slot in 0..<4 { rig.post(slot) }
        #expect(rig.claim(2) == [0, 1])
        for slot in 4..<8 { rig.post(slot) }
        rig.queue.claimer.returns.lock.store(1)
        #expect(rig.claim(8) == [2, 3])
        #expect(rig.claim(8) == [])
        rig.queue.claimer.returns.lock.store(0)
        #expect(rig.claim(8) == [4, 5, 6, 7])
    }

    @Test("P3: one poll looks at a bounded number of entries")
    func bound() throws {
        let slotCount = 4096
        let rig = try RingRig(slotCount: slotCount)
        for _ in 0..<slotCount { rig.post(9) }
        #expect(rig.claim(2) == [9])
        #expect(rig.queue.duplicateCount == UInt64(ReturnRing.maximumRefill - 1))
        #expect(rig.claim(2) == [])
        #expect(rig.queue.duplicateCount == UInt64(2 * ReturnRing.maximumRefill - 1))
    }

    @Test("A burst of claims is one step of the head, and refills at most once")
    func cost() throws {
        let rig = try RingRig(slotCount: 256)
        for slot in 0..<256 { rig.post(slot) }
        let returns = rig.queue.claimer.returns
        var refills = 0
        for burst in 1...20 {
            let head = rig.queue.claimer.claimedHead.load()
            let ready = returns.ready.load()
            let claimed = rig.claim(burst)
            #expect(rig.queue.claimer.claimedHead.load() == head + UInt64(claimed.count))
            #expect(claimed.count == burst)
            refills += returns.ready.load() == ready ? 0 : 1
            rig.report(claimed)
        }
        // The free list was filled once, for all of them.
        #expect(refills == 1)
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
