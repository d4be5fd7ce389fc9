// control path
//
// One RQ of a device, as its owner sees it: made over a virtqueue and, for method D, linked to a
// header queue; then fed bursts. The choice of method, report and ring is made here, once.

import CleaveHost
import CleaveRings

/// What one call of `enqueue` did.
@frozen
public struct EnqueueResult: Sendable, BitwiseCopyable {
    /// References consumed: delivered, or dropped and marked so. The caller keeps the rest.
    public let consumed: Int
    /// Packets delivered.
    public let delivered: Int
    /// Events for the owner.
    public let events: QueueEvents

    /// The driver asked to be called and no `callDescriptor` was given: the caller must do it.
    @inlinable @inline(__always)
    public var wantsCall: Bool { events.contains(.call) }
}

/// One receive queue. Feed it from one thread at a time; read its counters from any.
///
/// A call of `enqueue` is the one dynamic call of a burst; everything below it is specialised.
public final class RxQueue: @unchecked Sendable {
    // SAFETY: `enqueue` is documented to be called from one thread at a time; everything else is
    // constant, or counter words with one writer.

    /// The largest burst that may be configured.
    public static let maximumBurst = BurstLimit.packets
    /// Most references of one packet.
    public static let maximumRefsPerPacket = BurstLimit.refsPerPacket

    public let configuration: RxQueueConfiguration
    /// Where the cycles of its polls go; nil in a build without the trait Profiling.
    public let profile: RxProfile?
    /// Carries the driver's kicks, if a descriptor was given.
    public let kick: NotificationDescriptor?
    private let call: NotificationDescriptor?
    private let block: RxCounterBlock
    let operations: RxQueueOperations
    #if Profiling
    let probe: CycleProbe
    #endif

    /// Checks a configuration and makes the queue.
    /// - Parameters:
    ///   - configuration: the virtqueue, its guest's memory, and how packets are placed.
    ///   - arena: where the queue's private memory comes from; on the worker's NUMA node, with
    ///     `configuration.arenaByteCount` bytes left. It must outlive the queue.
    /// - Throws: `SetupError` if geometry or addresses are invalid, the header queue is another
    ///   guest's, something is set that the method would ignore, or the arena is too small.
    public init(_ configuration: RxQueueConfiguration, in arena: MemoryArena) throws(SetupError) {
        guard (1...Self.maximumBurst).contains(configuration.burst) else {
            throw SetupError(
                "burst \(configuration.burst) is not between 1 and \(Self.maximumBurst)")
        }
        if configuration.method.needsHeaderQueue && configuration.headerQueue == nil {
            throw SetupError("method D needs a header queue")
        }
        if !configuration.method.needsHeaderQueue && configuration.headerQueue != nil {
            throw SetupError(
                "a header queue is given, and method \(configuration.method.kind.rawValue) claims "
                    + "no slots: method D does")
        }
        if configuration.method.needsMergeableBuffers
            && !configuration.features.contains(.mergeableBuffers)
        {
            throw SetupError("methods B and C need mergeable buffers (MRG_RXBUF)")
        }
        try configuration.splitPolicy.check(for: configuration.method)
        try configuration.features.check()
        try configuration.headerQueue?.check(belongsTo: configuration.memory)
        try configuration.headerQueue?.check(hasRing: configuration.returnRing)
        self.configuration = configuration
        call = try .given(configuration.callDescriptor, for: .call)
        kick = try .given(configuration.kickDescriptor, for: .kick)
        let sender = call?.sender ?? .none
        let parts =
            switch (configuration.virtqueue.format, configuration.observation != nil) {
            case (.split, false):
                try RxQueueBuilder<SplitVirtqueue>(configuration, call: sender, arena).parts
            case (.packed, false):
                try RxQueueBuilder<PackedVirtqueue>(configuration, call: sender, arena).parts
            case (.split, true):
                try RxQueueBuilder<ObservedVirtqueue<SplitVirtqueue>>(
                    configuration, call: sender, arena
                ).parts
            case (.packed, true):
                try RxQueueBuilder<ObservedVirtqueue<PackedVirtqueue>>(
                    configuration, call: sender, arena
                ).parts
            }
        (block, operations) = (parts.block, parts.operations)
        #if Profiling
        (profile, probe) = (parts.profile, parts.probe)
        #endif
        #if !Profiling
        profile = nil
        #endif
    }

    /// Places up to a burst of packets and publishes them.
    /// - Parameters:
    ///   - refs: references of whole packets, in order; those of dropped packets get marked.
    ///   - count: how many references.
    @inline(__always)
    public func enqueue(
        _ refs: UnsafeMutablePointer<PacketRef>, count: Int
    ) -> EnqueueResult {
        enqueue(refs, count, plainOnly: false)
    }

    /// The same for unchecked references: it ends before the first that is not a packet in one
    /// piece (`PacketRef.isPlain`). The scan checks that anyway; a check before it cost a burst of
    /// 32 another 40 cycles.
    @inline(__always)
    package func enqueue(
        plain refs: UnsafeMutablePointer<PacketRef>, count: Int
    ) -> EnqueueResult {
        enqueue(refs, count, plainOnly: true)
    }

    @inline(__always)
    private func enqueue(
        _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, plainOnly: Bool
    ) -> EnqueueResult {
        #if Profiling
        if probe.isDue() { return enqueueMeasured(refs, count, plainOnly) }
        #endif
        return operations.receive(refs, count, plainOnly)
    }

    /// For a worker, which has decided whether the burst is measured.
    @inline(__always)
    func place(
        _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, measured: Bool
    ) -> EnqueueResult {
        #if Profiling
        if measured { return operations.receiveMeasured(refs, count, false) }
        #endif
        return operations.receive(refs, count, false)
    }

    #if Profiling
    /// Packets delivered.
    @inline(__always) var packetCount: UInt64 { block.read(.packets) }

    @inline(never)
    private func enqueueMeasured(
        _ refs: UnsafeMutablePointer<PacketRef>, _ count: Int, _ plainOnly: Bool
    ) -> EnqueueResult {
        if probe.isWhole() {
            let before = packetCount
            probe.begin()
            let result = operations.receive(refs, count, plainOnly)
            probe.endWhole(packets: packetCount &- before)
            return result
        }
        probe.begin()
        let result = operations.receiveMeasured(refs, count, plainOnly)
        probe.end()
        return result
    }
    #endif

    /// Asks the driver to kick when it posts buffers, or not to: before and after a sleep of the
    /// thread that calls `enqueue`. The next `enqueue` then sees what was posted before.
    public func setKicks(enabled: Bool) { operations.setKicks(enabled) }

    /// Where a stopped queue is resumed (`VirtqueueAddresses.base`).
    public var base: UInt16 { operations.base() }

    /// Why the driver's virtqueue is broken, or `.none`: one word, cheap enough for every burst.
    public var fault: QueueFault { block.fault }

    /// A snapshot.
    public var counters: RxCounters { RxCounters(block) }
}

extension RxQueueConfiguration {
    /// Bytes that a queue takes from its arena, alignment included.
    public var arenaByteCount: Int {
        switch (virtqueue.format, observation != nil) {
        case (.split, false): RxQueueBuilder<SplitVirtqueue>.arenaByteCount(self)
        case (.packed, false): RxQueueBuilder<PackedVirtqueue>.arenaByteCount(self)
        case (.split, true):
            RxQueueBuilder<ObservedVirtqueue<SplitVirtqueue>>.arenaByteCount(self)
        case (.packed, true):
            RxQueueBuilder<ObservedVirtqueue<PackedVirtqueue>>.arenaByteCount(self)
        }
    }
}
