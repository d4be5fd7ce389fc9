import CHost
import Rings

/// The mutable state of a queue, in the arena: reached by pointer, so that the loop pays for no
/// exclusivity checks.
struct RxQueueState<Queue: Virtqueue> {
    var queue: Queue
    var plan: BurstPlan
    let claimer: HeaderClaimer
    let counters: RxCounterBlock
    let callDescriptor: Int32
}

/// A burst's way through an RQ, specialised for ring and method: everything down to the last store
/// is inlined into `place`.
///
/// Reached through closures and not as a generic class: the methods of a generic class, called
/// through a witness or vtable, run unspecialised.
enum RxBurst<Queue: Virtqueue, Method: PlacementMethod> {
    /// One burst: scan, reserve, claim, place, publish, notify.
    @inline(__always)
    static func place(
        _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int,
        _ state: UnsafeMutablePointer<RxQueueState<Queue>>
    ) -> EnqueueResult {
        // Locals, so that cursors stay in registers: any store to guest memory might alias `state`.
        var queue = state.pointee.queue
        var plan = state.pointee.plan
        let claimer = state.pointee.claimer
        let counters = state.pointee.counters
        if queue.fault != .none { return discard(refs, count, counters) }

        plan.segments.count = 0
        plan.skippedCount = 0
        plan.misfitCount = 0
        plan.scan(refs, count, slotSize: claimer.slotSize, Method.self)
        queue.refresh(plan.packetCount &* Method.bufferCount)
        plan.reserve(from: 0, refs, &queue, Method.self)
        var claim = HeaderClaimer.Claim(first: 0, count: 0, retries: 0)
        if Method.claimsSlots { claim = plan.claim(claimer, refs, &queue, Method.self) }
        let placed = plan.place(refs, queue, claimer, claim, counters, Method.self)
        let buffers = queue.usedCount
        if queue.emptyCount > 0 && buffers > 0 {
            counters.add(.emptyDescriptors, queue.emptyCount)
        }
        if plan.sawTiny {
            counters.add(.tinyBuffers, plan.tinyBufferCount(usedCount: buffers))
            plan.sawTiny = false
        }
        if Method.listsSlots { claimer.report(plan.slotList, claim.count) }
        queue.publish()
        state.pointee.queue = queue
        state.pointee.plan.tinyStreak = plan.tinyStreak
        state.pointee.plan.sawTiny = false
        record(placed, buffers: buffers, claim, plan, queue.fault, counters)
        return EnqueueResult(
            consumed: placed.refs, delivered: placed.packets,
            wantsCall: call(queue, state.pointee.callDescriptor, counters))
    }

    /// Not inlined, as `placeMixed`.
    @inline(never)
    private static func record(
        _ placed: PlacedBurst, buffers: Int, _ claim: HeaderClaimer.Claim, _ plan: BurstPlan,
        _ fault: QueueFault, _ counters: RxCounterBlock
    ) {
        counters.add(.packets, placed.packets)
        counters.add(.bytes, placed.bytes)
        counters.add(.buffers, buffers)
        counters.add(placed.refs > 0 ? .bursts : .emptyTurns, 1)
        if Method.leadsWithHeaders {
            let split = plan.isUniform ? plan.plannedCount : plan.countPlannedSplits()
            counters.add(.split, split)
            if Method.skipsSmallBuffers {
                counters.add(.skippedBuffers, plan.skippedCount)
                counters.add(.misfits, plan.misfitCount)
            }
        }
        if Method.claimsSlots {
            let tiny = plan.hasTiny ? plan.plannedTinyCount() : 0
            counters.add(.split, claim.count &- tiny)
            if tiny > 0 { counters.add(.tiny, tiny) }
            counters.add(.slots, claim.count)
            if claim.retries > 0 { counters.add(.claimRetries, claim.retries) }
        }
        if fault != .none { counters.setFault(fault) }
        counters.probeBurst(refs: placed.refs, packets: placed.packets, buffers: buffers)
    }

    /// Calls the driver if it asked for it.
    /// - Returns: whether the owner has to, there being no descriptor.
    @inline(__always)
    private static func call(
        _ queue: Queue, _ descriptor: Int32, _ counters: RxCounterBlock
    ) -> Bool {
        if !queue.wantsCall() { return false }
        counters.add(.calls, 1)
        if descriptor < 0 { return true }
        // EAGAIN means that a call is pending already: nothing is lost.
        cleave_event_signal(descriptor)
        return false
    }

    /// A broken queue takes everything and delivers nothing.
    @inline(never)
    private static func discard(
        _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, _ counters: RxCounterBlock
    ) -> EnqueueResult {
        for index in 0..<count {
            if !refs[index].flags.contains(.more) {
                counters.addDrop(Int(DropReason.queueBroken.rawValue))
            }
            refs[index].flags.insert(.dropped)
        }
        if count > 0 { counters.add(.bursts, 1) }
        return EnqueueResult(consumed: count, delivered: 0, wantsCall: false)
    }
}
