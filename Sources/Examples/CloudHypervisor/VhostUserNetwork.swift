/// An interface whose packets go from the guest's memory straight into that of another guest.
///
/// The virtual machine's memory has to be shared (`MemoryConfig.shared`), as it is for virtio-fs,
/// because the switch reads and writes packets where they lie.
public struct VhostUserInterface: CHInterface, Interface, Equatable {
    public let ipv4Address: CIDRv4
    public let macAddress: MACAddress?
    public let mtu: UInt32
    /// Where the switch listens for the VMM.
    public let socket: String
    public let queuePairs: Int

    public func chNetConfig() throws -> CloudHypervisor.NetConfig {
        var config = CloudHypervisor.NetConfig()
        config.mac = macAddress?.description
        config.mtu = Int(mtu)
        // A receive and a transmit queue for each pair.
        config.numQueues = 2 * queuePairs
        config.queueSize = 256
        config.vhostUser = true
        config.vhostSocket = socket
        config.vhostMode = "Client"
        return config
    }

    /// The same for a command line of cloud-hypervisor: what follows `--net`.
    public var argument: String {
        var parts = ["vhost_user=true", "socket=\(socket)", "vhost_mode=client"]
        if let macAddress { parts.append("mac=\(macAddress.description)") }
        return (parts + ["mtu=\(mtu)", "num_queues=\(2 * queuePairs)", "queue_size=256"])
            .joined(separator: ",")
    }
}

/// Containers on one switch, each in a virtual machine of its own: the part that
/// `LinuxBridgedNetwork` plays with TAPs and a bridge, without their copies and without
/// CAP_NET_ADMIN.
///
/// The switch has its ports from the start; a container takes one that is free, and gives it back.
/// A VMM that dies, or starts anew, connects to the same port again.
public struct VhostUserNetwork: Network {
    private let process: SwitchProcess
    private let prefix: String
    private let queuePairs: Int
    private let mtu: UInt32
    /// Which container has which port.
    private var owners: [String?]

    /// - Parameters:
    ///   - process: the switch, with a port for each container that there can be at once, and
    ///     with these `queuePairs` and `mtu`.
    ///   - prefix: the first three numbers of the containers' addresses, such as "192.168.64".
    public init(
        _ process: SwitchProcess, prefix: String, queuePairs: Int = 1, mtu: UInt32 = 1500
    ) {
        self.process = process
        self.prefix = prefix
        self.queuePairs = queuePairs
        self.mtu = mtu
        owners = Array(repeating: nil, count: process.sockets.count)
    }

    public mutating func createInterface(_ id: String) throws -> Interface? {
        guard process.isRunning else {
            throw NetworkFailure(description: "the switch of \(id)'s network has ended")
        }
        guard !owners.contains(id) else {
            throw NetworkFailure(description: "\(id) has an interface already")
        }
        guard let port = owners.firstIndex(of: nil) else {
            throw NetworkFailure(
                description: "no port is left for \(id): all \(owners.count) are in use")
        }
        owners[port] = id
        // .0 is the network, .1 the gateway.
        return VhostUserInterface(
            ipv4Address: CIDRv4("\(prefix).\(port + 2)/24"),
            macAddress: MACAddress("02:00:00:00:00:" + Self.hexadecimal(port + 2)), mtu: mtu,
            socket: process.sockets[port], queuePairs: queuePairs)
    }

    public mutating func releaseInterface(_ id: String) throws {
        guard let port = owners.firstIndex(of: id) else {
            throw NetworkFailure(description: "\(id) has no interface here")
        }
        owners[port] = nil
    }

    private static func hexadecimal(_ number: Int) -> String {
        let digits = String(number, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
    }
}
