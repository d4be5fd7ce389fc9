/// The headers in front of the payload of a generated frame.
public struct HeaderKind: Sendable, Hashable, CustomStringConvertible {
    public enum Transport: String, Sendable, CaseIterable { case tcp, udp }
    public enum Network: Int, Sendable, CaseIterable {
        case v4 = 4
        case v6 = 6
    }
    /// Tags between the Ethernet addresses and the type: none, one (802.1Q), two (802.1ad).
    public enum Tags: Int, Sendable, CaseIterable { case none, vlan, qinq }

    public let transport: Transport
    public let network: Network
    public let tags: Tags
    /// TCP only: the timestamp option with its padding, 12 bytes (RFC 7323).
    public let hasTimestamp: Bool

    /// `hasTimestamp` has no effect on UDP.
    public init(
        _ transport: Transport, _ network: Network, tags: Tags = .none, hasTimestamp: Bool = false
    ) {
        self.transport = transport
        self.network = network
        self.tags = tags
        self.hasTimestamp = hasTimestamp && transport == .tcp
    }

    /// Every kind there is, the shortest headers of each family first.
    public static let all: [HeaderKind] = Tags.allCases.flatMap { tags in
        Network.allCases.flatMap { network in
            [
                HeaderKind(.tcp, network, tags: tags), HeaderKind(.udp, network, tags: tags),
                HeaderKind(.tcp, network, tags: tags, hasTimestamp: true),
            ]
        }
    }

    /// Bytes of the Ethernet header and its tags.
    var linkByteCount: Int { 14 + 4 * tags.rawValue }
    /// Bytes of the IP header, which has no options and no extension headers.
    var networkByteCount: Int { network == .v4 ? 20 : 40 }
    /// Bytes of the TCP or UDP header with its options.
    var transportByteCount: Int {
        transport == .udp ? 8 : hasTimestamp ? 32 : 20
    }
    /// Bytes of all headers, from the first byte of the Ethernet header: where payload starts.
    public var byteCount: Int { linkByteCount + networkByteCount + transportByteCount }

    /// As a profile writes it: `tcp6+vlan+ts`.
    public var description: String {
        var text = transport.rawValue + String(network.rawValue)
        if tags != .none { text += "+\(tags)" }
        if hasTimestamp { text += "+ts" }
        return text
    }

    /// The kind that `text` spells, as in `udp4` or `tcp6+qinq+ts` (suffixes in any order);
    /// nil if it spells none.
    init?(_ text: Substring) {
        let words = text.split(separator: "+", omittingEmptySubsequences: false)
        var base: (Transport, Network)?
        for transport in Transport.allCases {
            for network in Network.allCases
            where words[0] == transport.rawValue + String(network.rawValue) {
                base = (transport, network)
            }
        }
        guard let (transport, network) = base else { return nil }
        var tags = Tags.none
        var hasTimestamp = false
        for word in words.dropFirst() {
            switch word {
            case "vlan" where tags == .none: tags = .vlan
            case "qinq" where tags == .none: tags = .qinq
            case "ts" where transport == .tcp && !hasTimestamp: hasTimestamp = true
            default: return nil
            }
        }
        self.init(transport, network, tags: tags, hasTimestamp: hasTimestamp)
    }
}
