// A guest and a port around an engine: packets that the drivers harvest are compared with those
// that the port submitted, byte for byte.
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveVirtioNet
import Glibc

/// Frames in memory, TCP over IPv4 of many sizes; nothing changes after `init`.
final class Frames: @unchecked Sendable {
    // SAFETY: written in `init` only.
    let refs: UnsafeMutableBufferPointer<PacketRef>
    private let memory: UnsafeMutableRawPointer
    static let headerByteCount = 14 + 20 + 20

    init(byteCounts: [Int]) {
        let stride = (byteCounts.max()! + 127) & ~63
        memory = .allocate(byteCount: stride * byteCounts.count, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: stride * byteCounts.count)
        refs = .allocate(capacity: byteCounts.count)
        for (index, byteCount) in byteCounts.enumerated() {
            let frame = memory + index * stride
            Self.fill(frame, byteCount, index)
            (refs.baseAddress! + index).initialize(
                to: PacketRef(frame, byteCount: byteCount, cookie: UInt16(index)))
        }
    }

    deinit {
        memory.deallocate()
        refs.deallocate()
    }

    private static func fill(_ frame: UnsafeMutableRawPointer, _ byteCount: Int, _ index: Int) {
        let bytes = frame.assumingMemoryBound(to: UInt8.self)
        for offset in 0..<byteCount {
            bytes[offset] = UInt8(truncatingIfNeeded: offset &* 7 + index)
        }
        let total = byteCount - 14
        let ip: [UInt8] = [
            0x08, 0x00, 0x45, 0, UInt8(total >> 8), UInt8(total & 0xff), 0, 0, 0, 0, 64, 6,
        ]
        for (offset, byte) in ip.enumerated() { bytes[12 + offset] = byte }
        bytes[14 + 20 + 12] = 0x50  // data offset: 20 bytes
    }

    /// Sizes around every border that placement knows: headers only, small, one page, several.
    static let mixed = Frames(
        byteCounts: [54, 55, 64, 1500, 60, 4096, 4095, 9000, 128, 64, 4150, 256, 8246, 64, 1514])
}

/// A guest with one driver for each RQ of an engine, and some to spare.
final class EngineGuest: @unchecked Sendable {
    // SAFETY: constants; each driver is used by one thread at a time.
    let engine: RxEngine
    let drivers: [RxDriver]
    let headerQueue: DriverHeaderQueue
    let deviceQueue: HeaderQueue
    let memory: GuestMemory
    let frames = Frames.mixed

    /// - Parameters:
    ///   - spares: drivers beyond one for each RQ, numbered after those.
    ///   - kick: the eventfd of the RQs' kicks.
    init(
        rqs: Int, ring: RingFormat = .split, method: RxMethod, slots: Int = 64,
        slotReturn: SlotReturn = .tail, ringSize: Int = 64, spares: Int = 0,
        idle: IdlePolicy = .pause, kick: Int32 = -1
    ) throws {
        let space = try GuestSpace(
            byteCount: (rqs + spares) * (ringSize * 4096 + 65536) + slots * 128 + 65536
                + (rqs + spares) * (slots * 4 + 256))
        let headerQueue = try DriverHeaderQueue(
            slotSize: 128, slotCount: slots, slotReturn: slotReturn, rqCount: rqs + spares,
            in: space)
        let deviceQueue = try HeaderQueue(headerQueue.layout, memory: space.memory)
        let drivers = try (0..<rqs + spares).map { number in
            var configuration = RxDriverConfiguration(
                ringSize: ringSize, ring: ring, shape: .mergeable(bufferByteCount: 4096),
                method: method, headerQueue: method.needsHeaderQueue ? headerQueue : nil,
                burst: 16)
            configuration.returnRing = slotReturn == .groups ? number : 0
            return try RxDriver(configuration, in: space)
        }
        memory = space.memory
        let queues = drivers.prefix(rqs).map {
            var queue = Self.configuration($0, space.memory, deviceQueue)
            queue.kickDescriptor = kick
            return queue
        }
        engine = try RxEngine(
            queues: queues, plan: QueuePlan(unpinned: rqs), ringCapacity: 128, idle: idle)
        self.drivers = drivers
        self.headerQueue = headerQueue
        self.deviceQueue = deviceQueue
    }

    private static func configuration(
        _ driver: RxDriver, _ memory: GuestMemory, _ headerQueue: HeaderQueue
    ) -> RxQueueConfiguration {
        var configuration = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: memory, method: driver.configuration.method,
            headerQueue: driver.configuration.headerQueue.map { _ in headerQueue }, burst: 16)
        configuration.returnRing = driver.configuration.returnRing
        return configuration
    }

    /// Configuration of an RQ over driver number `driver`.
    func configuration(driver: Int) -> RxQueueConfiguration {
        Self.configuration(drivers[driver], memory, deviceQueue)
    }
}

