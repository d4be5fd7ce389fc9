// control path
import CleaveHost
import CleaveRings

/// The operations of an `RxQueue`, specialised and closed over its state.
struct RxQueueOperations {
    /// References, how many, and whether they are of packets in one piece.
    let receive: (UnsafeMutablePointer<PacketRef>, Int, Bool) -> EnqueueResult
    let base: () -> UInt16
    let setKicks: (Bool) -> Void
    #if Profiling
    /// As `receive`, measured.
    let receiveMeasured: (UnsafeMutablePointer<PacketRef>, Int, Bool) -> EnqueueResult
    #endif
}

/// What an `RxQueue` is put together from.
struct RxQueueParts {
    let block: RxCounterBlock
    let operations: RxQueueOperations
    #if Profiling
    let profile: RxProfile
    let probe: CycleProbe
    #endif
}

/// The checked parts of an RQ over one ring format, before its method is chosen.
struct RxQueueBuilder<Queue: Virtqueue> {
    let block: RxCounterBlock
    private let queue: Queue
    private let settings: PlanSettings
    private let planMemory: PlanMemory
    private let claimer: HeaderClaimer
    private let returns: SlotReturn
    private let method: RxMethod
    private let call: NotificationSender
    private let memory: UnsafeMutableRawPointer
    #if Profiling
    let profile: RxProfile
    let probe: CycleProbe
    #endif

    /// - Parameter call: of a descriptor that the queue keeps.
    init(
        _ configuration: RxQueueConfiguration, call: NotificationSender, _ arena: MemoryArena
    ) throws(SetupError) {
        let size = configuration.virtqueue.size
        _ = try configuration.virtqueue.map(in: configuration.memory)
        let shadow = try Self.allocate(arena, size * Queue.shadowEntryByteCount)
        let planMemory = try Self.allocate(
            arena, PlanMemory.byteCount(burst: configuration.burst, queueSize: size))
        let counters = try Self.allocate(arena, RxCounterBlock.byteCount)
        memory = try Self.allocate(arena, Self.stateByteCount)
        block = RxCounterBlock(memory: counters)
        var queue = try Queue(
            configuration.virtqueue, features: configuration.features,
            memory: configuration.memory, shadow: shadow)
        if let observation = configuration.observation {
            queue.observe(
                try Self.pages(observation, configuration), observation.record?.writer)
        }
        self.queue = queue
        method = configuration.method
        settings = PlanSettings(configuration, slotRoom: Self.slotRoom(configuration))
        self.planMemory = PlanMemory(planMemory, burst: configuration.burst, queueSize: size)
        claimer =
            configuration.headerQueue?.claimer(ring: configuration.returnRing)
            ?? HeaderClaimer.none(counters)
        returns = configuration.headerQueue?.layout.slotReturn ?? .tail
        self.call = call
        #if Profiling
        profile = try RxProfile(configuration.profileSubject, node: arena.node)
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
        guard let headerQueue = configuration.headerQueue else { return 0 }
        let netHeader = NetHeaderLayout(hashReport: configuration.features.contains(.hashReport))
        let taken = configuration.namesSlots ? netHeader.byteCount : 0
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
            + PlanMemory.byteCount(burst: configuration.burst, queueSize: size)
    }

    /// The log of the pages that a configuration's queue writes.
    private static func pages(
        _ observation: QueueObservation, _ configuration: RxQueueConfiguration
    ) throws(SetupError) -> PageLog {
        var pages = try observation.pages(configuration.virtqueue, configuration.memory)
        if let headerQueue = configuration.headerQueue {
            // Guest addresses: the header queue may have been made over another table.
            try observation.log?.check(covers: headerQueue.memory, configuration.virtqueue)
            pages.slots = headerQueue.layout.base.rawValue
            pages.headerWords =
                headerQueue.layout.control.rawValue + UInt64(HeaderQueueLayout.headOffset)
        }
        return pages
    }

