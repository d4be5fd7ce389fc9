import CleaveHost
import CleaveRings

/// The mutable state of a queue, in the arena: reached by pointer, so that the loop pays for no
/// exclusivity checks.
struct RxQueueState<Queue: Virtqueue> {
    var queue: Queue
    /// `BurstPlan.undersizedStreak` between bursts.
    var undersizedStreak = 0
    let settings: PlanSettings
    let planMemory: PlanMemory
    let claimer: HeaderClaimer
    let counters: RxCounterBlock
    let call: NotificationSender
}

/// A burst's way through an RQ, specialised for ring and method: everything down to the last store
/// is inlined into `place`.
///
/// Reached through closures and not as a generic class: the methods of a generic class, called
/// through a witness or vtable, run unspecialised.
enum RxBurst<Queue: Virtqueue, Method: PlacementMethod> {
    /// One burst: scan, reserve, claim, place, publish, notify.
    @inline(__always)
    static func place<Probe: StageProbe>(
        _ refs: UnsafeMutablePointer<PacketRef>, count: Int, plainOnly: Bool,
        _ state: UnsafeMutablePointer<RxQueueState<Queue>>, _ probe: Probe
    ) -> EnqueueResult {
        // Locals, so that cursors stay in registers: any store to guest memory might alias `state`.
        var queue = state.pointee.queue
        var plan = BurstPlan<Method>(
            state.pointee.settings, state.pointee.planMemory,
            undersizedStreak: state.pointee.undersizedStreak)
        let claimer = state.pointee.claimer
        let counters = state.pointee.counters
        if queue.fault != .none {
            return discard(refs, count: count, plainOnly: plainOnly, counters)
        }
        plan.scan(refs, count, plainOnly: plainOnly, slotSize: claimer.slotSize)
        probe.mark(.parse)
        queue.refresh(plan.packetCount &* Method.bufferCount)
        plan.reserve(from: 0, refs, &queue)
        plan.checkInvariants(usedCount: queue.usedCount)
        queue.checkInvariants()
        probe.mark(.reserve)
        var claim = HeaderClaimer.Claim(first: 0, count: 0, retries: 0)
        if Method.claimsSlots { claim = plan.claim(claimer, refs, &queue) }
        plan.checkInvariants(usedCount: queue.usedCount)
        queue.checkInvariants()
        probe.mark(.claim)
        let placed =
            Probe.isOn && probe.isApart
            ? placeApart(
                refs, plan, queue, claimer: claimer, claim: claim, counters: counters, probe: probe)
            : plan.place(
                refs, queue, claimer: claimer, claim: claim, counters: counters, WholePlace.self)
        probe.markPlace()
        let buffers = queue.usedCount
        countOddBuffers(used: buffers, empty: queue.emptyCount, &plan, counters)
        if Queue.Log.isOn { plan.markWrites(refs, in: queue.log, claimer, claim) }
        if Method.listsGroups { claimer.report(plan.groupList, claim) }
        queue.publish()
        queue.checkInvariants()
        probe.mark(.publish)
        state.pointee.queue = queue
        state.pointee.undersizedStreak = plan.undersizedStreak
        record(
            placed, of: refs, buffers: buffers, claim: claim, plan: plan, fault: queue.fault,
            counters: counters)
        probe.mark(.complete)
        var events = call(queue, state.pointee.call, counters)
        if Method.claimsSlots && plan.metBrokenHeaderQueue { events.insert(.headerQueueBroken) }
        probe.mark(.notify)
        if Probe.isOn { note(placed, plan, of: refs, buffers: buffers, probe) }
        return EnqueueResult(consumed: placed.refs, delivered: placed.packets, events: events)
    }

    /// Records a measured burst; a plan of plain packets has to be listed for that.
    @inline(never)
    private static func note<Probe: StageProbe>(
        _ placed: PlacedBurst, _ plan: BurstPlan<Method>, of refs: UnsafePointer<PacketRef>,
        buffers: Int,
        _ probe: Probe
    ) {
        var plan = plan
        plan.list(refs)
        var burst = MeasuredBurst(
            packets: placed.packets, bytes: placed.bytes, references: placed.refs, buffers: buffers)
        for index in 0..<plan.plannedCount {
            let packet = plan.packets[index]
            if packet.isSplit {
                burst.splitPackets &+= 1
                burst.headerBytes &+= Int(packet.headerLength)
            }
            if packet.outcome == PlannedPacket.Outcome(FallbackReason.noSlot) {
                burst.isShortOfSlots = true
            }
        }
        probe.note(burst)
    }

