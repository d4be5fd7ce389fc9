// What a front-end has said of one ring, and what that makes of it.

import CleaveHost
import CleaveVirtioNet

/// Everything a queue is made from.
public struct VringSetup: Sendable {
    /// In guest addresses; size, alignment and range are checked.
    public var virtqueue: VirtqueueAddresses
    /// As negotiated, without bits 26 and 30, which are the connection's own.
    public var features: UInt64
    public var memory: GuestMemory
    /// Whoever uses `memory` must hold it.
    public var mappings: MappedMemory
    /// Calls the driver; -1 for none. The session's, valid during `start`: a queue duplicates it.
    public var callDescriptor: Int32
    /// Carries the driver's kicks; -1 for none: the ring is polled. As above.
    public var kickDescriptor: Int32
    /// What a queue has to keep of its doings; nil for nothing.
    package var observation: QueueObservation?

    public init(
        virtqueue: VirtqueueAddresses, features: UInt64, memory: GuestMemory,
        mappings: MappedMemory, callDescriptor: Int32, kickDescriptor: Int32
    ) {
        self.virtqueue = virtqueue
        self.features = features
        self.memory = memory
        self.mappings = mappings
        self.callDescriptor = callDescriptor
        self.kickDescriptor = kickDescriptor
    }
}

/// One ring of a session.
///
/// It is *started* by a kick descriptor and stopped by GET_VRING_BASE; it is *enabled* or not,
/// apart from that. While it is both, and is not broken, the device runs it.
struct Vring {
    /// Entries; 0 until they are set.
    var size = 0
    var address: VringAddress?
    /// As SET_VRING_BASE gives it and GET_VRING_BASE returns it; nil until one of them came.
    var base: UInt32?
    /// `base` is where the device stopped, and not what the front-end said.
    var isBaseOurs = false
    /// Where a reset stopped it, for GET_VRING_BASE alone: when a guest is paused or has moved,
    /// QEMU 7.2 sends status 0 first, and asks for the position only then.
    var baseBeforeReset: UInt32?
    var call: NotificationDescriptor?
    var kick: NotificationDescriptor?
    var error: NotificationDescriptor?
    var isStarted = false
    /// What SET_VRING_ENABLE said; nil before it.
    var enable: Bool?
    /// The device has it.
    var isRunning = false
    /// Until it is stopped by GET_VRING_BASE, or reset.
    var isBroken = false

    /// Forgets all but the descriptors, which a front-end does not send again after a reset, and
    /// the position, which it may still ask for.
    mutating func reset() {
        let (call, error, last) = (self.call, self.error, base ?? baseBeforeReset)
        self = Vring()
        self.call = call
        self.error = error
        baseBeforeReset = last
    }

    /// The position at which the device resumes.
    func resumePosition(_ format: RingFormat) -> UInt16? {
        guard let base else { return nil }
        let (available, used) = (UInt16(truncatingIfNeeded: base), UInt16(base >> 16))
        switch format {
        case .split: return available
        // DPDK's back-end answers with the available position alone, and so front-ends return that.
        case .packed: return used == 0 ? available : used
        }
    }

    /// The base of a ring whose queue has no buffers in flight: both positions are the same.
    static func base(at position: UInt16, _ format: RingFormat) -> UInt32 {
        format == .split ? UInt32(position) : UInt32(position) << 16 | UInt32(position)
    }

    /// The ring in guest addresses, checked.
    /// - Parameter base: nil for that of a fresh ring.
    func virtqueue(
        _ format: RingFormat, base: UInt16?, in table: MemoryTable
    ) throws(SetupError) -> VirtqueueAddresses {
        guard let address else { throw SetupError("the ring has no addresses") }
        func translate(_ name: String, _ user: UInt64) throws(SetupError) -> GuestAddress {
            if let found = table.guestAddress(ofUser: user) { return found }
            throw SetupError(
                "\(name) at front-end address 0x\(String(user, radix: 16)) is in no memory region")
        }
        var virtqueue = VirtqueueAddresses(
            format: format, size: size,
            descriptorArea: try translate("descriptor area", address.descriptorArea),
            driverArea: try translate("driver area", address.driverArea),
            deviceArea: try translate("device area", address.deviceArea),
            base: base)
        try virtqueue.check(in: table.memory)
        if !isBaseOurs && Self.isFreshPacked(virtqueue, in: table.memory) {
            virtqueue.base = VirtqueueAddresses.freshBase(.packed)
        }
        return virtqueue
    }

    /// Whether a packed ring is new although its base is 0, which is offset 0 with the wrap counter
    /// 0. User-Mode Linux begins so, and means the counter 1 with which a ring begins.
    ///
    /// On an old ring with the counter 0 the descriptor at offset 0 was used in the round before,
    /// or is made available with the flags of this one: both have USED set (virtio 1.4, "Packed
    /// Virtqueues: Driver and Device Ring Wrap Counters"). On a new one it never was. It has not,
    /// either, if it was inside a chain that crossed the ring's end: so nothing is guessed of a
    /// place at which the device stopped itself.
    private static func isFreshPacked(
        _ virtqueue: VirtqueueAddresses, in memory: GuestMemory
    ) -> Bool {
        guard virtqueue.format == .packed, virtqueue.base == 0,
            let ring = memory.translate(virtqueue.descriptorArea, byteCount: 16)
        else { return false }
        return ring.load(fromByteOffset: 14, as: UInt16.self) & 0x8000 == 0
    }
}
