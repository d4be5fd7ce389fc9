// control path
//
// One RQ of a device, as its owner sees it: made over a virtqueue and, for method D, linked to a
// header queue; then fed bursts. The choice of method, report and ring is made here, once.

import Host
import Rings

/// Where headers go. A, B and C report a split, or that there is none, in the 8 bytes behind the
/// virtio-net header (`SplitTail`, slot 0).
public enum RxMethod: Sendable, Equatable {
    /// Nowhere else: packets are placed whole.
    case whole
    /// Method A: into the first descriptor of a chain, whose rest stays unused; payload from the
    /// second on. `used.len` counts the bytes written, not the unused rest.
    case headerDescriptor
    /// Method B: into the first of a packet's buffers, whose rest stays unused; payload from the
    /// second on. Needs MRG_RXBUF, and relaxes its rule that all buffers but the last are full.
    case headerPage
    /// Method C: as B, over small and large buffers that the driver posts in turn. Small ones that
    /// do not hold the rest of a payload are given back within the packet, with length 0.
    /// `headerBufferByteCount`: the size up to which a buffer is a small one.
    case alternating(headerBufferByteCount: Int)
    /// Method D: into the header queue, reported in one of two ways.
    case headerQueue(HeaderReport)

    /// Whether RQs of this method claim slots.
    public var needsHeaderQueue: Bool {
        if case .headerQueue = self { return true }
        return false
    }

    /// Whether a split packet takes several buffers, which only MRG_RXBUF can tell a driver.
    public var needsMergeableBuffers: Bool {
        switch self {
        case .headerPage, .alternating: true
        case .whole, .headerDescriptor, .headerQueue: false
        }
    }

    /// Bytes up to which a buffer is one for headers; 0 where there is no such thing.
    var smallBufferByteCount: Int {
        if case .alternating(let byteCount) = self { return byteCount }
        return 0
    }
}

/// What happens to packets for which the driver has posted too few buffers.
public enum BufferShortage: Sendable {
    /// They stay with their source and are tried again: lossless, for sources that can wait.
    case wait
    /// They are dropped and counted as `noBuffer`.
    case drop
}

/// Everything an RQ is made from.
public struct RxQueueConfiguration: Sendable {
    public var virtqueue: VirtqueueAddresses
    public var features: VirtioFeatures
    public var memory: GuestMemory
    public var method: RxMethod
    /// The queue to claim slots from; several RQs of one device may share it. Needed by
    /// `.headerQueue`, ignored by the others.
    public var headerQueue: HeaderQueue?
    /// Which packets are split; ignored by `.whole`.
    public var splitPolicy: SplitPolicy
    /// Most packets placed and published at once, 1 to 256.
    public var burst: Int
    public var shortage: BufferShortage
    /// Calls the driver: an eventfd, pipe or stream socket, which is duplicated; or -1: then the
    /// owner is only told.
    public var callDescriptor: Int32
    /// By which the driver kicks, of the same kinds, or -1. Needed only by owners that sleep. It is
    /// duplicated.
    public var kickDescriptor: Int32

    public init(
        virtqueue: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        method: RxMethod, headerQueue: HeaderQueue? = nil,
        splitPolicy: SplitPolicy = SplitPolicy(), burst: Int = 32, shortage: BufferShortage = .wait,
        callDescriptor: Int32 = -1, kickDescriptor: Int32 = -1
    ) {
        self.virtqueue = virtqueue
        self.features = features
        self.memory = memory
        self.method = method
        self.headerQueue = headerQueue
        self.splitPolicy = splitPolicy
        self.burst = burst
        self.shortage = shortage
        self.callDescriptor = callDescriptor
        self.kickDescriptor = kickDescriptor
    }
}

/// What one call of `enqueue` did.
@frozen
public struct EnqueueResult: Sendable, BitwiseCopyable {
    /// References done with: delivered, or dropped and marked so. The rest is the caller's still.
    public let consumed: Int
    /// Packets delivered.
    public let delivered: Int
    /// What happened besides.
    public let events: QueueEvents

    /// The driver asked to be called and no `callDescriptor` was given: the caller must do it.
    @inlinable @inline(__always)
    public var wantsCall: Bool { events.contains(.call) }
}

