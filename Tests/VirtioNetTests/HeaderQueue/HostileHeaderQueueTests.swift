// Guests that misuse the header queue: its memory, its tail, its isolation (catalogue D05, D09,
// D10, D13, D14, D18).
import CleaveHost
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Hostile header queue")
struct HostileHeaderQueueTests {
    private static let slotCount = 8

    @Test(
        "D05: while one RQ keeps its slots others go on whole, and no packet is lost",
        arguments: RingFormat.allCases, HeaderReport.allCases)
    func hoarder(format: RingFormat, report: HeaderReport) throws {
        let guest = try EvilGuest()
        let first = try format.rig(
            size: 16, method: .headerQueue(report), slots: (128, Self.slotCount), guest: guest)
        // The second RQ has its ring after the first one's, and shares its header queue.
        var configuration = first.queue.configuration
        let arenas = ArenaSupply(chunk: 1 << 18)
        var split = EvilRing(guest, size: 16, at: EvilRig.ringAddress + 0x1000)
        var packed = PackedEvilRing(guest, size: 16, at: EvilRig.ringAddress + 0x2000)
        configuration.virtqueue = format == .split ? split.addresses : packed.addresses
        let second = try arenas.queue(configuration)
        let packet = TestFrames.tcp4([1])
        for id in 0..<12 { first.post(id) }
        #expect(first.enqueue(Array(repeating: packet, count: 12)).result.delivered == 12)
        #expect(first.queue.counters.split == UInt64(Self.slotCount))
        #expect(first.queue.counters.fallback == [.noSlot: 4])
        func post(_ id: Int) {
            if format == .split {
                split.describe(id, EvilRig.page(16 + id), 4096)
                split.post(id)
            } else {
                packed.post([(EvilRig.page(16 + id), 4096)], id: id)
            }
        }
        for id in 0..<5 { post(id) }
        let port = MockPort()
        #expect(port.enqueue(Array(repeating: packet, count: 5), to: second).result.delivered == 5)
        #expect(second.counters.split == 0 && second.counters.fallback == [.noSlot: 5])
        #expect(second.counters.droppedTotal == 0)
        // Slots that come back serve both again.
        first.headers?.setTail(UInt32(Self.slotCount + 3))
        for id in 5..<7 { post(id) }
        #expect(port.enqueue([packet, packet], to: second).result.delivered == 2)
        #expect(second.counters.split == 2 && first.headerQueue?.freeCount == 1)
    }

    @Test(
        "D09: slot bytes that change during the write harm nobody", arguments: RingFormat.allCases,
        HeaderReport.allCases)
    func rewrittenSlots(format: RingFormat, report: HeaderReport) throws {
        let guest = try EvilGuest()
        let rig = try format.rig(
            size: 32, method: .headerQueue(report), slots: (128, Self.slotCount), guest: guest)
        let slots = Int(bitPattern: guest.pointer(EvilRig.headerAddress + 256))
        let flipper = Flipper { random in
            let offset = slots + 8 * random.int(0...(Self.slotCount * 16 - 1))
            guard let word = UnsafeMutableRawPointer(bitPattern: offset) else { return }
            SharedWord64(word).store(random.next())
        }
        let packet = TestFrames.tcp4(TestFrames.payload(300))
        for round in 0..<400 {
            for id in 0..<4 { rig.post((4 * round + id) % 32) }
            #expect(rig.enqueue(Array(repeating: packet, count: 4)).result.delivered == 4)
            // Payload and reports are not the slots' memory.
            let start: UInt64 = report == .netHeader ? 20 : 0
            for used in rig.reports.suffix(4) {
                #expect(used.length == 300 + Int(start))
                let found = guest.read(EvilRig.page(used.id) + start, 300)
                #expect(found == Array(packet.suffix(300)))
            }
            rig.headers?.setTail(UInt32(4 * round + 4 + Self.slotCount))
        }
        flipper.finish()
        #expect(rig.queue.counters.split == 1600 && guest.bandsAreIntact)
        #expect(rig.headerQueue?.isBroken == false && rig.queue.counters.fault == .none)
    }

    @Test(
        "D10: a tail that changes all the time is judged once per claim",
        arguments: RingFormat.allCases, HeaderReport.allCases)
    func changingTail(format: RingFormat, report: HeaderReport) throws {
        let arenas = ArenaSupply()
        let packet = TestFrames.tcp4(TestFrames.payload(40))
        var broken = 0
        var guests = 0
        // Until a lie is caught; the other thread may get little time to run.
        while guests < 40 || (broken == 0 && guests < 3000) {
            guests += 1
            let guest = try EvilGuest()
            let rig = try format.rig(
                size: 32, method: .headerQueue(report), slots: (128, Self.slotCount),
                guest: guest, arenas: arenas)
            let tail = SharedWord32(guest.pointer(EvilRig.headerAddress))
            let head = SharedWord32(guest.pointer(EvilRig.headerAddress + 128))
            let flipper = Flipper { random in
                let room = UInt32(random.int(0...Self.slotCount))
                tail.store(random.chance(98) ? head.load() &+ room : 0x7fff_ffff)
            }
            for round in 0..<20 {
                for id in 0..<5 { rig.post((5 * round + id) % 32) }
                #expect(rig.enqueue(Array(repeating: packet, count: 5)).result.delivered == 5)
                for used in rig.reports.suffix(5) {
                    #expect(report == .netHeader || used.slot ?? 0 < Self.slotCount)
                }
            }
            flipper.finish()
            let counters = rig.queue.counters
            #expect(counters.split + counters.fallbackTotal == 100 && counters.packets == 100)
            #expect(counters.slots == counters.split)
            #expect(rig.headerQueue?.claimedCount == counters.slots)
            #expect(guest.bandsAreIntact && counters.fault == .none)
            broken += rig.headerQueue?.isBroken == true ? 1 : 0
        }
        #expect(broken > 0, "no tail was caught where it cannot be")
    }

