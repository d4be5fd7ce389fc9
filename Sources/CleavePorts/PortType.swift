import CleaveVhostUser
import CleaveVirtioNet

/// What a port's far side is. The raw value is the word in configurations and reports.
public enum PortType: String, CaseIterable, Sendable, Codable {
    /// A guest, or a driver in user space.
    case vhostUser = "vhost-user"
    /// A kernel interface that packets are written to.
    case tap
    /// An existing kernel interface.
    case afPacket = "af-packet"
    /// Capture files.
    case pcap
    /// Made packets.
    case generator

    /// Every reason for which a packet that comes in at such a port can be dropped by the port.
    public var inboundDrops: [String] {
        switch self {
        case .vhostUser: TxDropReason.allCases.map(\.name)
        case .afPacket: PortDrop.allCases.map(\.name)
        case .tap, .pcap, .generator: PortDrop.allCases.filter { $0 != .socketFull }.map(\.name)
        }
    }

    /// The same for a packet that should go out of it.
    public var outboundDrops: [String] {
        switch self {
        case .vhostUser: DropReason.allCases.map(\.name)
        case .tap, .afPacket, .pcap, .generator:
            PortDrop.allCases.filter { $0 != .socketFull }.map(\.name)
        }
    }

    /// Every reason for which a packet can go out whole although there is a header queue.
    public var fallbacks: [String] {
        self == .vhostUser ? FallbackReason.allCases.map(\.name) : []
    }

    /// Everything else that is counted at such a port.
    public var events: [PortEvent] { PortEvent.allCases.filter { $0.types.contains(self) } }

    /// Every reason for which a request of a driver for a header queue can be refused.
    public var headerQueueRefusals: [String] {
        self == .vhostUser ? HeaderQueueRefusal.allCases.map(\.name) : []
    }

    /// What is counted of the messages of a vhost-user connection.
    public var vhostUserEvents: [String] {
        self == .vhostUser ? BackendSession.counterNames : []
    }
}