/// The driver of one RQ on a thread of its own.
final class DriverThread: @unchecked Sendable {
    // SAFETY: the properties are the thread's until `finish` has joined it; `goal` is shared.
    private let driver: RxDriver
    private let frames: Frames
    private var thread: PinnedThread?
    /// Packets after which the thread ends; it may come down while the thread runs.
    private let goal = SharedWords(count: 1)
    private(set) var harvested: Int
    private(set) var corrupt = 0
    private(set) var split = 0

    /// - Parameters:
    ///   - rq: the driver's number, which is that of its RQ unless it is a spare one.
    ///   - first: packets of this RQ that were harvested before.
    init(_ guest: EngineGuest, rq: Int, first: Int = 0, until end: Int) throws {
        driver = guest.drivers[rq]
        frames = guest.frames
        harvested = first
        goal[0].store(UInt64(end))
        thread = try PinnedThread(name: "driver\(rq)", cpu: nil) { self.run() }
    }

    /// Waits for the thread; no more than `end` packets are coming.
    func finish(at end: Int? = nil) {
        if let end { goal[0].store(UInt64(end)) }
        thread?.join()
    }

    private func run() {
        var patience = Patience()
        driver.refill()
        while harvested < Int(goal[0].load()) {
            let count = harvest()
            driver.finish()
            driver.refill()
            if !patience.wait(after: count) || driver.fault != .none { return }
        }
    }

    /// After the thread has ended: harvests up to `end` packets and more, and forgets their slots.
    func takeBack(upTo end: Int) -> Bool {
        var patience = Patience()
        while harvested < end {
            let count = harvest()
            driver.forgetSlots()
            driver.finish()
            if !patience.wait(after: count) || driver.fault != .none { return false }
        }
        return true
    }

    private func harvest() -> Int {
        let count = driver.harvest()
        for packet in driver.packets {
            let ref = frames.refs[harvested % frames.refs.count]
            if !isIntact(packet, ref) { corrupt += 1 }
            split += packet.isSplit ? 1 : 0
            harvested += 1
        }
        return count
    }

    private func isIntact(_ packet: ReceivedPacket, _ ref: PacketRef) -> Bool {
        guard packet.byteCount == Int(ref.byteCount) else { return false }
        var offset = Int(packet.headerLength)
        if packet.isSplit {
            guard offset == Frames.headerByteCount, memcmp(packet.headers, ref.pointer, offset) == 0
            else { return false }
        }
        for index in 0..<Int(packet.pieceCount) {
            let piece = driver.pieces[Int(packet.firstPiece) + index]
            guard memcmp(piece.pointer, ref.pointer + offset, Int(piece.byteCount)) == 0 else {
                return false
            }
            offset += Int(piece.byteCount)
        }
        return offset == Int(ref.byteCount)
    }
}

/// The port of all RQs, on the thread of the test.
struct Port {
    let guest: EngineGuest
    private(set) var submitted: [Int]
    private(set) var reaped: [Int]
    private(set) var dropped = 0
    /// Completions that came back in another order than they were submitted.
    private(set) var misplaced = 0

    init(_ guest: EngineGuest) {
        self.guest = guest
        submitted = Array(repeating: 0, count: guest.drivers.count)
        reaped = submitted
    }

    /// Submits up to `limit` packets in all to `rq`, as far as there is room.
    mutating func submit(_ rq: Int, upTo limit: Int) -> Int {
        let refs = guest.frames.refs
        let position = submitted[rq] % refs.count
        let run = min(refs.count - position, limit - submitted[rq])
        let taken = guest.engine.submit(rq, refs.baseAddress! + position, count: run)
        submitted[rq] += taken
        return taken
    }

    mutating func reap(_ rq: Int) -> Int {
        let refs = UnsafeMutablePointer<PacketRef>.allocate(capacity: 32)
        defer { refs.deallocate() }
        let count = guest.engine.reap(rq, into: refs, count: 32)
        for index in 0..<count {
            if refs[index].flags.contains(.dropped) { dropped += 1 }
            if Int(refs[index].cookie) != reaped[rq] % guest.frames.refs.count { misplaced += 1 }
            reaped[rq] += 1
        }
        return count
    }

    /// Submits until each RQ has had `limit`, and reaps until `limit` came back of each.
    mutating func carry(upTo limit: Int) -> Bool {
        var patience = Patience()
        let rqs = guest.engine.rqs
        while rqs.contains(where: { reaped[$0] < limit }) {
            var progress = 0
            for rq in rqs { progress += submit(rq, upTo: limit) + reap(rq) }
            if !patience.wait(after: progress) { return false }
        }
        return true
    }

    /// RQ `rq` starts over.
    mutating func forget(_ rq: Int) {
        submitted[rq] = 0
        reaped[rq] = 0
    }

    /// Reaps the completions that are already there.
    mutating func reapAll() {
        for rq in guest.engine.rqs { while reap(rq) > 0 {} }
    }
}
