// control path
import Host
import Rings

/// The operations of an `RxQueue`, specialised and closed over its state.
struct RxQueueBody {
    /// References, how many, and whether they are of packets in one piece.
    let enqueue: (UnsafeMutablePointer<PacketRef>, Int, Bool) -> EnqueueResult
    let base: () -> UInt16
    let askForKicks: (Bool) -> Void
    #if Profiling
    /// As `enqueue`, measured.
    let profiled: (UnsafeMutablePointer<PacketRef>, Int, Bool) -> EnqueueResult
    #endif
}

/// The checked parts of an RQ over one ring format, before its method is chosen.
struct RxQueueParts<Queue: Virtqueue> {
    let block: RxCounterBlock
    private let queue: Queue
    private let plan: BurstPlan
    private let claimer: HeaderClaimer
    private let returns: SlotReturn
    private let call: NotificationSender
    private let memory: UnsafeMutableRawPointer
    #if Profiling
    let profile: RxProfile
    let probe: CycleProbe
    #endif

    /// - Parameter call: of a descriptor that the queue keeps.
    init(
        _ configuration: RxQueueConfiguration, call: NotificationSender, _ arena: MemoryArena
    ) throws(RxPathError) {
        let size = configuration.virtqueue.size
        _ = try configuration.virtqueue.map(in: configuration.memory)
        let shadow = try Self.allocate(arena, size * Queue.shadowEntryByteCount)
        let planMemory = try Self.allocate(
            arena, BurstPlan.byteCount(burst: configuration.burst, queueSize: size))
        let counters = try Self.allocate(arena, RxCounterBlock.byteCount)
        memory = try Self.allocate(arena, Self.stateByteCount)
        block = RxCounterBlock(memory: counters)
        queue = try Queue(
            configuration.virtqueue, features: configuration.features,
            memory: configuration.memory, shadow: shadow)
        plan = BurstPlan(
            memory: planMemory, burst: configuration.burst, queueSize: size,
            features: configuration.features, dropsOnShortage: configuration.shortage == .drop,
            policy: configuration.splitPolicy, slotRoom: Self.slotRoom(configuration),
            smallLimit: configuration.method.smallBufferByteCount)
        claimer = configuration.headerQueue?.claimer ?? HeaderClaimer.none(counters)
        returns = configuration.headerQueue?.layout.slotReturn ?? .tail
        self.call = call
        #if Profiling
        profile = try RxProfile(configuration, node: arena.node)
        probe = CycleProbe(
            profile.block, memory: try Self.allocate(arena, CycleProbe.byteCount))
        #endif
    }

    /// Bytes that measuring takes from the arena.
    private static var probeByteCount: Int {
        #if Profiling
        CycleProbe.byteCount + CacheLine.byteCount
        #else
        0
        #endif
    }

    /// Packet bytes that a slot holds under the configuration's method; 0 without a header queue.
    private static func slotRoom(_ configuration: RxQueueConfiguration) -> Int {
        guard let headerQueue = configuration.headerQueue, configuration.method.needsHeaderQueue
        else { return 0 }
        let netHeader = NetHeaderLayout(hashReport: configuration.features.contains(.hashReport))
        let taken =
            configuration.method == .headerQueue(.usedElement)
            ? UsedElementReportPlacement.slotByteCount(
                headerLength: 0, netHeader: netHeader.byteCount) : 0
        return headerQueue.layout.slotSize - taken
    }

    private static var stateByteCount: Int {
        CacheLine.roundedUp(MemoryLayout<RxQueueState<Queue>>.stride)
    }

    /// Bytes that a queue takes from its arena, alignment included.
    static func arenaByteCount(_ configuration: RxQueueConfiguration) -> Int {
        // Other sizes are refused.
        let size = min(max(0, configuration.virtqueue.size), PackedLayout.maximumSize)
        return 5 * CacheLine.byteCount + stateByteCount + size * Queue.shadowEntryByteCount
            + RxCounterBlock.byteCount + probeByteCount
            + BurstPlan.byteCount(burst: configuration.burst, queueSize: size)
    }

    /// Called with a concrete ring, so that the closures are specialised for it and the method.
    @inline(__always)
    func body(_ method: RxMethod) -> RxQueueBody {
        switch method {
        case .whole: body(WholePlacement.self)
        case .headerDescriptor: body(HeaderDescriptorPlacement.self)
        case .headerPage: body(HeaderPagePlacement.self)
        case .alternating: body(AlternatingPlacement.self)
        case .headerQueue(let report): body(report, returns)
        }
    }

    @inline(__always)
    private func body(_ report: HeaderReport, _ returns: SlotReturn) -> RxQueueBody {
        switch (report, returns) {
        case (.netHeader, .tail): body(NetHeaderReportPlacement.self)
        case (.usedElement, .tail): body(UsedElementReportPlacement.self)
        case (.netHeader, .ring): body(OutOfOrder<NetHeaderReportPlacement>.self)
        case (.usedElement, .ring): body(OutOfOrder<UsedElementReportPlacement>.self)
        }
    }

    @inline(__always)
    private func body<Method: PlacementMethod>(_ method: Method.Type) -> RxQueueBody {
        typealias State = RxQueueState<Queue>
        let state = memory.bindMemory(to: State.self, capacity: 1)
        state.initialize(
            to: State(
                queue: queue, plan: plan, claimer: claimer, counters: block,
                call: call))
        #if Profiling
        let probe = probe
        return RxQueueBody(
            enqueue: { RxBurst<Queue, Method>.place($0, $1, plainOnly: $2, state, NoProbe()) },
            base: { state.pointee.queue.base },
            askForKicks: { state.pointee.queue.askForKicks($0) },
            profiled: { RxBurst<Queue, Method>.place($0, $1, plainOnly: $2, state, probe) })
        #else
        return RxQueueBody(
            enqueue: { RxBurst<Queue, Method>.place($0, $1, plainOnly: $2, state, NoProbe()) },
            base: { state.pointee.queue.base },
            askForKicks: { state.pointee.queue.askForKicks($0) })
        #endif
    }

    private static func allocate(
        _ arena: MemoryArena, _ byteCount: Int
    ) throws(RxPathError) -> UnsafeMutableRawPointer {
        do { return try arena.allocate(byteCount: byteCount) } catch {
            throw RxPathError("queue memory: \(error)")
        }
    }
}