    /// Counts buffers that were given back empty, and empty descriptors. The plan is passed by
    /// reference: by value it would be copied, needed or not.
    @inline(__always)
    private static func countOddBuffers(
        used usedCount: Int, empty emptyCount: Int, _ plan: inout BurstPlan<Method>,
        _ counters: RxCounterBlock
    ) {
        if emptyCount > 0 && usedCount > 0 { counters.add(.emptyDescriptors, emptyCount) }
        if plan.sawUndersized {
            counters.add(.undersizedBuffers, plan.undersizedBufferCount(usedCount: usedCount))
        }
    }

    /// A burst's writes, one kind after the other.
    @inline(__always)
    private static func placeApart<Probe: StageProbe>(
        _ refs: UnsafeMutablePointer<PacketRef>, _ plan: BurstPlan<Method>, _ queue: Queue,
        claimer: HeaderClaimer, claim: HeaderClaimer.Claim, counters: RxCounterBlock,
        probe: Probe
    ) -> PlacedBurst {
        if Method.reportsInUsedLength {
            _ = pass(
                refs, plan, queue, claimer: claimer, claim: claim, counters: counters,
                part: SlotNames.self)
            probe.mark(.shadow)
        }
        _ = pass(
            refs, plan, queue, claimer: claimer, claim: claim, counters: counters,
            part: HeaderBytes.self)
        probe.mark(.placeHeaders)
        let placed = pass(
            refs, plan, queue, claimer: claimer, claim: claim, counters: counters,
            part: PayloadBytes.self)
        probe.mark(.placePayload)
        return placed
    }

    /// Not inlined, so that profilers see each pass by its name.
    @inline(never)
    private static func pass<Part: PlacePart>(
        _ refs: UnsafeMutablePointer<PacketRef>, _ plan: BurstPlan<Method>, _ queue: Queue,
        claimer: HeaderClaimer, claim: HeaderClaimer.Claim, counters: RxCounterBlock,
        part: Part.Type
    ) -> PlacedBurst {
        plan.place(refs, queue, claimer: claimer, claim: claim, counters: counters, part)
    }

    /// Not inlined, as `placeMixed`.
    @inline(never)
    private static func record(
        _ placed: PlacedBurst, of refs: UnsafePointer<PacketRef>, buffers: Int,
        claim: HeaderClaimer.Claim,
        plan: BurstPlan<Method>,
        fault: QueueFault, counters: RxCounterBlock
    ) {
        counters.add(.packets, placed.packets)
        counters.add(.bytes, placed.bytes)
        counters.add(.buffers, buffers)
        counters.add(placed.refs > 0 ? .bursts : .emptyPolls, 1)
        if Method.leadsWithHeaders {
            let split = plan.isUniform ? plan.plannedCount : plan.countPlannedSplits()
            counters.add(.split, split)
            if Method.skipsSmallBuffers {
                counters.add(.skippedBuffers, plan.skippedCount)
                counters.add(.misfits, plan.misfitCount)
            }
        }
        if Method.claimsSlots {
            let tiny = plan.settings.tinyLimit > 0 ? plan.plannedTinyCount(refs) : 0
            counters.add(.split, claim.count &- tiny)
            if tiny > 0 { counters.add(.tiny, tiny) }
            counters.add(.slots, claim.count)
            if claim.retries > 0 { counters.add(.claimRetries, claim.retries) }
        }
        if fault != .none { counters.setFault(fault) }
        counters.probeBurst(refs: placed.refs, packets: placed.packets, buffers: buffers)
    }

    /// Calls the driver if it asked for it.
    /// - Returns: what the owner has to know of that.
    @inline(__always)
    private static func call(
        _ queue: Queue, _ sender: NotificationSender, _ counters: RxCounterBlock
    ) -> QueueEvents {
        if !queue.wantsCall() { return [] }
        counters.add(.calls, 1)
        if sender.isNone { return .call }
        if sender.send() { return [] }
        counters.add(.lostCalls, 1)
        return .callLost
    }

    /// A broken queue takes everything and delivers nothing.
    @inline(never)
    private static func discard(
        _ refs: UnsafeMutablePointer<PacketRef>, count: Int, plainOnly: Bool,
        _ counters: RxCounterBlock
    ) -> EnqueueResult {
        let count = plainOnly ? BurstPlan<Method>.plainCount(refs, count) : count
        for index in 0..<count {
            if !refs[index].flags.contains(.more) {
                counters.addDrop(Int(DropReason.queueBroken.rawValue))
            }
            refs[index].flags.insert(.dropped)
        }
        if count > 0 { counters.add(.bursts, 1) }
        return EnqueueResult(consumed: count, delivered: 0, events: [])
    }
}
