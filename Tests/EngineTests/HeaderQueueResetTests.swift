// A header queue is reset while its RQs run and its drivers have slots: nobody writes those slots
// before the drivers are done with them, whatever the cursors, and then all slots are there again.
import CleaveHost
import CleaveTestSupport
import Testing

@testable import CleaveEngine
@testable import CleaveGuestDriver
@testable import CleaveVirtioNet

/// A device with two RQs that share one header queue, polled by hand.
private final class Device {
    static let slotCount = 8
    let driverQueue: DriverHeaderQueue
    let deviceQueue: HeaderQueue
    let engine: RxEngine
    let drivers: [RxDriver]
    private let start: Int
    private let space: GuestSpace
    private var refs: [PacketRef]
    private let port = MockPort()

    /// - Parameter start: slots that were claimed before, by the tail; a multiple of `slotCount`.
    init(_ slotReturn: SlotReturn, start: UInt64 = 0) throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let driverQueue = try DriverHeaderQueue(
            slotSize: 128, slotCount: Self.slotCount, slotReturn: slotReturn, rqCount: 2,
            groupSize: 2, in: space)
        let deviceQueue = try HeaderQueue(driverQueue.layout, memory: space.memory)
        if start > 0 {
            deviceQueue.claimer.claimedHead.store(start)
            let tail = UInt32(truncatingIfNeeded: start) &+ UInt32(Self.slotCount)
            deviceQueue.claimer.driverTail.store(tail)
        }
        let drivers = try (0..<2).map { rq in
            var configuration = RxDriverConfiguration(
                ringSize: 16, shape: .mergeable(bufferByteCount: 1024),
                method: .headerQueue(.usedLength), headerQueue: driverQueue, burst: 16)
            configuration.returnRing = slotReturn == .groups ? rq : 0
            return try RxDriver(configuration, in: space)
        }
        engine = try RxEngine(
            queues: drivers.map {
                var queue = RxQueueConfiguration(
                    virtqueue: $0.virtqueue, features: $0.configuration.allFeatures,
                    memory: space.memory, method: $0.configuration.method,
                    headerQueue: deviceQueue)
                queue.returnRing = $0.configuration.returnRing
                return queue
            }, plan: QueuePlan(unpinned: 2), ringCapacity: 16)
        for driver in drivers { driver.refill() }
        refs = port.references((0..<8).map { SourcePacket(TestFrames.tcp4([UInt8($0)])) })
        self.start = Int(start)
        self.space = space
        self.driverQueue = driverQueue
        self.deviceQueue = deviceQueue
        self.drivers = drivers
    }

    /// Configuration of a further RQ, with a header queue of its own.
    func anotherQueue() throws -> RxQueueConfiguration {
        let driver = try RxDriver(drivers[0].configuration, in: space)
        driver.refill()
        return RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: space.memory, method: driver.configuration.method,
            headerQueue: try HeaderQueue(driverQueue.layout, memory: space.memory))
    }

    func deliver(_ rq: Int, _ count: Int) {
        _ = engine.submit(rq, &refs, count: count)
        _ = engine.poll(rq)
        var done = refs
        while engine.reap(rq, into: &done, count: 8) > 0 {}
    }

    /// - Returns: the slots of all packets that RQ `rq` has reported.
    func harvest(_ rq: Int) throws -> [Int] {
        let base = try #require(space.memory.translate(driverQueue.layout.base, byteCount: 1))
        _ = drivers[rq].harvest()
        return drivers[rq].packets.filter(\.isSplit).map {
            ($0.headers - UnsafeRawPointer(base)) / 128
        }
    }

    func finish(_ rq: Int) {
        drivers[rq].finish()
        drivers[rq].refill()
    }

    /// Every slot can be claimed, reported and retired, lap after lap.
    func expectRound() throws {
        try #require(deviceQueue.freeCount == Self.slotCount && !deviceQueue.isBroken)
        // Whole groups, so that none waits for the rest of one.
        for (round, count) in [8, 2, 4, 2, 6, 8, 8].enumerated() {
            deliver(round % 2, count)
            try #require(deviceQueue.freeCount == Self.slotCount - count)
            try #require(try Set(harvest(round % 2)).count == count)
            finish(round % 2)
            try #require(deviceQueue.freeCount == Self.slotCount)
        }
        try #require(deviceQueue.duplicateCount == 0 && driverQueue.doubleRetireCount == 0)
        try #require(engine.unreportedSlots(of: deviceQueue) == start)
    }
}

@Suite("Reset of a header queue")
struct HeaderQueueResetTests {
    /// Around the wrap of the 32-bit tail, and far from it.
    private static let starts: [UInt64] = [
        0, 8, 0x8000_0000, 0xffff_ffe8, 0xffff_fff0, 0xffff_fff8, 0x1_0000_0000, 0x3_ffff_fff0,
    ]

