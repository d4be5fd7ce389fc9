// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveHost
import CleaveRings
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// An RQ on its caller's threads.
final class ReceiveQueueObject: QueueObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell uses `queue` and `burst`; counters may be read
    // by any thread.

    private let queue: RxQueue
    /// The same without a reference count: a retain and a release would cost more than the call.
    private let unowned: Unmanaged<RxQueue>
    private let burst: PacketBurst
    private let arena: MemoryArena
    private let headerQueue: HeaderQueueObject?
    /// Until it is stopped.
    private var ring: ReturnRingLease?

    /// - Parameters:
    ///   - parents: beside the header queue.
    ///   - mappings: as for `QueueObject`.
    init(
        _ context: ContextObject, _ plan: ReceiveQueuePlan, parents: [HandleObject],
        mappings: MappedMemory? = nil
    ) throws(Refusal) {
        ring = try plan.headerQueue?.lease([plan.configuration.returnRing])
        let capacity = plan.configuration.burst
        let refByteCount =
            PacketBurst.refCapacity(packets: capacity) * MemoryLayout<PacketRef>.stride
        arena = try context.makeArena(
            byteCount: plan.configuration.arenaByteCount + refByteCount + 2 * CacheLine.byteCount,
            node: plan.node)
        do {
            queue = try RxQueue(plan.configuration, in: arena)
            burst = PacketBurst(
                refs: try arena.allocate(byteCount: refByteCount)
                    .assumingMemoryBound(to: PacketRef.self), packetCapacity: capacity)
        } catch let error as SetupError {
            throw Refusal(error)
        } catch { throw Refusal(-ENOMEM, "\(error)") }
        headerQueue = plan.headerQueue
        unowned = Unmanaged.passUnretained(queue)
        super.init(
            context, parents: parents + (plan.headerQueue.map { [$0] } ?? []), mappings: mappings)
        log(.info, "RQ of \(plan.configuration.virtqueue.size) entries created")
    }

    override func wasStopped() { ring = nil }
    override class var type: HandleType? { .rq }
    override class var name: String { "receive" }
    override var fault: QueueFault { queue.fault }
    override var position: UInt16 { queue.base }

    /// One burst after the other until `count` packets are placed, or some of a burst are not.
    @inline(__always)
    borrowing func enqueue(
        _ packets: UnsafeMutablePointer<cleave_packet>, _ count: Int, _ events: inout UInt32
    ) throws(Refusal) -> Int32 {
        try checkRunning()
        var done = 0
        while done < count {
            let converted = burst.convert(UnsafeRawPointer(packets + done), count &- done)
            if converted.packetCount == 0 {
                // The packets before it are done; the caller gets the error at the next call.
                if let problem = converted.problem, done == 0 { throw problem }
                break
            }
            // SAFETY: `queue` keeps it alive as long as this object.
            let result = unowned._withUnsafeGuaranteedRef {
                $0.enqueue(burst.refs, count: converted.refCount)
            }
            note(result.events, &events)
            if result.delivered == converted.packetCount {
                done &+= converted.packetCount
                continue
            }
            let consumed = settle(packets + done, result, &events)
            done &+= consumed
            if consumed < converted.packetCount { break }
        }
        return Int32(truncatingIfNeeded: done)
    }

    /// The same for references, which are used in place.
    @inline(__always)
    borrowing func enqueue(
        refs: UnsafeMutablePointer<cleave_ref>, _ count: Int, _ events: inout UInt32
    ) throws(Refusal) -> Int32 {
        try checkRunning()
        guard UInt(bitPattern: refs) & 7 == 0 else { throw .invalid("refs is not aligned") }
        // SAFETY: the two structures have one layout, checked in slots.c.
        let refs = UnsafeMutableRawPointer(refs).assumingMemoryBound(to: PacketRef.self)
        var done = 0
        while done < count {
            let wanted = min(count &- done, burst.packetCapacity)
            let result = unowned._withUnsafeGuaranteedRef {
                $0.enqueue(plain: refs + done, count: wanted)
            }
            note(result.events, &events)
            done &+= result.consumed
            if result.delivered == wanted { continue }
            reportFault(&events)
            if result.consumed < wanted {
                // The packets before it are done; the caller gets the error at the next call.
                if done > 0 || refs[0].isPlain { break }
                throw .invalid("refs[0].data is NULL, or its flags are not 0")
            }
        }
        return Int32(truncatingIfNeeded: done)
    }

    @inline(__always)
    private func note(_ happened: QueueEvents, _ events: inout UInt32) {
        events |= happened.rawValue
        if happened.contains(.headerQueueBroken) { reportBrokenHeaderQueue(&events) }
    }

    @inline(never)
    private func reportBrokenHeaderQueue(_ events: inout UInt32) {
        events |= CLEAVE_EVENT_BROKEN.rawValue
        headerQueue?.reportBroken()
    }

    /// A burst of which not everything was delivered.
    /// - Returns: packets done with.
    @inline(never)
    private func settle(
        _ packets: UnsafeMutablePointer<cleave_packet>, _ result: EnqueueResult,
        _ events: inout UInt32
    ) -> Int {
        reportFault(&events)
        return burst.markDropped(packets, refCount: result.consumed)
    }

    var counters: RxCounters { queue.counters }
}

@c @implementation
public func cleave_rq_create(
    _ memory: OpaquePointer!, _ config: UnsafePointer<cleave_rq_config>!,
    _ rq: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    create(
        under: memory, as: MemoryObject.self, config, zero: cleave_rq_config(),
        minimum: cleave_rq_config.firstByteCount, to: rq, named: "rq"
    ) { parent, configuration throws(Refusal) in
        try ReceiveQueueObject(
            parent.context, ReceiveQueuePlan(configuration, parent), parents: [parent])
    }
}

@c @implementation
public func cleave_rq_enqueue_burst(
    _ rq: OpaquePointer!, _ packets: UnsafeMutablePointer<cleave_packet>!, _ count: UInt32,
    _ events: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(rq, as: ReceiveQueueObject.self, telling: events) {
        object, happened throws(Refusal) in
        guard let packets, count <= UInt32(Int32.max) else {
            throw .invalid("packets is NULL, or more than 2147483647")
        }
        return try object.enqueue(packets, Int(count), &happened)
    }
}

@c @implementation
public func cleave_rq_enqueue_refs(
    _ rq: OpaquePointer!, _ refs: UnsafeMutablePointer<cleave_ref>!, _ count: UInt32,
    _ events: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(rq, as: ReceiveQueueObject.self, telling: events) {
        object, happened throws(Refusal) in
        guard let refs, count <= UInt32(Int32.max) else {
            throw .invalid("refs is NULL, or more than 2147483647")
        }
        return try object.enqueue(refs: refs, Int(count), &happened)
    }
}

@c @implementation
public func cleave_rq_stop(
    _ rq: OpaquePointer!, _ base: UnsafeMutablePointer<UInt16>!
) -> Int32 {
    stop(rq, as: ReceiveQueueObject.self, base)
}

@c @implementation
public func cleave_rq_destroy(_ rq: OpaquePointer!) -> Int32 {
    destroy(
        rq, as: ReceiveQueueObject.self,
        check: { object throws(Refusal) in try object.checkIsProgram() })
}

@c @implementation
public func cleave_rq_get_counters(
    _ rq: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_counters>!
) -> Int32 {
    report(on: rq, as: ReceiveQueueObject.self, to: counters) { cleave_counters($0.counters) }
}
