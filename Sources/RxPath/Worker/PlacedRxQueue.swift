import CHost
import Host
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

/// A queue specialised for its ring and method: the whole packet path is inlined into `enqueue`.
final class PlacedRxQueue<Queue: Virtqueue, Method: PlacementMethod>: RxQueue, @unchecked Sendable {
    // SAFETY: `enqueue` is documented to be called from one thread at a time; everything else is
    // constant, or counter words with one writer.

    let configuration: RxQueueConfiguration
    private let state: UnsafeMutablePointer<RxQueueState<Queue>>

    init(
        _ configuration: RxQueueConfiguration, queue: Queue, plan: BurstPlan,
        claimer: HeaderClaimer, block: RxCounterBlock
    ) {
        state = .allocate(capacity: 1)
        state.initialize(
            to: RxQueueState(
                queue: queue, plan: plan, claimer: claimer, counters: block,
                callDescriptor: configuration.callDescriptor))
        self.configuration = configuration
    }

    deinit { state.deallocate() }

    func enqueue(
        _ refs: UnsafeMutablePointer<PacketRef>, count: Int
    ) -> EnqueueResult {
        Self.place(refs, count, state)
    }

    /// One burst: scan, reserve, claim, place, publish, notify.
    @inline(__always)
    private static func place(
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
        plan.scan(refs, count, slotSize: claimer.slotSize, Method.self)
        queue.refresh(plan.packetCount)
        plan.reserve(from: 0, &queue, Method.self)
        var claim = HeaderClaimer.Claim(first: 0, count: 0, retries: 0)
        if Method.splits { claim = plan.claim(claimer, &queue, Method.self) }
        let placed = plan.place(refs, queue, claimer, claim, counters, Method.self)
        let buffers = queue.usedCount
        if plan.sawTiny {
            counters.add(.tinyBuffers, plan.tinyBufferCount(usedCount: buffers))
            plan.sawTiny = false
        }
        queue.publish()
        state.pointee.queue = queue
        state.pointee.plan.tinyStreak = plan.tinyStreak
        state.pointee.plan.sawTiny = false
        record(placed, buffers: buffers, claim, queue.fault, counters)
        return EnqueueResult(
            consumed: placed.refs, delivered: placed.packets,
            wantsCall: call(queue, state.pointee.callDescriptor, counters))
    }

    @inline(__always)
    private static func record(
        _ placed: PlacedBurst, buffers: Int, _ claim: HeaderClaimer.Claim, _ fault: QueueFault,
        _ counters: RxCounterBlock
    ) {
        counters.add(.packets, placed.packets)
        counters.add(.bytes, placed.bytes)
        counters.add(.buffers, buffers)
        counters.add(placed.refs > 0 ? .bursts : .emptyTurns, 1)
        if Method.splits {
            counters.add(.split, placed.split)
            counters.add(.slots, claim.count)
            if claim.retries > 0 { counters.add(.claimRetries, claim.retries) }
        }
        if fault != .none { counters.set(.fault, Int(fault.rawValue)) }
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

    var base: UInt16 { state.pointee.queue.base }
    var counters: RxCounters { RxCounters(state.pointee.counters) }
}

extension PlacedRxQueue where Queue == SplitVirtqueue {
    /// Checks the configuration and lays out the private memory.
    convenience init(
        _ configuration: RxQueueConfiguration, _ arena: MemoryArena
    ) throws(RxPathError) {
        let size = configuration.virtqueue.size
        _ = try configuration.virtqueue.map(in: configuration.memory)
        let shadow = try Self.allocate(arena, size * 8)
        let planMemory = try Self.allocate(
            arena, BurstPlan.byteCount(burst: configuration.burst, queueSize: size))
        let counters = try Self.allocate(arena, RxCounterBlock.byteCount)
        if Method.splits && configuration.headerQueue == nil {
            throw RxPathError("method D needs a header queue")
        }
        self.init(
            configuration,
            queue: try SplitVirtqueue(
                configuration.virtqueue, features: configuration.features,
                memory: configuration.memory,
                shadow: shadow.assumingMemoryBound(to: UInt64.self)),
            plan: BurstPlan(
                memory: planMemory, burst: configuration.burst, queueSize: size,
                features: configuration.features,
                dropsOnShortage: configuration.shortage == .drop),
            claimer: configuration.headerQueue?.claimer ?? HeaderClaimer.none(counters),
            block: RxCounterBlock(memory: counters))
    }

    private static func allocate(
        _ arena: MemoryArena, _ byteCount: Int
    ) throws(RxPathError) -> UnsafeMutableRawPointer {
        do { return try arena.allocate(byteCount: byteCount) } catch {
            throw RxPathError("queue memory: \(error)")
        }
    }
}
