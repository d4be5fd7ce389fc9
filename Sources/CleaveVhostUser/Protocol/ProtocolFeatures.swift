/// What the two ends of a vhost-user connection agreed on beyond the device's own features
/// (VHOST_USER_PROTOCOL_F).
public struct ProtocolFeatures: OptionSet, BitwiseCopyable, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// MQ: the back-end tells how many queues it has.
    public static let queueCount = ProtocolFeatures(rawValue: 1 << 0)
    /// LOG_SHMFD: the log of written pages is memory that the front-end shares.
    public static let logMemory = ProtocolFeatures(rawValue: 1 << 1)
    /// RARP: the front-end asks to announce its MAC address after a migration.
    public static let announcement = ProtocolFeatures(rawValue: 1 << 2)
    /// REPLY_ACK: a request may ask to be acknowledged.
    public static let acknowledgement = ProtocolFeatures(rawValue: 1 << 3)
    /// MTU: the front-end sets it.
    public static let mtu = ProtocolFeatures(rawValue: 1 << 4)
    /// BACKEND_REQ: a second connection for requests of the back-end.
    public static let backendRequests = ProtocolFeatures(rawValue: 1 << 5)
    /// CONFIG: the device configuration space is read and written.
    public static let configuration = ProtocolFeatures(rawValue: 1 << 9)
    /// INFLIGHT_SHMFD: the front-end keeps memory in which the back-end notes what is in flight.
    public static let inFlight = ProtocolFeatures(rawValue: 1 << 12)
    /// RESET_DEVICE: a request of its own for it.
    public static let deviceReset = ProtocolFeatures(rawValue: 1 << 13)
    /// INBAND_NOTIFICATIONS: kicks and calls as messages. Not offered.
    public static let inbandNotifications = ProtocolFeatures(rawValue: 1 << 14)
    /// CONFIGURE_MEM_SLOTS: regions come and go one by one.
    public static let memorySlots = ProtocolFeatures(rawValue: 1 << 15)
    /// STATUS: the device status is told.
    public static let status = ProtocolFeatures(rawValue: 1 << 16)

    /// A header queue is set up by messages: of this project, not of the protocol. Offered by
    /// devices that have one, beside `offered`.
    public static let headerQueue = ProtocolFeatures(rawValue: 1 << 48)

    /// What a `BackendSession` offers.
    public static let offered: ProtocolFeatures = [
        .queueCount, .logMemory, .announcement, .acknowledgement, .mtu, .backendRequests,
        .configuration, .inFlight, .deviceReset, .memorySlots, .status,
    ]
}

/// Bits of the device's features that mean something to the connection itself.
enum FeatureBit {
    /// VHOST_USER_F_PROTOCOL_FEATURES: there are protocol features. Never shown to the driver.
    static let protocolFeatures: UInt64 = 1 << 30
    /// VHOST_F_LOG_ALL: pages that are written are logged. Never shown to the driver.
    static let logAll: UInt64 = 1 << 26
    /// Those that belong to the connection.
    static let ofConnection = protocolFeatures | logAll
    /// VIRTIO_F_RING_PACKED.
    static let packedRing: UInt64 = 1 << 34
    /// VIRTIO_NET_F_CTRL_VQ: there is a control ring after those of the queue pairs.
    static let controlQueue: UInt64 = 1 << 17
    /// VIRTIO_NET_F_HEADER_QUEUE, of this project: there is a set-up ring behind that.
    static let headerQueue: UInt64 = 1 << 58
}
