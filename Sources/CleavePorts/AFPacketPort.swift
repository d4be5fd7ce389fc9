// A packet socket: the port by which an existing interface of the host, such as a network card or
// one end of a veth pair, is on the switch.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet
import Glibc

/// What a port on an existing interface is made from.
public struct AFPacketPortConfiguration: Sendable, Equatable {
    /// The port's name in commands and counters.
    public var name: String
    /// The interface, at most 15 bytes.
    public var interface: String
    /// Queues, 1 to 256, of 4.25 MiB each. The kernel spreads flows over them.
    public var queues = 1
    /// Whether frames for any address are taken, as a switch needs them; otherwise the interface's
    /// own, broadcasts, and groups that it has joined.
    public var promiscuous = true
    /// NUMA node of the queues' memory; nil for any.
    public var node: Int?

    public init(name: String, interface: String) {
        self.name = name
        self.interface = interface
    }

    func check() throws(SetupError) {
        try InterfaceName.check(interface, port: name)
        guard (1...256).contains(queues) else {
            throw SetupError("port \(name): \(queues) queues: need 1 to 256")
        }
    }
}

/// A port whose far side is what an interface of the host is connected to. The host's own stack
/// keeps the interface: it sees what comes in as well, and what it sends does not come in here.
///
/// TCP is left unsegmented both ways. A tag that the kernel has taken out of a frame is put back.
public final class AFPacketPort: UnattendedPort {
    public let configuration: AFPacketPortConfiguration
    public var name: String { configuration.name }
    public var type: PortType { .afPacket }
    public var queues: [any PortQueue] { kernelQueues }

    let kernelQueues: [KernelQueue]
    /// What another process has opened, until the port is.
    var taken: TakenKernelQueues?
    /// Another process may take the port over.
    var isResting = false
    private weak var host: (any PortHost)?

    /// UDP is not among them: kernels before 6.2 refuse it, and do not tell.
    private static let offloads: VirtioFeatures = [
        .guestChecksum, .guestTSO4, .guestTSO6, .guestECN,
    ]

    public init(_ configuration: AFPacketPortConfiguration) throws(SetupError) {
        try configuration.check()
        self.configuration = configuration
        kernelQueues = (0..<configuration.queues).map { _ in KernelQueue(.packetSocket) }
    }

    public func open(for host: any PortHost) throws(SetupError) {
        for queue in kernelQueues {
            do throws(SetupError) { try queue.allocate(node: configuration.node) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
        var opened: [Int32] = taken?.opened.map(\.descriptor) ?? []
        taken = nil
        do throws(SetupError) {
            var group: Int32 = -1
            for _ in kernelQueues where opened.count < kernelQueues.count {
                let descriptor = cleave_packet_open(
                    configuration.interface, configuration.promiscuous ? 1 : 0)
                guard descriptor >= 0 else { throw refusal(-descriptor) }
                opened.append(descriptor)
                if configuration.queues == 1 { break }
                group = cleave_packet_share(descriptor, group)
                guard group >= 0 else { throw refusal(-group) }
            }
        } catch {
            for descriptor in opened { Glibc.close(descriptor) }
            throw error
        }
        self.host = host
        host.whileHeld(by: self) {
            for (queue, descriptor) in zip(kernelQueues, opened) {
                queue.attach(descriptor, offloads: Self.offloads)
            }
        }
    }

    private func refusal(_ code: Int32) -> SetupError {
        let interface = configuration.interface
        let why: String
        switch code {
        case EPERM, EACCES: why = "not permitted: it takes CAP_NET_RAW"
        case ENODEV:
            return SetupError("port \(name): there is no interface \(interface)", code: code)
        default: why = HostError("packet socket", code: code, "cannot open").description
        }
        return SetupError("port \(name): interface \(interface): \(why)", code: code)
    }

    public func close() {
        host?.whileHeld(by: self) { for queue in kernelQueues { queue.detach() } }
        host = nil
    }

    public var ownCounters: PortCounters { PortCounters() }
}
