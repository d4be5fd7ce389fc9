// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import Glibc
import Host
import Rings
import RxPath

/// An RQ on its caller's threads.
final class ReceiveQueueObject: HandleObject, @unchecked Sendable {
    // SAFETY: `queue`, `burst` and the words behind `state` are used by whoever holds the handle's
    // slot; counters may be read by anyone.

    private struct State {
        var isStopped = false
        var reportedFault = false
    }

    private let context: ContextObject
    private let queue: RxQueue
    /// The same without a reference count: a retain and a release would cost more than the call.
    private let unowned: Unmanaged<RxQueue>
    private let burst: PacketBurst
    private let arena: MemoryArena
    private let state: UnsafeMutablePointer<State>

    init(_ memory: MemoryObject, _ plan: ReceiveQueuePlan) throws(Refusal) {
        context = memory.context
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
        } catch let error as RxPathError {
            throw .invalid(error.description)
        } catch { throw Refusal(-ENOMEM, "\(error)") }
        unowned = Unmanaged.passUnretained(queue)
        state = .allocate(capacity: 1)
        state.initialize(to: State())
        super.init(
            parents: [memory] + (plan.headerQueue.map { [$0] } ?? []))
        context.log(.info, "RQ of \(plan.configuration.virtqueue.size) entries created")
    }

    deinit { state.deallocate() }

    override class var type: HandleType { .rq }

    /// One burst after the other until `count` packets are placed, or one is not placed whole.
    @inline(__always)
    borrowing func enqueue(
        _ packets: UnsafeMutablePointer<cleave_packet>, _ count: Int, _ events: inout UInt32
    ) throws(Refusal) -> Int32 {
        if state.pointee.isStopped { throw Self.stopped }
        var done = 0
        while done < count {
            let converted = burst.convert(UnsafeRawPointer(packets + done), count &- done)
            if converted.packetCount == 0 {
                // What came before it is done; the caller meets the problem at the next call.
                if let problem = converted.problem, done == 0 { throw problem }
                break
            }
            // SAFETY: `queue` keeps it alive as long as this object.
            let result = unowned._withUnsafeGuaranteedRef {
                $0.enqueue(burst.refs, count: converted.refCount)
            }
            if result.wantsCall { events |= CLEAVE_EVENT_CALL.rawValue }
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

    private static var stopped: Refusal { Refusal(Refusal.stopped, "the queue was stopped") }

    /// A burst of which not everything was delivered.
    /// - Returns: packets done with.
    @inline(never)
    private func settle(
        _ packets: UnsafeMutablePointer<cleave_packet>, _ result: EnqueueResult,
        _ events: inout UInt32
    ) -> Int {
        let fault = queue.fault
        if fault != .none {
            events |= CLEAVE_EVENT_BROKEN.rawValue
            if !state.pointee.reportedFault {
                state.pointee.reportedFault = true
                context.log(.error, "the driver broke its receive queue: \(fault.name)")
            }
        }
        return burst.markDropped(packets, refCount: result.consumed)
    }

    /// Ends the use of the ring.
    func stop() throws(Refusal) -> UInt16 {
        if state.pointee.isStopped { throw Self.stopped }
        state.pointee.isStopped = true
        return queue.base
    }

    var counters: RxCounters { queue.counters }
}

@c @implementation
public func cleave_rq_create(
    _ memory: OpaquePointer!, _ config: UnsafePointer<cleave_rq_config>!,
    _ rq: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    control(memory, as: MemoryObject.self) { parent throws(Refusal) in
        guard let rq else { throw .null("rq") }
        let configuration = try readSized(
            config, minimum: MemoryLayout<cleave_rq_config>.size, into: cleave_rq_config(),
            "config")
        let plan = try ReceiveQueuePlan(configuration, parent)
        rq.pointee = try HandleTable.shared.insert(ReceiveQueueObject(parent, plan))
        return 0
    }
}

@c @implementation
public func cleave_rq_enqueue_burst(
    _ rq: OpaquePointer!, _ packets: UnsafeMutablePointer<cleave_packet>!, _ count: UInt32,
    _ events: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    exclusive(rq, as: ReceiveQueueObject.self) { object throws(Refusal) in
        guard let packets, count <= UInt32(Int32.max) else {
            throw .invalid("packets is NULL, or more than 2147483647")
        }
        var happened: UInt32 = 0
        defer { events?.pointee = happened }
        return try object.enqueue(packets, Int(count), &happened)
    }
}

@c @implementation
public func cleave_rq_stop(
    _ rq: OpaquePointer!, _ base: UnsafeMutablePointer<UInt16>!
) -> Int32 {
    exclusive(rq, as: ReceiveQueueObject.self) { object throws(Refusal) in
        let stopped = try object.stop()
        base?.pointee = stopped
        return 0
    }
}

@c @implementation
public func cleave_rq_destroy(_ rq: OpaquePointer!) -> Int32 {
    destroy(rq, as: ReceiveQueueObject.self)
}

@c @implementation
public func cleave_rq_counters(
    _ rq: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_counters>!
) -> Int32 {
    control(rq, as: ReceiveQueueObject.self) { object throws(Refusal) in
        try writeSized(cleave_counters(object.counters), to: counters, "counters")
        return 0
    }
}