/// One receive queue. Feed it from one thread at a time; read its counters from any.
///
/// A call of `enqueue` is the one dynamic call of a burst; behind it everything is specialised.
public final class RxQueue: @unchecked Sendable {
    // SAFETY: `enqueue` is documented to be called from one thread at a time; everything else is
    // constant, or counter words with one writer.

    /// The largest burst that may be configured.
    public static let maximumBurst = BurstPlan.maximumPackets
    /// Most references of one packet.
    public static let maximumRefsPerPacket = BurstPlan.maximumRefsPerPacket

    public let configuration: RxQueueConfiguration
    /// Where the cycles of its turns go; nil in a build without the trait Profiling.
    public let profile: RxProfile?
    /// By which the driver kicks, if a descriptor was given.
    public let kick: NotificationDescriptor?
    private let call: NotificationDescriptor?
    private let block: RxCounterBlock
    let body: RxQueueBody
    #if Profiling
    let probe: CycleProbe
    #endif

    /// Checks a configuration and makes the queue.
    /// - Parameter arena: where the queue's private memory comes from; on the worker's NUMA node,
    ///   with `configuration.arenaByteCount` bytes left. It must outlive the queue.
    /// - Throws: `RxPathError` if geometry or addresses do not hold, the header queue is another
    ///   guest's, or the arena is too small.
    public init(_ configuration: RxQueueConfiguration, in arena: MemoryArena) throws(RxPathError) {
        guard (1...Self.maximumBurst).contains(configuration.burst) else {
            throw RxPathError(
                "burst \(configuration.burst) is not between 1 and \(Self.maximumBurst)")
        }
        if configuration.method.needsHeaderQueue && configuration.headerQueue == nil {
            throw RxPathError("method D needs a header queue")
        }
        if configuration.method.needsMergeableBuffers
            && !configuration.features.contains(.mergeableBuffers)
        {
            throw RxPathError("methods B and C need mergeable buffers (MRG_RXBUF)")
        }
        try configuration.splitPolicy.check()
        try configuration.features.check()
        try configuration.headerQueue?.check(belongsTo: configuration.memory)
        self.configuration = configuration
        call = try .given(configuration.callDescriptor, for: .call)
        kick = try .given(configuration.kickDescriptor, for: .kick)
        let sender = call?.sender ?? .none
        switch configuration.virtqueue.format {
        case .split:
            let parts = try RxQueueParts<SplitVirtqueue>(configuration, call: sender, arena)
            block = parts.block
            body = parts.body(configuration.method)
            #if Profiling
            (profile, probe) = (parts.profile, parts.probe)
            #endif
        case .packed:
            let parts = try RxQueueParts<PackedVirtqueue>(configuration, call: sender, arena)
            block = parts.block
            body = parts.body(configuration.method)
            #if Profiling
            (profile, probe) = (parts.profile, parts.probe)
            #endif
        }
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

    /// The same for references that nobody has looked at: it ends in front of the first that is not
    /// of a packet in one piece (`PacketRef.isPlain`). The scan looks anyway: a look before it cost
    /// a burst of 32 another 40 cycles.
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
        return body.enqueue(refs, count, plainOnly)
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
            let result = body.enqueue(refs, count, plainOnly)
            probe.endWhole(packets: packetCount &- before)
            return result
        }
        probe.begin()
        let result = body.profiled(refs, count, plainOnly)
        probe.end()
        return result
    }
    #endif

    /// Asks the driver to kick when it posts buffers, or not to: before and after a sleep, by
    /// whoever calls `enqueue`. Behind asking, the next `enqueue` sees what was posted before.
    public func askForKicks(_ wanted: Bool) { body.askForKicks(wanted) }

    /// Where a stopped queue is resumed (`VirtqueueAddresses.base`).
    public var base: UInt16 { body.base() }

    /// Why the driver's virtqueue is broken, or `.none`: one word, cheap enough for every burst.
    public var fault: QueueFault { block.fault }

    /// A snapshot.
    public var counters: RxCounters { RxCounters(block) }
}

extension RxQueueConfiguration {
    /// Bytes that a queue takes from its arena, alignment included.
    public var arenaByteCount: Int {
        switch virtqueue.format {
        case .split: RxQueueParts<SplitVirtqueue>.arenaByteCount(self)
        case .packed: RxQueueParts<PackedVirtqueue>.arenaByteCount(self)
        }
    }
}
