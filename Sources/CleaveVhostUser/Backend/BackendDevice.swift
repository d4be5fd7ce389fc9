import CleaveHost
import CleaveVirtioNet

/// What a session serves. All calls come on the session's thread, from `service` or `close`.
public protocol BackendDevice: AnyObject {
    /// Features offered to the driver, of virtio and of virtio-net. The session adds its own, bits
    /// 26 and 30. Read once, when a session begins.
    var offeredFeatures: UInt64 { get }
    /// Most queue pairs, 1 to 127; read once, too. There are two rings for each, a control ring
    /// after them if VIRTIO_NET_F_CTRL_VQ is offered, and a set-up ring after that if
    /// VIRTIO_NET_F_HEADER_QUEUE is, which is bit 58.
    var queuePairLimit: Int { get }
    /// The device configuration space.
    var configuration: NetConfiguration { get }

    /// Whether it serves requests now. If not, they stay in the socket until `service` is called
    /// again, which is the owner's to do in time.
    var takesRequests: Bool { get }

    /// Runs `body`, which stops rings and starts them again: a device that traffic flows through
    /// lets none of it see what is between. It does no more than that by itself.
    func change(_ body: () -> Void)

    /// The ring may be used from now on: it is started and enabled, and its addresses are checked.
    /// - Throws: if no queue can be made of it; the ring counts as broken then.
    func start(ring: Int, _ setup: VringSetup) throws(SetupError)

    /// The ring and the guest's memory are not used for it any more once this returns.
    /// - Returns: where it is resumed, in the form of `VirtqueueAddresses.base`.
    func stop(ring: Int) -> UInt16

    /// The driver settled on `features`, without those of the session; 0 after a reset. No ring is
    /// in use, or the features are those of before.
    func negotiated(features: UInt64)

    /// The front-end set the MTU, 68 to 65535.
    func setMTU(_ mtu: Int)

    /// The guest has moved here: tell the network where `mac` (6 bytes) is now.
    func announce(mac: [UInt8])

    /// The driver writes to the device configuration.
    /// - Returns: false if these bytes cannot be written.
    func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool

    /// The front-end has new memory; nil: it has none. No ring is in use.
    func memoryChanged(_ memory: SharedGuestMemory?)

    /// The front-end sets a header queue up by a message.
    /// - Throws: why it is not set up.
    func setHeaderQueue(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory
    ) throws(HeaderQueueRefusal)

    /// The driver retires no more, and wants its header queue as if it were new.
    /// - Returns: false if there is none.
    func resetHeaderQueue() -> Bool

    /// Ends the use of the header queue that a message set up.
    /// - Returns: false if there is none.
    func stopHeaderQueue() -> Bool
}

extension BackendDevice {
    public var takesRequests: Bool { true }
    public func change(_ body: () -> Void) { body() }
    public func memoryChanged(_ memory: SharedGuestMemory?) {}
    public func setHeaderQueue(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory
    ) throws(HeaderQueueRefusal) { throw .mask }
    public func resetHeaderQueue() -> Bool { false }
    public func stopHeaderQueue() -> Bool { false }
}

/// A guest's memory, and what keeps it mapped.
public struct SharedGuestMemory: Sendable {
    public var memory: GuestMemory
    /// Whoever uses `memory` must hold it.
    public var mappings: MappedMemory

    public init(memory: GuestMemory, mappings: MappedMemory) {
        self.memory = memory
        self.mappings = mappings
    }
}

/// The device configuration space of a network device, as far as it has values.
public struct NetConfiguration: Sendable, Equatable {
    /// 6 bytes.
    public var mac: [UInt8]
    public var linkUp: Bool
    /// Most queue pairs that the driver may use (with VIRTIO_NET_F_MQ).
    public var maxQueuePairs: Int
    /// With VIRTIO_NET_F_MTU.
    public var mtu: Int?

    public init(mac: [UInt8], linkUp: Bool, maxQueuePairs: Int, mtu: Int? = nil) {
        self.mac = mac
        self.linkUp = linkUp
        self.maxQueuePairs = maxQueuePairs
        self.mtu = mtu
    }

    /// The first fields of struct virtio_net_config, little-endian: MAC 6, status 2, queue pairs
    /// 2, and MTU 2 if there is one.
    public var bytes: [UInt8] {
        func field(_ value: Int) -> [UInt8] {
            [UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8)]
        }
        let address = Array((mac + [0, 0, 0, 0, 0, 0]).prefix(6))
        return address + field(linkUp ? 1 : 0) + field(maxQueuePairs) + (mtu.map(field) ?? [])
    }
}
