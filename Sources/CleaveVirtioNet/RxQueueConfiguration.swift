// control path
import CleaveHost

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
    /// The queue to claim slots from; several RQs of one device may share it. `.headerQueue` needs
    /// one, the other methods refuse one.
    public var headerQueue: HeaderQueue?
    /// Which of the header queue's return rings is this RQ's, if each RQ has one, from 0 on: no
    /// other RQ may have it as long as this one runs. The driver of this RQ gives slots by it.
    public var returnRing = 0
    /// Which packets are split. What `method` would not obey is refused.
    public var splitPolicy: SplitPolicy
    /// Most packets placed and published at once, 1 to 256.
    public var burst: Int
    public var shortage: BufferShortage
    /// Calls the driver: an eventfd, pipe or stream socket, which is duplicated; or -1: then the
    /// owner is only told.
    public var callDescriptor: Int32
    /// Carries the driver's kicks: a descriptor of the same kinds, which is duplicated, or -1.
    /// Needed only by owners that sleep.
    public var kickDescriptor: Int32
    /// What to keep of the queue's doings; nil for nothing.
    package var observation: QueueObservation?

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
