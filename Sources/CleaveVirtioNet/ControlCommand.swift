// control path
//
// Commands of virtio-net's control queue (virtio 1.4, "Control Virtqueue").

/// An Ethernet address.
public struct MACAddress: Sendable, Hashable {
    /// The six bytes, in the order of the wire.
    public let octets: [UInt8]

    /// - Parameter octets: nil is the result unless there are six.
    public init?(_ octets: some Sequence<UInt8>) {
        self.octets = Array(octets)
        if self.octets.count != 6 { return nil }
    }
}

/// What a driver asks of a network device; its numbers are checked.
public enum ControlCommand: Sendable, Equatable {
    /// A filter of received packets, on or off.
    case setReceiveMode(ReceiveMode, Bool)
    /// The addresses to accept.
    case setAddressTable(unicast: [MACAddress], multicast: [MACAddress])
    /// The device's own address.
    case setAddress(MACAddress)
    case addVLAN(UInt16)
    case removeVLAN(UInt16)
    /// The driver has announced itself.
    case acknowledgeAnnouncement
    /// Pairs of queues to use, 1 to 32768. Whether the device has as many is the handler's to say.
    case setQueuePairs(Int)
    /// Receive offloads, as the feature bits.
    case setGuestOffloads(UInt64)

    /// VIRTIO_NET_CTRL_RX: the command's number is the mode's.
    public enum ReceiveMode: UInt8, Sendable, CaseIterable {
        case promiscuous, allMulticast, allUnicast, noMulticast, noUnicast, noBroadcast
    }

    /// Parses a command as a control queue hands it out; nil if it is unknown, too short, too long,
    /// or has numbers that cannot be: the answer is `ControlAnswer.error`.
    public init?(class kind: UInt8, command: UInt8, data: [UInt8]) {
        var reader = Reader(data)
        guard let parsed = Self.parse(kind, command, &reader), reader.isAtEnd else { return nil }
        self = parsed
    }

    private static func parse(
        _ kind: UInt8, _ command: UInt8, _ reader: inout Reader
    ) -> ControlCommand? {
        switch (kind, command) {
        case (0, _):
            guard let mode = ReceiveMode(rawValue: command), let value = reader.number(1),
                value < 2
            else { return nil }
            return .setReceiveMode(mode, value == 1)
        case (1, 0):
            guard let unicast = reader.addresses(), let multicast = reader.addresses() else {
                return nil
            }
            return .setAddressTable(unicast: unicast, multicast: multicast)
        case (1, 1): return reader.address().map { .setAddress($0) }
        case (2, 0): return vlan(&reader).map { .addVLAN($0) }
        case (2, 1): return vlan(&reader).map { .removeVLAN($0) }
        case (3, 0): return .acknowledgeAnnouncement
        case (4, 0):
            guard let pairs = reader.number(2), (1...0x8000).contains(pairs) else { return nil }
            return .setQueuePairs(Int(pairs))
        case (5, 0): return reader.number(8).map { .setGuestOffloads($0) }
        default: return nil
        }
    }

    private static func vlan(_ reader: inout Reader) -> UInt16? {
        guard let id = reader.number(2), id < 4096 else { return nil }
        return UInt16(id)
    }

    /// Little-endian numbers and addresses, one after the other.
    private struct Reader {
        private var bytes: ArraySlice<UInt8>

        init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

        var isAtEnd: Bool { bytes.isEmpty }

        mutating func number(_ byteCount: Int) -> UInt64? {
            if bytes.count < byteCount { return nil }
            defer { bytes = bytes.dropFirst(byteCount) }
            return bytes.prefix(byteCount).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }

        mutating func address() -> MACAddress? {
            if bytes.count < 6 { return nil }
            defer { bytes = bytes.dropFirst(6) }
            return MACAddress(bytes.prefix(6))
        }

        /// A count and as many addresses.
        mutating func addresses() -> [MACAddress]? {
            // Compared before it is multiplied or reserved.
            guard let count = number(4), count <= UInt64(bytes.count / 6) else { return nil }
            var list: [MACAddress] = []
            for _ in 0..<count {
                guard let next = address() else { return nil }
                list.append(next)
            }
            return list
        }
    }
}
