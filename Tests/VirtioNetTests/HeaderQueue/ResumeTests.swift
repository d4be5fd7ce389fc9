// A header queue that another device takes over, and tables of one guest that come and go: no slot
// is lost, and none is given to two (the twin is a table of who has which slot).
import CleaveHost
import CleaveRings
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

/// A header queue over an evil guest, and whatever device serves it at the moment.
private final class ResumeRig {
    let guest: EvilGuest
    let layout: HeaderQueueLayout
    let slotCount: Int
    private(set) var queue: HeaderQueue
    private let list = UnsafeMutablePointer<UInt16>.allocate(capacity: 256)
    /// The tail, or the number of the next entry of the return ring.
    private(set) var given: UInt64

    static let ringAddress: UInt64 = 0x1_8000

    /// - Parameter start: slots that were given and came back before, by another device.
    init(_ slotReturn: SlotReturn, slotCount: Int, start: UInt64) throws {
        guest = try EvilGuest()
        self.slotCount = slotCount
        layout = HeaderQueueLayout(
            base: GuestAddress(0x1_0100), control: GuestAddress(0x1_0000), slotSize: 64,
            slotCount: slotCount,
            returnRing: slotReturn == .ring ? GuestAddress(Self.ringAddress) : nil)
        given = start
        queue = try HeaderQueue(
            layout, memory: guest.memory, base: UInt32(truncatingIfNeeded: start))
        // What the lap before left.
        for back in 1...UInt64(slotCount) where slotReturn == .ring { mark(start &- back, 0) }
        if slotReturn == .tail { guest.put(UInt32(truncatingIfNeeded: start), at: 0x1_0000) }
    }

    deinit { list.deallocate() }

    private func mark(_ number: UInt64, _ slot: Int) {
        let lap = UInt32(truncatingIfNeeded: number / UInt64(slotCount)) & 0x7fff | 0x8000
        guest.put(
            lap << 16 | UInt32(slot), at: Self.ringAddress + 4 * (number % UInt64(slotCount)))
    }

    /// The driver gives a slot; by the tail it can only be the next one.
    func give(_ slot: Int) {
        if layout.slotReturn == .ring { mark(given, slot) }
        given += 1
        if layout.slotReturn == .tail {
            guest.put(UInt32(truncatingIfNeeded: given), at: 0x1_0000)
        }
    }

    /// Slots that are claimed, written and reported.
    func claim(_ wanted: Int) -> [Int] {
        if layout.slotReturn == .ring {
            let claim = queue.claimer.claim(wanted, into: list)
            queue.claimer.report(list, claim)
            return (0..<claim.count).map { Int(list[$0]) }
        }
        let claim = queue.claimer.claim(wanted)
        return (0..<claim.count).map { (Int(claim.first) + $0) % slotCount }
    }

    /// A table of the same regions.
    func table(_ owner: Guest) throws -> GuestMemory {
        try GuestMemory(
            regions: guest.regions.map {
                MemoryRegion(
                    guestBase: GuestAddress($0.base), host: guest.pointer($0.base),
                    byteCount: $0.byteCount)
            }, guest: owner)
    }

    /// Another device takes over.
    func restart() throws {
        queue = try HeaderQueue(layout, memory: table(guest.memory.guest), base: queue.base)
    }
}

@Suite("Header queues that are resumed")
struct ResumeTests {
    /// Near the wrap of 32 bits, of a lap's 15 bits, and at 0.
    private static let starts: [UInt64] = [0, 5, (1 << 32) - 3, (1 << 32) - 40]

    @Test(
        "No slot is lost and none has two owners, however often a device takes over",
        arguments: [SlotReturn.tail, .ring])
    func twin(slotReturn: SlotReturn) throws {
        try withEvery(Axis("slots", [1, 2, 8, 64]), Axis("start", [0, 1, 2, 3])) {
            slotCount, which in
            let lap = UInt64(slotCount) * 32768
            let start = which == 3 && slotReturn == .ring ? lap - 3 : Self.starts[which]
            let rig = try ResumeRig(slotReturn, slotCount: slotCount, start: start)
            var random = SeededRandom(seed: start + UInt64(slotCount))
            /// In the order in which the driver got them.
            var drivers = (0..<slotCount).map { ($0 + Int(start % UInt64(slotCount))) % slotCount }
            /// In the order in which it gave them.
            var devices: [Int] = []
            var restarts = 0
            for _ in 0..<400 {
                for _ in 0..<random.int(0...drivers.count) {
                    let place = slotReturn == .tail ? 0 : random.int(0...drivers.count - 1)
                    let slot = drivers.remove(at: place)
                    rig.give(slot)
                    devices.append(slot)
                }
                if random.chance(30) {
                    let free = rig.queue.freeCount
                    try rig.restart()
                    restarts += 1
                    try #require(rig.queue.freeCount == free && free == devices.count)
                    try #require(rig.queue.claimedCount == 0 && rig.queue.reportedByOthers == 0)
                }
                let wanted = random.int(0...slotCount)
                let claimed = rig.claim(wanted)
                try #require(claimed == Array(devices.prefix(wanted)))
                devices.removeFirst(claimed.count)
                drivers += claimed
                try #require(rig.queue.freeCount + drivers.count == slotCount)
            }
            try #require(!rig.queue.isBroken && rig.queue.duplicateCount == 0)
            try #require(restarts > 50 && rig.guest.bandsAreIntact)
        }
    }

