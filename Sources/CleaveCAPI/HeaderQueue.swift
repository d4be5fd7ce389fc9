// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveEngine
import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// A header queue of one guest.
final class HeaderQueueObject: HandleObject, @unchecked Sendable {
    // SAFETY: constant, but for a shared word, and what is changed under the lock; the queue guards
    // itself.

    let memory: MemoryObject
    let queue: HeaderQueue
    /// 1 once the log was told that the driver broke it; 0 again after a reset.
    private let reported: SharedWord64
    private let words: UnsafeMutableRawPointer
    /// Return rings of RQs that may claim.
    private var ringsInUse: Set<Int> = []
    private let ringLock = Lock()

    init(_ memory: MemoryObject, _ layout: HeaderQueueLayout, base: UInt32) throws(Refusal) {
        self.memory = memory
        do { queue = try HeaderQueue(layout, memory: memory.memory, base: base) } catch {
            throw Refusal(error)
        }
        words = .allocate(byteCount: 8, alignment: 8)
        words.storeBytes(of: 0, as: UInt64.self)
        reported = SharedWord64(words)
        super.init(parents: [memory])
    }

    deinit { words.deallocate() }

    /// Tells the log, once until a reset, that the driver broke the queue.
    func reportBroken() {
        // [C3 both ways: one of several RQs tells]
        if reported.load() != 0 || !reported.compareExchange(expected: 0, desired: 1).exchanged {
            return
        }
        memory.context.log(
            .error, "the driver broke its header queue: packets go whole until it is reset")
    }

    override class var type: HandleType? { .headerQueue }

    /// Resets the queue while nobody polls an RQ that is linked to it.
    func reset() throws(Refusal) {
        try HandleTable.hold(allMadeFrom: self) { users in
            RxEngine.reset(queue, ofRQsIn: users.compactMap { ($0 as? EngineObject)?.engine })
            reported.store(0)
        }
    }

    /// Where another queue over the same slots resumes, once nobody claims any more.
    func base() throws(Refusal) -> UInt32 {
        var base: UInt32 = 0
        var claims = 0
        try HandleTable.hold(allMadeFrom: self) { users in
            // RQs and engines; lanes are an engine's.
            let linked = users.filter { $0.parents.contains { $0 === self } }
            claims = linked.count { !(($0 as? ReceiveQueueObject)?.isStopped ?? false) }
            base = queue.base
        }
        guard claims == 0 else {
            throw Refusal(
                Refusal.busy, "\(claims) RQs or engines that may claim slots are linked to it")
        }
        queue.storePositions()
        return base
    }

    /// Takes return rings for RQs, each for one.
    /// - Returns: what gives them back; nil if RQs share a ring or need none.
    func lease(_ rings: [Int]) throws(Refusal) -> ReturnRingLease? {
        if queue.layout.slotReturn != .groups { return nil }
        var taken: [Int] = []
        for ring in rings {
            let isFree = ringLock.withLock { ringsInUse.insert(ring).inserted }
            guard isFree else {
                giveBack(taken)
                throw Refusal(
                    Refusal.busy, "return_ring \(ring) is that of another RQ of the header queue")
            }
            taken.append(ring)
        }
        return ReturnRingLease(self, taken)
    }

    fileprivate func giveBack(_ rings: [Int]) {
        ringLock.withLock { ringsInUse.subtract(rings) }
    }
}

/// Return rings that an RQ or an engine has, until this is freed.
final class ReturnRingLease: Sendable {
    private let queue: HeaderQueueObject
    private let rings: [Int]

    fileprivate init(_ queue: HeaderQueueObject, _ rings: [Int]) {
        self.queue = queue
        self.rings = rings
    }

    deinit { queue.giveBack(rings) }
}

extension cleave_header_queue_config {
    /// Size before `returns` was added.
    fileprivate static let firstByteCount = 32
}

@c @implementation
public func cleave_header_queue_create(
    _ memory: OpaquePointer!, _ config: UnsafePointer<cleave_header_queue_config>!,
    _ queue: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    create(
        under: memory, as: MemoryObject.self, config, zero: cleave_header_queue_config(),
        minimum: cleave_header_queue_config.firstByteCount, to: queue, named: "queue"
    ) { parent, configuration throws(Refusal) in
        guard configuration.reserved == 0 else { throw .invalid("config->reserved is not 0") }
        guard configuration.reserved2 == 0 else { throw .invalid("config->reserved2 is not 0") }
        var layout = HeaderQueueLayout(
            base: try parent.guestAddress(configuration.slots, "config->slots"),
            control: try parent.guestAddress(configuration.control, "config->control"),
            slotSize: Int(configuration.slot_size), slotCount: Int(configuration.slot_count))
        if let returns = configuration.returns {
            layout.returnRing = try parent.guestAddress(returns, "config->returns")
        }
        let (rings, size) = (Int(configuration.group_rings), Int(configuration.group_size))
        if rings > 0 {
            guard configuration.returns != nil else {
                throw .invalid("config->group_rings is \(rings), but config->returns is NULL")
            }
            (layout.groupRingCount, layout.groupSize) = (rings, size)
        } else if size != 0 {
            throw .invalid("config->group_size is \(size), but config->group_rings is 0")
        }
        return try HeaderQueueObject(parent, layout, base: configuration.base)
    }
}

@c @implementation
public func cleave_header_queue_destroy(_ queue: OpaquePointer!) -> Int32 {
    destroy(queue, as: HeaderQueueObject.self)
}

@c @implementation
public func cleave_header_queue_get_status(
    _ queue: OpaquePointer!, _ status: UnsafeMutablePointer<cleave_header_queue_status>!
) -> Int32 {
    exclusive(queue, as: HeaderQueueObject.self) { object throws(Refusal) in
        var value = cleave_header_queue_status()
        value.broken = object.queue.isBroken ? 1 : 0
        value.claimed = object.queue.claimedCount
        value.free = UInt64(object.queue.freeCount)
        value.duplicates = object.queue.duplicateCount
        try writeSized(value, to: status, "status")
        return 0
    }
}

@c @implementation
public func cleave_header_queue_reset(_ queue: OpaquePointer!) -> Int32 {
    exclusive(queue, as: HeaderQueueObject.self) { object throws(Refusal) in
        try object.reset()
        return 0
    }
}

@c @implementation
public func cleave_header_queue_get_base(
    _ queue: OpaquePointer!, _ base: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(queue, as: HeaderQueueObject.self) { object throws(Refusal) in
        guard let base else { throw .null("base") }
        base.pointee = try object.base()
        return 0
    }
}