    @Test("Slots that were reported before are harvested after it, not written meanwhile")
    func reported() throws {
        try withEvery(
            Axis("start", [nil] + Self.starts), Axis("reported", Array(0...8)),
            Axis("retired", [0, 1, 3])
        ) { start, reported, retired in
            let device = try Device(start == nil ? .ring : .tail, start: start ?? 0)
            for _ in 0..<retired {
                device.deliver(0, 1)
                _ = try device.harvest(0)
                device.finish(0)
            }
            let free = device.deviceQueue.freeCount
            device.deliver(0, reported)
            device.driverQueue.prepareReset()
            // RQs run until the reset pauses them.
            device.deliver(1, 8)
            device.engine.reset(device.deviceQueue)
            // And resume before the driver gives slots again.
            device.deliver(1, 8)
            let slots = try device.harvest(0) + device.harvest(1)
            try #require(Set(slots).count == slots.count && slots.count >= min(reported, free))
            for driver in device.drivers { driver.forgetSlots() }
            for rq in 0..<2 { device.finish(rq) }
            try #require(device.deviceQueue.freeCount == 0 && !device.deviceQueue.isBroken)
            device.driverQueue.finishReset()
            try device.expectRound()
        }
    }

    @Test("An honest driver's queue is not broken while it is reset", arguments: starts)
    func honest(_ start: UInt64) throws {
        let device = try Device(.tail, start: start)
        device.deliver(0, 5)
        device.driverQueue.prepareReset()
        device.deliver(1, 8)
        #expect(!device.deviceQueue.isBroken)
        #expect(device.engine.counters.split == 8)
    }

    @Test("A broken queue is mended, wherever its tail was moved to", arguments: starts)
    func broken(_ start: UInt64) throws {
        for jump: UInt32 in [4, 11, 0x7fff_ffff, 0xffff_fff8] {
            let device = try Device(.tail, start: start)
            device.deliver(0, 3)
            let tail = device.deviceQueue.claimer.driverTail
            tail.store(tail.load() &+ jump)
            device.deliver(1, 2)
            try #require(device.deviceQueue.isBroken)
            device.driverQueue.prepareReset()
            device.engine.reset(device.deviceQueue)
            for rq in 0..<2 {
                _ = try device.harvest(rq)
                device.drivers[rq].forgetSlots()
                device.finish(rq)
            }
            device.driverQueue.finishReset()
            try device.expectRound()
        }
    }

    @Test("A header queue that comes where another one was owes that one's reports nothing")
    func successor() throws {
        let device = try Device(.tail)
        let layout = device.driverQueue.layout
        var queue = try device.anotherQueue()
        let rq = try device.engine.add(queue, at: .init(cpu: nil, node: nil))
        device.deliver(rq, 1)
        let first = try #require(queue.headerQueue)
        #expect(device.engine.counters(rq).slots == 1)
        #expect(device.engine.unreportedSlots(of: first) == 0)
        let place = ObjectIdentifier(first)
        _ = try device.engine.remove(rq)
        #expect(device.engine.unreportedSlots(of: first) == 0)
        queue.headerQueue = nil
        _ = consume first
        for _ in 0..<100 {
            let successor = try HeaderQueue(layout, memory: queue.memory)
            #expect(device.engine.unreportedSlots(of: successor) == 0)
            if ObjectIdentifier(successor) == place { break }
        }
    }

    @Test("Entries that the driver takes back are none, in no lap of the return ring")
    func laps() throws {
        let space = try GuestSpace(byteCount: 1 << 16, pages: .small)
        let driver = try DriverHeaderQueue(
            slotSize: 64, slotCount: 1, slotReturn: .ring, in: space)
        let device = try HeaderQueue(driver.layout, memory: space.memory)
        var slot: UInt16 = 0
        for lap in 0..<1 << 17 {
            let claim = device.claimer.claim(1, into: &slot)
            try #require(claim.count == 1)
            device.claimer.report(&slot, claim)
            // Near the ends of 15 and 16 bits.
            if (lap + 2) & 0x7fff <= 4 {
                // The slot is the driver's: if it reset the queue now, nothing would be free.
                let ring = try #require(
                    space.memory.translate(driver.layout.returnRing!, byteCount: 4))
                let entry = ring.load(as: UInt32.self)
                driver.prepareReset()
                try #require(device.freeCount == 0 && device.duplicateCount == 0)
                ring.storeBytes(of: entry, as: UInt32.self)
            }
            driver.retire(first: 0, count: 1)
        }
    }

    @Test("Two RQs of one engine cannot have one return ring")
    func oneRingForTwo() throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let driverQueue = try DriverHeaderQueue(
            slotSize: 64, slotCount: 16, slotReturn: .groups, rqCount: 2, in: space)
        let deviceQueue = try HeaderQueue(driverQueue.layout, memory: space.memory)
        let queues = try (0..<2).map { _ in
            let driver = try RxDriver(
                RxDriverConfiguration(
                    ringSize: 16, shape: .mergeable(bufferByteCount: 1024),
                    method: .headerQueue(.usedLength), headerQueue: driverQueue, burst: 16),
                in: space)
            return RxQueueConfiguration(
                virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
                memory: space.memory, method: driver.configuration.method,
                headerQueue: deviceQueue)
        }
        let refusal = #expect(throws: SetupError.self) {
            try RxEngine(queues: queues, plan: QueuePlan(unpinned: 2))
        }
        #expect(
            refusal?.description == "RQ 1: return ring 0 of its header queue is that of RQ 0")
        let engine = try RxEngine(queues: [queues[0]], plan: QueuePlan(unpinned: 1))
        var other = queues[1]
        other.returnRing = 1
        #expect(try engine.add(other, at: .init(cpu: nil, node: nil)) == 1)
        try engine.reset(1)
        #expect(throws: SetupError.self) { try engine.enable(1, queues[1]) }
        try engine.enable(1, other)
    }
}
