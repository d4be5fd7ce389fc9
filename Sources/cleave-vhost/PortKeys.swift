// The keys of ports, by what is at their far side.

import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import CleaveVirtioNet

extension PortType {
    /// Keys beside `type` and those of every port.
    var ownKeys: [SettingKey] {
        switch self {
        case .vhostUser: PortKeys.vhostUser
        case .tap:
            [PortKeys.interface("A TAP device, which is made if it does not exist."), .queues]
        case .afPacket: [PortKeys.interface("The interface that a packet socket is at."), .queues]
        case .pcap: PortKeys.pcap
        case .generator: PortKeys.generator
        }
    }

    /// All keys but `type`.
    var keys: [SettingKey] { [PortKeys.name] + ownKeys + PortKeys.limits }

    /// What a port of it is, for people.
    var summary: String {
        switch self {
        case .vhostUser: "A guest's network card."
        case .tap: "A TAP device of this host."
        case .afPacket: "An interface of this host, by a packet socket."
        case .pcap: "A capture file that is played, one that is written, or both."
        case .generator: "A traffic generator; what goes out of it is counted."
        }
    }

    /// The keys as `--help` shows them: `type=tap,interface=NAME [,queues=N]`. Lines break at the
    /// blanks, which a port's text has none of.
    var usage: String {
        (["type=\(rawValue)"]
            + ownKeys.map { key in
                let text = "\(key.name)=\(key.placeholder)"
                return key.isRequired ? ",\(text)" : " [,\(text)]"
            }).joined()
    }
}

extension SettingKey {
    fileprivate static let queues = SettingKey(
        name: "queues", kind: .number(1...256, units: "queues"),
        help: "Queues; packets of a flow go to one of them.", defaultText: "1", example: "4")
    fileprivate static let node = SettingKey(
        name: "node", kind: .number(0...1023),
        help: "NUMA node of the port's own memory.", example: "0")
    fileprivate static let rate = SettingKey(
        name: "rate", kind: .number(1...1_000_000_000, units: "packets per second"),
        help: "At which packets come in; as fast as they are taken if nothing is said.",
        example: "100k")
}

enum PortKeys {
    static let type = SettingKey(
        name: "type", kind: .choice(PortType.allCases.map(\.rawValue)),
        help: "What is at the far side.", example: "vhost-user", isRequired: true)

    /// All keys as `--help` shows them.
    static var usage: String {
        let common = ([name] + limits).map { "[,\($0.name)=\($0.placeholder)]" }.joined(
            separator: " ")
        return PortType.allCases.map(\.usage).joined(separator: "; ") + "; each with \(common)"
    }

    static let name = SettingKey(
        name: "name", kind: .text("NAME"),
        help: "In commands and counters: 1 to 60 visible letters without commas, and no dash in "
            + "front; port0, port1, ... by the port's place if nothing is said. A port is the same "
            + "after a reload if its name and all its keys are.",
        example: "left")

    /// Of every port.
    static let limits = [
        SettingKey(
            name: "rate-limit", kind: .number(RateLimit.bitRange, units: "bits per second"),
            help: "Most that may come in at the port, of whole Ethernet frames. A tenth of it may "
                + "come at once. What is beyond is dropped and counted as rateLimited.",
            example: "1G"),
        SettingKey(
            name: "packet-limit", kind: .number(RateLimit.packetRange, units: "packets per second"),
            help: "The same in packets; one that is still to be segmented counts once.",
            example: "100k"),
    ]

    static func interface(_ help: String) -> SettingKey {
        SettingKey(
            name: "interface", kind: .text("NAME"), help: help, example: "tap0", isRequired: true)
    }