    @Test(
        "D13: a slot that just holds the headers takes them, a smaller one does not",
        arguments: RingFormat.allCases, HeaderReport.allCases)
    func smallSlots(format: RingFormat, report: HeaderReport) throws {
        let front = report == .netHeader ? 0 : 12
        for words in 0...10 {
            let packet = TestFrames.tcp4([1, 2], optionWords: words)
            let fits = 54 + 4 * words + front <= 64
            let rig = try format.rig(method: .headerQueue(report), slots: (64, 8))
            rig.post(0)
            #expect(rig.enqueue([packet]).fates == [true])
            #expect(rig.queue.counters.split == (fits ? 1 : 0))
            #expect(rig.queue.counters.fallback == (fits ? [:] : [.headerTooLong: 1]))
            // The next slot was not touched.
            let next = EvilRig.headerAddress + 256 + 64
            #expect(rig.guest.read(next, 64 * 7).allSatisfy { $0 == 0 })
        }
    }

    @Test("D14: a header queue of another guest is refused", arguments: RingFormat.allCases)
    func isolation(format: RingFormat) throws {
        let own = try format.rig(method: .headerQueue(.usedLength), slots: (128, 8))
        let other = try format.rig(method: .headerQueue(.usedLength), slots: (128, 8))
        var configuration = own.queue.configuration
        configuration.headerQueue = other.headerQueue
        let refusal = #expect(throws: SetupError.self) {
            try ArenaSupply(chunk: 1 << 18).queue(configuration)
        }
        #expect(
            refusal?.description
                == "the header queue belongs to another guest: its memory is not the RQ's guest's")
    }

    @Test(
        "D18: RQs that take turns on one CPU wait for nobody", arguments: RingFormat.allCases)
    func oneCPU(format: RingFormat) throws {
        let guest = try EvilGuest()
        let headers = EvilHeaderQueue(guest, slotCount: 16, at: EvilRig.headerAddress)
        let headerQueue = try HeaderQueue(headers.layout, memory: guest.memory)
        let cpu = try #require(CPUSet.allowed().cpus.first)
        let drivers = (0..<3).map { OneCPUDriver(format, guest, headerQueue, $0) }
        let threads = try drivers.enumerated().map { number, driver in
            try PinnedThread(name: "rq\(number)", cpu: cpu) { try? driver.run(rounds: 300) }
        }
        for thread in threads { thread.join() }
        for counters in drivers.map(\.counters) {
            #expect(counters.packets == 300 && counters.fault == .none)
            #expect(counters.split + counters.fallback[.noSlot, default: 0] == 300)
        }
        // Nobody moved the tail: the first 16 packets split, all the others went whole.
        #expect(headerQueue.claimedCount == 16 && !headerQueue.isBroken && guest.bandsAreIntact)
    }
}

/// One RQ with a ring of its own in shared guest memory, run by one thread to its end.
private final class OneCPUDriver: @unchecked Sendable {
    // SAFETY: one thread uses it, from its start to its end.
    private let format: RingFormat
    private let guest: EvilGuest
    private let headerQueue: HeaderQueue
    private let number: Int
    private let arenas = ArenaSupply(chunk: 1 << 18)
    private(set) var counters = RxCounters()

    init(_ format: RingFormat, _ guest: EvilGuest, _ headerQueue: HeaderQueue, _ number: Int) {
        self.format = format
        self.guest = guest
        self.headerQueue = headerQueue
        self.number = number
    }

    func run(rounds: Int) throws {
        let address = EvilRig.ringAddress + UInt64(number) * 0x1000
        var split = EvilRing(guest, size: 4, at: address)
        var packed = PackedEvilRing(guest, size: 4, at: address + 0x800)
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: format == .split ? split.addresses : packed.addresses,
                features: .mergeableBuffers, memory: guest.memory,
                method: .headerQueue(.usedLength), headerQueue: headerQueue))
        let port = MockPort()
        let page = EvilRig.page(number)
        for round in 0..<rounds {
            if format == .split {
                split.describe(round % 4, page, 4096)
                split.post(round % 4)
            } else {
                packed.post([(page, 4096)], id: round % 4)
            }
            _ = port.enqueue([TestFrames.tcp4([1])], to: queue)
        }
        counters = queue.counters
    }
}
