// control path
//
// One transmit queue of a device, as its owner sees it: chains that a guest's driver posted come
// out as packets in guest memory, checked, without a copy; they go back when they are completed.

import CleaveHost
import CleaveRings

/// Everything a transmit queue is made from.
public struct TxQueueConfiguration: Sendable {
    public var virtqueue: VirtqueueAddresses
    /// As negotiated: those of the ring, and the offloads that the driver may ask for.
    public var features: VirtioFeatures
    public var memory: GuestMemory
    /// Calls the driver: an eventfd, pipe or stream socket, which is duplicated; or -1: then the
    /// owner is only told.
    public var callDescriptor: Int32
    /// What to keep of the queue's doings; nil for nothing.
    package var observation: QueueObservation?

    public init(
        virtqueue: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        callDescriptor: Int32 = -1
    ) {
        self.virtqueue = virtqueue
        self.features = features
        self.memory = memory
        self.callDescriptor = callDescriptor
    }

    /// Room for the segments after the first of packets that are out.
    var segmentCapacity: Int { max(1024, 2 * virtqueue.size) }
    var chainCapacity: Int {
        1 << (Int.bitWidth - max(0, virtqueue.size - 1).leadingZeroBitCount)
    }

    /// Bytes that a queue takes from its arena, alignment included.
    public var arenaByteCount: Int {
        4 * CacheLine.byteCount + chainCapacity * 8
            + segmentCapacity * MemoryLayout<Segment>.stride + TxCounterBlock.byteCount
            + CacheLine.roundedUp(MemoryLayout<TxQueueState<ObservedTxRing<SplitTxRing>>>.stride)
            + CacheLine.roundedUp(MemoryLayout<TxQueueState<ObservedTxRing<PackedTxRing>>>.stride)
    }
}

/// What one call of `dequeue` did.
@frozen
public struct DequeueResult: Sendable, BitwiseCopyable {
    /// Packets handed out.
    public let count: Int
    /// Events for the owner.
    public let events: QueueEvents

    /// The driver asked to be called and no `callDescriptor` was given: the caller must do it.
    public var wantsCall: Bool { events.contains(.call) }
}

/// One transmit queue. Use it from one thread at a time; read its counters from any.
public final class TxQueue: @unchecked Sendable {
    // SAFETY: `dequeue` and `complete` are documented to be called from one thread at a time;
    // everything else is constant, or counter words with one writer.

    /// Most segments of one packet.
    public static let maximumSegments = 64

    public let configuration: TxQueueConfiguration
    private let call: NotificationDescriptor?
    private let block: TxCounterBlock
    private let operations: TxQueueOperations

    /// Checks a configuration and makes the queue.
    /// - Parameters:
    ///   - configuration: the virtqueue and its guest's memory.
    ///   - arena: as for `RxQueue`.
    public init(_ configuration: TxQueueConfiguration, in arena: MemoryArena) throws(SetupError) {
        self.configuration = configuration
        call = try .given(configuration.callDescriptor, for: .call)
        let builder = try TxQueueBuilder(configuration, call: call?.sender ?? .none, arena)
        block = builder.block
        operations =
            switch (configuration.virtqueue.format, configuration.observation != nil) {
            case (.split, false): try builder.operations(SplitTxRing.self)
            case (.packed, false): try builder.operations(PackedTxRing.self)
            case (.split, true): try builder.operations(ObservedTxRing<SplitTxRing>.self)
            case (.packed, true): try builder.operations(ObservedTxRing<PackedTxRing>.self)
            }
    }

    /// Takes up to `count` packets that the driver has posted, in order. They stay out, and their
    /// bytes readable, until they are completed.
    /// - Parameters:
    ///   - packets: room for `count`; beyond what is handed out it is as before.
    ///   - count: most packets to take.
    @inline(__always)
    public func dequeue(
        _ packets: UnsafeMutablePointer<TxPacket>, count: Int
    ) -> DequeueResult {
        operations.dequeue(packets, count)
    }

