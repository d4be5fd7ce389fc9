// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// A transmit queue on its caller's threads.
final class TransmitQueueObject: QueueObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell uses `queue`; counters may be read by any
    // thread.

    private let queue: TxQueue
    /// As in `ReceiveQueueObject`.
    private let unowned: Unmanaged<TxQueue>
    private let arena: MemoryArena
    /// Of a queue of a `cleave_vhost`, if its driver kicks.
    let kick: NotificationDescriptor?

    /// - Parameter mappings: as for `QueueObject`.
    init(
        _ context: ContextObject, _ configuration: TxQueueConfiguration, node: Int?,
        parents: [HandleObject], mappings: MappedMemory? = nil,
        kick: NotificationDescriptor? = nil
    ) throws(Refusal) {
        self.kick = kick
        arena = try context.makeArena(byteCount: configuration.arenaByteCount, node: node)
        do { queue = try TxQueue(configuration, in: arena) } catch { throw Refusal(error) }
        unowned = Unmanaged.passUnretained(queue)
        super.init(context, parents: parents, mappings: mappings)
        log(.info, "TXQ of \(configuration.virtqueue.size) entries created")
    }

    override class var type: HandleType? { .txq }
    override class var name: String { "transmit" }
    override var fault: QueueFault { queue.fault }
    override var position: UInt16 { queue.base }

    /// Packets that are out point into memory that ends with the queue.
    override func checkNothingIsOut() throws(Refusal) {
        if queue.heldCount > 0 {
            throw Refusal(Refusal.busy, "\(queue.heldCount) packets are out")
        }
    }

    override func giveAllBack() { _ = queue.complete(queue.heldCount) }

    func setKicks(enabled: Bool) throws(Refusal) {
        try checkRunning()
        queue.setKicks(enabled: enabled)
        if !enabled { kick?.drain() }
    }

    @inline(__always)
    borrowing func dequeue(
        _ packets: UnsafeMutablePointer<cleave_packet>, _ count: Int, _ events: inout UInt32
    ) throws(Refusal) -> Int32 {
        try checkRunning()
        // SAFETY: the two structures have one layout, checked in slots.c and in the tests; `queue`
        // keeps the queue alive.
        let packets = UnsafeMutableRawPointer(packets).assumingMemoryBound(to: TxPacket.self)
        let result = unowned._withUnsafeGuaranteedRef { $0.dequeue(packets, count: count) }
        events |= result.events.rawValue
        if result.count < count { reportFault(&events) }
        return Int32(truncatingIfNeeded: result.count)
    }

    @inline(__always)
    borrowing func complete(_ count: Int, _ events: inout UInt32) throws(Refusal) -> Int32 {
        try checkRunning()
        guard let happened = unowned._withUnsafeGuaranteedRef({ $0.complete(count) }) else {
            throw .invalid(
                "count \(count) is more than the \(queue.heldCount) packets that are out")
        }
        events |= happened.rawValue
        return 0
    }

    var counters: TxCounters { queue.counters }
}

extension cleave_txq_config {
    /// Size before `features_high` was added.
    fileprivate static let firstByteCount = 64
}

/// A `cleave_txq_config`, checked and translated.
func transmitPlan(
    _ config: cleave_txq_config, _ memory: MemoryObject
) throws(Refusal) -> (TxQueueConfiguration, node: Int?) {
    let known =
        CLEAVE_TXQ_CALL_FD.rawValue | CLEAVE_TXQ_NODE.rawValue
        | CLEAVE_TXQ_IOVA_IS_GUEST_PHYSICAL.rawValue
    guard config.flags & ~known == 0 else {
        throw .invalid("flags 0x\(String(config.flags, radix: 16)) has unknown bits")
    }
    guard config.reserved == 0 else { throw .invalid("reserved is not 0") }
    guard config.reserved2 == 0 else { throw .invalid("reserved2 is not 0") }
    func has(_ flag: cleave_txq_flags) -> Bool { config.flags & flag.rawValue != 0 }
    let (hasCall, hasNode) = (has(CLEAVE_TXQ_CALL_FD), has(CLEAVE_TXQ_NODE))
    guard !hasCall || config.call_fd >= 0 else { throw .invalid("call_fd is \(config.call_fd)") }
    guard !hasNode || config.node >= 0 else { throw .invalid("node is \(config.node)") }
    try FeatureWord.check(
        config.features, high: config.features_high,
        iovaIsGuestPhysical: has(CLEAVE_TXQ_IOVA_IS_GUEST_PHYSICAL))
    let virtqueue = try ReceiveQueuePlan.virtqueue(
        features: config.features, size: config.size,
        areas: (config.descriptor_area, config.driver_area, config.device_area),
        last: (config.last_avail, config.last_used), memory)
    return (
        TxQueueConfiguration(
            virtqueue: virtqueue, features: VirtioFeatures(rawValue: config.features),
            memory: memory.memory, callDescriptor: hasCall ? config.call_fd : -1),
        hasNode ? Int(config.node) : nil
    )
}

@c @implementation
public func cleave_txq_create(
    _ memory: OpaquePointer!, _ config: UnsafePointer<cleave_txq_config>!,
    _ txq: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    create(
        under: memory, as: MemoryObject.self, config, zero: cleave_txq_config(),
        minimum: cleave_txq_config.firstByteCount, to: txq, named: "txq"
    ) { parent, configuration throws(Refusal) in
        let (checked, node) = try transmitPlan(configuration, parent)
        return try TransmitQueueObject(parent.context, checked, node: node, parents: [parent])
    }
}

@c @implementation
public func cleave_txq_dequeue_burst(
    _ txq: OpaquePointer!, _ packets: UnsafeMutablePointer<cleave_packet>!, _ count: UInt32,
    _ events: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(txq, as: TransmitQueueObject.self, telling: events) {
        object, happened throws(Refusal) in
        guard let packets else { throw .null("packets") }
        return try object.dequeue(packets, Int(min(count, UInt32(Int32.max))), &happened)
    }
}

@c @implementation
public func cleave_txq_complete(
    _ txq: OpaquePointer!, _ count: UInt32, _ events: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(txq, as: TransmitQueueObject.self, telling: events) {
        object, happened throws(Refusal) in try object.complete(Int(count), &happened)
    }
}

@c @implementation
public func cleave_txq_set_kicks(_ txq: OpaquePointer!, _ enabled: Int32) -> Int32 {
    exclusive(txq, as: TransmitQueueObject.self) { object throws(Refusal) in
        try object.setKicks(enabled: enabled != 0)
        return 0
    }
}

@c @implementation
public func cleave_txq_stop(
    _ txq: OpaquePointer!, _ base: UnsafeMutablePointer<UInt16>!
) -> Int32 {
    stop(txq, as: TransmitQueueObject.self, base)
}

@c @implementation
public func cleave_txq_destroy(_ txq: OpaquePointer!) -> Int32 {
    destroy(
        txq, as: TransmitQueueObject.self,
        check: { object throws(Refusal) in
            try object.checkIsProgram()
            try object.checkNothingIsOut()
        })
}

@c @implementation
public func cleave_txq_get_counters(
    _ txq: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_txq_counters>!
) -> Int32 {
    report(on: txq, as: TransmitQueueObject.self, to: counters) { cleave_txq_counters($0.counters) }
}
