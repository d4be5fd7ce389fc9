// Stands in for the package `containerization` (github.com/apple/containerization), as far as a
// network for virtual machines under cloud-hypervisor needs it: its names, in fewer words, so that
// this example builds without that package. A program that has it drops this file and imports
// `Containerization`, `CloudHypervisor` and `ContainerizationExtras`.
//
// One thing is different. That package's `NetConfig` names a TAP alone: it has no key for a
// vhost-user device, so an interface cannot ask for one yet. The three that cloud-hypervisor has
// for it are `vhostUser`, `vhostSocket` and `vhostMode` here.

/// An address with the length of its network's prefix, such as 192.168.64.3/24.
public struct CIDRv4: Sendable, Equatable {
    public let description: String
    public init(_ description: String) { self.description = description }
}

public struct MACAddress: Sendable, Equatable {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// A container's network interface.
public protocol Interface: Sendable {
    var ipv4Address: CIDRv4 { get }
    var macAddress: MACAddress? { get }
    /// In bytes.
    var mtu: UInt32 { get }
}

/// An interface that a virtual machine of cloud-hypervisor can be given.
public protocol CHInterface {
    func chNetConfig() throws -> CloudHypervisor.NetConfig
}

/// Gives containers interfaces, and takes them back.
public protocol Network: Sendable {
    mutating func createInterface(_ id: String) throws -> Interface?
    mutating func releaseInterface(_ id: String) throws
}

public enum CloudHypervisor {
    /// A network device, as cloud-hypervisor's REST interface takes it (`vm.create`, `vm.add-net`).
    public struct NetConfig: Sendable, Codable, Equatable {
        public var tap: String?
        public var mac: String?
        public var mtu: Int?
        public var numQueues: Int?
        public var queueSize: Int?
        public var id: String?
        public var vhostUser: Bool?
        public var vhostSocket: String?
        /// `Client`: the VMM connects to the socket. `Server`: it listens there.
        public var vhostMode: String?

        public init() {}

        enum CodingKeys: String, CodingKey {
            case tap, mac, mtu, id
            case numQueues = "num_queues"
            case queueSize = "queue_size"
            case vhostUser = "vhost_user"
            case vhostSocket = "vhost_socket"
            case vhostMode = "vhost_mode"
        }
    }
}