    @Test("Entries that were skipped, since they named a slot twice, cost no slot at a stop")
    func skipped() throws {
        try withEvery(Axis("slots", [2, 4, 16]), Axis("start", [0, 1, 2, 3])) {
            slotCount, which in
            let rig = try ResumeRig(.ring, slotCount: slotCount, start: Self.starts[which])
            var random = SeededRandom(seed: UInt64(slotCount * 8 + which))
            var drivers = Array(0..<slotCount)
            var devices: [Int] = []
            for round in 0..<300 {
                // All entries from the oldest free slot on fit the ring.
                for _ in 0..<random.int(0...slotCount - devices.count) {
                    if let again = devices.first, random.chance(30) {
                        rig.give(random.chance(50) ? again : devices[devices.count - 1])
                    } else if let slot = drivers.popLast() {
                        rig.give(slot)
                        devices.append(slot)
                    }
                }
                let wanted = random.int(0...devices.count)
                let claimed = rig.claim(wanted)
                try #require(claimed == Array(devices.prefix(wanted)), "round \(round)")
                devices.removeFirst(wanted)
                drivers += claimed
                try rig.restart()
                // A slot given twice and claimed in between is given once more by its second entry.
                let all = rig.claim(slotCount)
                try #require(all.filter(devices.contains) == devices, "round \(round)")
                try #require(!rig.queue.isBroken && rig.queue.freeCount == 0)
                drivers = (0..<slotCount).shuffled(using: &random)
                devices = []
            }
        }
    }

    @Test("A moved tail breaks a queue that starts at head 0, and one with a wrong base")
    func wrongBase() throws {
        let rig = try ResumeRig(.tail, slotCount: 8, start: 100)
        for slot in 0..<8 { rig.give((100 + slot) % 8) }
        for base: UInt32? in [nil, 99, 109, 101 &+ 1 << 31] {
            let queue = try HeaderQueue(rig.layout, memory: rig.guest.memory, base: base)
            #expect(!queue.isBroken)
            #expect(queue.claimer.claim(1).count == 0 && queue.isBroken)
            #expect(rig.guest.number(0x1_0084, as: UInt32.self) == 1)
        }
        for (base, free) in [(100, 8), (104, 4), (108, 0)] as [(UInt32, Int)] {
            let queue = try HeaderQueue(rig.layout, memory: rig.guest.memory, base: base)
            #expect(queue.freeCount == free && queue.base == base)
            #expect(rig.guest.number(0x1_0080, as: UInt32.self) == base)
            let claim = queue.claimer.claim(9)
            #expect(claim.count == free && !queue.isBroken)
            #expect(free == 0 || claim.first == base)
        }
    }

    @Test(
        "After a reset the base is the tail, by the ring entry 0",
        arguments: [SlotReturn.tail, .ring])
    func reset(slotReturn: SlotReturn) throws {
        let rig = try ResumeRig(slotReturn, slotCount: 8, start: 20)
        for slot in 0..<5 { rig.give(slot) }
        #expect(rig.claim(2).count == 2)
        rig.guest.fill(ResumeRig.ringAddress, 32, with: 0)
        rig.queue.reset()
        #expect(rig.queue.base == (slotReturn == .tail ? 25 : 0))
        try rig.restart()
        #expect(rig.queue.freeCount == 0 && rig.claim(1).isEmpty && !rig.queue.isBroken)
    }

    @Test("A table of the same guest goes with the queue, one of another guest does not")
    func tables() throws {
        let rig = try EvilRig(method: .headerQueue(.usedLength), slots: (128, 8))
        let guest = rig.guest
        var configuration = rig.queue.configuration
        let regions = guest.regions.map {
            MemoryRegion(
                guestBase: GuestAddress($0.base), host: guest.pointer($0.base),
                byteCount: $0.byteCount)
        }
        configuration.memory = try GuestMemory(regions: regions, guest: guest.memory.guest)
        let arenas = ArenaSupply(chunk: 1 << 18)
        let queue = try arenas.queue(configuration)
        rig.post(3)
        let outcome = MockPort().enqueue([TestFrames.tcp4([1, 2, 3])], to: queue)
        #expect(outcome.result.delivered == 1)
        #expect(queue.counters.split == 1)
        // The same regions, but not the same guest.
        configuration.memory = try GuestMemory(regions: regions)
        let refusal = #expect(throws: SetupError.self) {
            try arenas.queue(configuration)
        }
        #expect(
            refusal?.description
                == "the header queue belongs to another guest: its memory is not the RQ's guest's")
    }
}