    static let vhostUser = [
        SettingKey(
            name: "path", kind: .text("FILE"), help: "The socket, at most 107 bytes.",
            example: "/tmp/a.sock", isRequired: true),
        SettingKey(
            name: "mode", kind: .choice(VhostUserPortConfiguration.Mode.allCases.map(\.rawValue)),
            help: "A server listens; a client connects to a VMM that listens, again and again.",
            defaultText: "server", example: "client"),
        SettingKey(
            name: "queues", kind: .number(1...128, units: "queue pairs"),
            help: "Queue pairs offered; with a header queue at most 127.", defaultText: "1",
            example: "4"),
        SettingKey(
            name: "mtu", kind: .number(68...65535, units: "bytes"),
            help: "Offered to the driver; one that takes it gets no longer frames. The VMM's, or "
                + "the driver's own, if nothing is said.",
            example: "9000"),
        SettingKey(
            name: "mac", kind: .mac,
            help: "Offered to the driver. The VMM's, or one that the driver picks, if nothing is "
                + "said.",
            example: "52:54:00:12:34:56"),
        SettingKey(
            name: "features-off", kind: .features,
            help: "Features that are not offered, by the names that QEMU's properties have.",
            example: "packed+csum"),
        .node,
        SettingKey(
            name: "header-queue", kind: .flag,
            help: "The driver may set up a header queue: on is split-method=d.",
            defaultText: "off", example: "on"),
        SettingKey(
            name: "split-method", kind: .choice([RxMethod.Kind.whole, .d].map(\.rawValue)),
            help: "Where headers go: with the payload (whole), or to a header queue (d) once the "
                + "driver has set one up; it has packets whole until then.",
            defaultText: "whole", example: "d"),
        SettingKey(
            name: "split-threshold",
            kind: .number(0...SplitPolicy.maximumThreshold, units: "bytes", kilo: 1024),
            help: "Only packets of more bytes are split, as by ethtool's hds-thresh.",
            defaultText: "0", example: "256"),
        SettingKey(
            name: "slot-count",
            kind: .number(1...HeaderQueueLayout.maximumSlotCount, units: "slots", kilo: 1024),
            help: "Most slots that a driver may ask for in its header queue, a power of two. The "
                + "driver chooses how many; one that asks for more is refused.",
            defaultText: "\(HeaderQueueLayout.maximumSlotCount)", example: "1k"),
        SettingKey(
            name: "slot-size",
            kind: .number(HeaderQueueLayout.slotSizes, units: "bytes", kilo: 1024),
            help: "Most bytes of each slot, a power of two; the driver chooses, as above.",
            defaultText: "\(HeaderQueueLayout.slotSizes.upperBound)", example: "256"),
    ]

    static let pcap = [
        SettingKey(
            name: "in", kind: .text("FILE"),
            help: "A pcap or pcapng file to play. A frame check sequence that it declares is not "
                + "played, and of a file that ends inside a packet what comes before it.",
            example: "trace.pcap"),
        SettingKey(
            name: "out", kind: .text("FILE"), help: "A pcapng file to write.",
            example: "record.pcapng"),
        .rate,
        SettingKey(
            name: "loop", kind: .number(0...SettingValue.maximumCount, units: "times"),
            help: "How often the file is played; 0: without end.", defaultText: "1", example: "10"),
    ]

    static let generator = [
        SettingKey(
            name: "traffic", kind: .text("SIZE/KIND"),
            help: "Sizes and headers: 64, 1500/udp4, imix/tcp6+vlan, mixed.", defaultText: "64",
            example: "1500/udp4"),
        .rate,
        SettingKey(
            name: "flows", kind: .number(1...65536, units: "flows"), help: "Flows that alternate.",
            defaultText: "1", example: "16"),
        SettingKey(
            name: "count", kind: .number(1...SettingValue.maximumCount, units: "packets"),
            help: "How many come in; no end if nothing is said.", example: "1M"),
        .queues,
        SettingKey(
            name: "from", kind: .mac, help: "The address that frames come from.",
            example: "02:00:00:00:00:aa"),
        SettingKey(
            name: "to", kind: .mac, help: "The address that they go to.",
            example: "52:54:00:12:34:56"),
        .node,
    ]
}