    /// Gives the `count` packets that were taken longest ago back to the driver; with 0, only
    /// those that were dropped before the first one that is out.
    /// - Returns: what the owner has to know; nil, and nothing happened, if fewer than `count`
    ///   packets are out.
    @inline(__always)
    public func complete(_ count: Int) -> QueueEvents? {
        if count < 0 || count > operations.heldCount() { return nil }
        return operations.complete(count)
    }

    /// Asks the driver to kick when it posts packets, or not to: before and after a sleep of the
    /// thread that calls `dequeue`. The next `dequeue` then sees what was posted before.
    public func setKicks(enabled: Bool) { operations.setKicks(enabled) }

    /// Packets that are out.
    public var heldCount: Int { operations.heldCount() }
    /// Where a queue with no packet out is resumed.
    public var base: UInt16 { operations.base() }
    /// Why the driver's virtqueue is broken, or `.none`.
    public var fault: QueueFault { block.fault }
    /// A snapshot.
    public var counters: TxCounters { TxCounters(block) }
}

/// The operations of a `TxQueue`, specialised and closed over its state.
private struct TxQueueOperations {
    let dequeue: (UnsafeMutablePointer<TxPacket>, Int) -> DequeueResult
    let complete: (Int) -> QueueEvents
    let heldCount: () -> Int
    let base: () -> UInt16
    let setKicks: (Bool) -> Void
}

/// The checked parts of a transmit queue, before its ring is chosen.
private struct TxQueueBuilder {
    let block: TxCounterBlock
    private let configuration: TxQueueConfiguration
    private let call: NotificationSender
    private let arena: MemoryArena

    /// - Parameter call: of a descriptor that the queue keeps.
    init(
        _ configuration: TxQueueConfiguration, call: NotificationSender, _ arena: MemoryArena
    ) throws(SetupError) {
        _ = try configuration.virtqueue.map(in: configuration.memory)
        self.configuration = configuration
        self.call = call
        self.arena = arena
        block = TxCounterBlock(memory: try Self.allocate(arena, TxCounterBlock.byteCount))
    }

    /// Called with a concrete ring, so that the closures are specialised for it.
    @inline(__always)
    func operations<Ring: TxRing>(_ ring: Ring.Type) throws(SetupError) -> TxQueueOperations {
        typealias State = TxQueueState<Ring>
        let chains = try Self.allocate(arena, configuration.chainCapacity * 8)
        let segments = try Self.allocate(
            arena, configuration.segmentCapacity * MemoryLayout<Segment>.stride)
        let state = try Self.allocate(arena, MemoryLayout<State>.stride)
            .bindMemory(to: State.self, capacity: 1)
        var ring = try Ring(
            configuration.virtqueue, features: configuration.features,
            memory: configuration.memory)
        if let observation = configuration.observation {
            ring.observe(
                try observation.pages(configuration.virtqueue, configuration.memory),
                observation.record?.writer)
        }
        state.initialize(
            to: State(
                ring: ring,
                chains: chains.assumingMemoryBound(to: TxChain.self),
                chainMask: configuration.chainCapacity - 1,
                segments: SegmentList(
                    base: segments.assumingMemoryBound(to: Segment.self),
                    capacity: configuration.segmentCapacity),
                netHeaderByteCount: NetHeaderLayout(
                    hashReport: configuration.features.contains(.hashReport)
                ).byteCount,
                offloads: TxOffloads(configuration.features), counters: block,
                call: call))
        // Local functions, not closures: profilers show their names.
        func dequeue(_ packets: UnsafeMutablePointer<TxPacket>, _ count: Int) -> DequeueResult {
            TxBurst<Ring>.dequeue(packets, count, state)
        }
        func complete(_ count: Int) -> QueueEvents { TxBurst<Ring>.complete(count, state) }
        return TxQueueOperations(
            dequeue: dequeue, complete: complete,
            heldCount: { state.pointee.heldCount }, base: { state.pointee.ring.base },
            setKicks: { state.pointee.ring.setKicks(enabled: $0) })
    }

    private static func allocate(
        _ arena: MemoryArena, _ byteCount: Int
    ) throws(SetupError) -> UnsafeMutableRawPointer {
        do { return try arena.allocate(byteCount: byteCount) } catch {
            throw SetupError("queue memory: \(error)")
        }
    }
}