    /// All parts, put together where the ring is a concrete type.
    @inline(__always)
    var parts: RxQueueParts {
        #if Profiling
        RxQueueParts(
            block: block, operations: operations(method), profile: profile, probe: probe)
        #else
        RxQueueParts(block: block, operations: operations(method))
        #endif
    }

    /// Called with a concrete ring, so that the closures are specialised for it and the method.
    @inline(__always)
    private func operations(_ method: RxMethod) -> RxQueueOperations {
        switch method {
        case .whole: operations(WholePlacement.self)
        case .headerDescriptor: operations(HeaderDescriptorPlacement.self)
        case .headerPage: operations(HeaderPagePlacement.self)
        case .alternating: operations(AlternatingPlacement.self)
        case .headerQueue(let report): operations(report, returns)
        }
    }

    @inline(__always)
    private func operations(_ report: HeaderReport, _ returns: SlotReturn) -> RxQueueOperations {
        switch (report, returns) {
        case (.netHeader, .tail): operations(NetHeaderReportPlacement.self)
        case (.usedLength, .tail): operations(UsedLengthReportPlacement.self)
        case (.netHeader, .ring), (.netHeader, .groups):
            operations(OutOfOrder<NetHeaderReportPlacement>.self)
        case (.usedLength, .ring), (.usedLength, .groups):
            operations(OutOfOrder<UsedLengthReportPlacement>.self)
        }
    }

    @inline(__always)
    private func operations<Method: PlacementMethod>(_ method: Method.Type) -> RxQueueOperations {
        typealias State = RxQueueState<Queue>
        let state = memory.bindMemory(to: State.self, capacity: 1)
        state.initialize(
            to: State(
                queue: queue, settings: settings, planMemory: planMemory, claimer: claimer,
                counters: block, call: call))
        // Local functions, not closures: profilers show their names.
        func receive(
            _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, _ plainOnly: Bool
        ) -> EnqueueResult {
            RxBurst<Queue, Method>.place(refs, count: count, plainOnly: plainOnly, state, NoProbe())
        }
        #if Profiling
        let probe = probe
        func receiveMeasured(
            _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, _ plainOnly: Bool
        ) -> EnqueueResult {
            // A queue that is observed is not measured: it is another code, for a while.
            if Queue.Log.isOn { return receive(refs, count, plainOnly) }
            return RxBurst<Queue, Method>.place(
                refs, count: count, plainOnly: plainOnly, state, probe)
        }
        return RxQueueOperations(
            receive: receive, base: { state.pointee.queue.base },
            setKicks: { state.pointee.queue.setKicks(enabled: $0) },
            receiveMeasured: receiveMeasured)
        #else
        return RxQueueOperations(
            receive: receive, base: { state.pointee.queue.base },
            setKicks: { state.pointee.queue.setKicks(enabled: $0) })
        #endif
    }

    private static func allocate(
        _ arena: MemoryArena, _ byteCount: Int
    ) throws(SetupError) -> UnsafeMutableRawPointer {
        do { return try arena.allocate(byteCount: byteCount) } catch {
            throw SetupError("queue memory: \(error)")
        }
    }
}

extension RxQueueConfiguration {
    /// Used entries name slots, which then hold the virtio-net header as well.
    fileprivate var namesSlots: Bool {
        method == .headerQueue(.usedLength)
    }

    /// The queue as its profile describes it.
    fileprivate var profileSubject: RxProfile.Subject {
        let report = if case .headerQueue(let report) = method { "/\(report)" } else { "" }
        return RxProfile.Subject(
            label:
                "\(method.kind.rawValue)\(report), \(virtqueue.format) ring of \(virtqueue.size), "
                + "burst \(burst)",
            ringSize: virtqueue.size,
            netHeaderByteCount: NetHeaderLayout(hashReport: features.contains(.hashReport))
                .byteCount,
            isPacked: virtqueue.format == .packed, namesSlots: namesSlots,
            claimsSlots: method.needsHeaderQueue)
    }
}
