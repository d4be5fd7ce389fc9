// control path
import Host
import Rings

/// The operations of an `RxQueue`, specialised and closed over its state.
struct RxQueueBody {
    let enqueue: (UnsafeMutablePointer<PacketRef>, Int) -> EnqueueResult
    let base: () -> UInt16
}

/// The checked parts of an RQ before its method is chosen.
struct RxQueueParts {
    let block: RxCounterBlock
    private let queue: SplitVirtqueue
    private let plan: BurstPlan
    private let claimer: HeaderClaimer
    private let callDescriptor: Int32
    private let memory: UnsafeMutableRawPointer

    init(_ configuration: RxQueueConfiguration, _ arena: MemoryArena) throws(RxPathError) {
        let size = configuration.virtqueue.size
        _ = try configuration.virtqueue.map(in: configuration.memory)
        let shadow = try Self.allocate(arena, size * 8)
        let planMemory = try Self.allocate(
            arena, BurstPlan.byteCount(burst: configuration.burst, queueSize: size))
        let counters = try Self.allocate(arena, RxCounterBlock.byteCount)
        memory = try Self.allocate(arena, Self.stateByteCount)
        block = RxCounterBlock(memory: counters)
        queue = try SplitVirtqueue(
            configuration.virtqueue, features: configuration.features,
            memory: configuration.memory, shadow: shadow.assumingMemoryBound(to: UInt64.self))
        plan = BurstPlan(
            memory: planMemory, burst: configuration.burst, queueSize: size,
            features: configuration.features, dropsOnShortage: configuration.shortage == .drop,
            policy: configuration.splitPolicy, slotRoom: Self.slotRoom(configuration))
        claimer = configuration.headerQueue?.claimer ?? HeaderClaimer.none(counters)
        callDescriptor = configuration.callDescriptor
    }

    /// Packet bytes that a slot holds under the configuration's method; 0 without a header queue.
    private static func slotRoom(_ configuration: RxQueueConfiguration) -> Int {
        guard let headerQueue = configuration.headerQueue else { return 0 }
        let netHeader = NetHeaderLayout(hashReport: configuration.features.contains(.hashReport))
        let taken =
            configuration.method == .headerQueue(.usedElement)
            ? UsedElementReportPlacement.slotByteCount(
                headerLength: 0, netHeader: netHeader.byteCount) : 0
        return headerQueue.layout.slotSize - taken
    }

    static var stateByteCount: Int {
        CacheLine.roundedUp(MemoryLayout<RxQueueState<SplitVirtqueue>>.stride)
    }

    /// Called with a concrete method, so that the closures are specialised for it.
    @inline(__always)
    func body<Method: PlacementMethod>(_ method: Method.Type) -> RxQueueBody {
        typealias State = RxQueueState<SplitVirtqueue>
        let state = memory.bindMemory(to: State.self, capacity: 1)
        state.initialize(
            to: State(
                queue: queue, plan: plan, claimer: claimer, counters: block,
                callDescriptor: callDescriptor))
        return RxQueueBody(
            enqueue: { RxBurst<SplitVirtqueue, Method>.place($0, $1, state) },
            base: { state.pointee.queue.base })
    }

    private static func allocate(
        _ arena: MemoryArena, _ byteCount: Int
    ) throws(RxPathError) -> UnsafeMutableRawPointer {
        do { return try arena.allocate(byteCount: byteCount) } catch {
            throw RxPathError("queue memory: \(error)")
        }
    }
}
