// Samples above the network layer and below it: tags, transports, tunnels, other protocols.
import CleaveVirtioNet

extension Sample {
    private typealias F = Frames

    static let tags: [Sample] = [
        Sample("E07", "one tag", tagged([0x8100]), headers: 58),
        Sample("E07", "802.1ad and 802.1Q", tagged([0x88a8, 0x8100]), headers: 62),
        Sample("E07", "802.1Q twice", tagged([0x8100, 0x8100]), headers: 62),
        Sample("E07", "0x9100 and 802.1Q", tagged([0x9100, 0x8100]), headers: 62),
        Sample("E07", "three tags", tagged([0x88a8, 0x8100, 0x8100]), .tooManyTags),
        Sample("E07", "eight tags", tagged([Int](repeating: 0x8100, count: 8)), .tooManyTags),
        Sample("E07", "tag, then nothing", Array(tagged([0x8100]).prefix(14)), .truncated),
        Sample("E07", "half a tag", Array(tagged([0x8100]).prefix(16)), .truncated),
        Sample(
            "E07", "two tags, no more", Array(tagged([0x88a8, 0x8100]).prefix(18)), .truncated),
        Sample("E07", "802.3 length", F.ethernet(1500, F.payload(100)), .notIP),
        Sample("E07", "LLC and SNAP carrying IPv4", snap, .notIP),
        Sample("E07", "MPLS", F.ethernet(0x8847, F.payload(100)), .notIP),
    ]

    private static func tagged(_ tags: [Int]) -> [UInt8] {
        F.ethernet(0x0800, tags: tags, F.ipv4(6, F.tcp(F.payload(40))))
    }

    private static let snap = F.ethernet(
        108, [0xaa, 0xaa, 3, 0, 0, 0, 8, 0] + F.ipv4(6, F.tcp(F.payload(60))))

    static let transports: [Sample] =
        [0, 1, 2, 3, 4].flatMap { (words: Int) in
            [
                Sample(
                    "E08", "data offset \(words) over IPv4",
                    F.ethernet(0x0800, F.ipv4(6, F.tcp(dataOffset: words, F.payload(60)))),
                    .badTCP),
                Sample(
                    "E08", "data offset \(words) over IPv6",
                    F.ethernet(0x86dd, F.ipv6(6, F.tcp(dataOffset: words, F.payload(60)))),
                    .badTCP),
            ]
        } + [
            Sample(
                "E08", "data offset beyond the IPv4 packet",
                F.ethernet(0x0800, F.ipv4(6, F.tcp(dataOffset: 15, F.payload(39)))), .truncated),
            Sample(
                "E08", "data offset ends in the padding",
                F.ethernet(0x0800, F.ipv4(6, F.tcp(dataOffset: 15, F.payload(39))) + [0]),
                .badIPv4),
            Sample(
                "E08", "data offset beyond the IPv6 packet",
                F.ethernet(0x86dd, F.ipv6(6, F.tcp(dataOffset: 15, F.payload(39)))), .truncated),
            Sample(
                "E08", "garbage options",
                F.ethernet(0x0800, F.ipv4(6, F.tcp(dataOffset: 15, F.payload(40)))), headers: 94),
            Sample("E08", "pure ACK", F.tcpv4(optionWords: 3, []), headers: 66),
            Sample(
                "E08", "pure ACK over IPv6", F.ethernet(0x86dd, F.ipv6(6, F.tcp([]))), headers: 74),
            Sample("E08", "UDP without payload", F.udpv4([]), headers: 42),
            Sample(
                "E08", "UDP without payload over IPv6", F.ethernet(0x86dd, F.ipv6(17, F.udp([]))),
                headers: 62),
            Sample(
                "E08", "UDP length 0",
                F.ethernet(0x0800, F.ipv4(17, F.udp(F.payload(40), length: 0))), headers: 42),
            Sample(
                "E08", "UDP length 65535",
                F.ethernet(0x0800, F.ipv4(17, F.udp(F.payload(40), length: 65535))), headers: 42),
            Sample("E09", "ICMP", over4(1), .notTransport),
            Sample("E09", "SCTP", over4(132), .notTransport),
            Sample("E09", "DCCP", over4(33), .notTransport),
            Sample("E09", "UDP-Lite", over4(136), .notTransport),
            Sample("E09", "ICMPv6", over6(58), .notTransport),
            Sample("E09", "SCTP over IPv6", over6(132), .notTransport),
            Sample("E09", "IPv4's protocol 0", over4(0), .notTransport),
            Sample("E09", "IPv4's protocol 22 (6 or 16)", over4(22), .notTransport),
            Sample("E09", "IPv4's protocol 7", over4(7), .notTransport),
        ]

    private static func over4(_ transport: UInt8) -> [UInt8] {
        F.ethernet(0x0800, F.ipv4(transport, F.payload(64)))
    }

    private static func over6(_ transport: UInt8) -> [UInt8] {
        F.ethernet(0x86dd, F.ipv6(transport, F.payload(64)))
    }

    private static let inner = F.ipv4(6, F.tcp(F.payload(20)))

    static let tunnels: [Sample] = [
        Sample(
            "E10", "GRE with key, sequence and checksum",
            F.ethernet(
                0x0800,
                F.ipv4(47, [0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1] + inner)),
            .notTransport),
        Sample("E10", "GRE in GRE", F.ethernet(0x0800, F.ipv4(47, gre(gre(inner)))), .notTransport),
        Sample(
            "E10", "GRE over IPv6", F.ethernet(0x86dd, F.ipv6(47, [0, 0, 8, 0] + inner)),
            .notTransport),
        Sample(
            "E10", "VXLAN",
            F.udpv4([8, 0, 0, 0, 0, 0, 7, 0] + F.tcpv4(F.payload(20)), destination: 4789),
            headers: 42),
        Sample(
            "E10", "Geneve with a lying option length",
            F.udpv4([0x3f, 0, 0x65, 0x58, 0, 0, 7, 0] + F.tcpv4([]), destination: 6081),
            headers: 42),
        Sample("E10", "IP in IP", F.ethernet(0x0800, F.ipv4(4, inner)), .notTransport),
        Sample(
            "E10", "6in4", F.ethernet(0x0800, F.ipv4(41, F.ipv6(6, F.tcp([])))), .notTransport),
        Sample("E10", "4in6", F.ethernet(0x86dd, F.ipv6(4, inner)), .notTransport),
        Sample("E10", "16 nested IP in IP", F.ethernet(0x0800, nested(16)), .notTransport),
        Sample(
            "E10", "GTP-U", F.udpv4([0x30, 0xff, 0, 40] + inner, destination: 2152), headers: 42),
    ]

    private static func gre(_ rest: [UInt8]) -> [UInt8] { F.ipv4(47, [0, 0, 8, 0] + rest) }

    private static func nested(_ depth: Int) -> [UInt8] {
        depth == 0 ? inner : F.ipv4(4, nested(depth - 1))
    }

    static let others: [Sample] = [
        Sample("E11", "ARP", F.ethernet(0x0806, F.payload(46)), .notIP),
        Sample("E11", "LLDP", F.ethernet(0x88cc, F.payload(46)), .notIP),
        Sample(
            "E11", "802.3 spanning tree", F.ethernet(38, [0x42, 0x42, 3] + F.payload(43)), .notIP),
        Sample("E11", "tagged ARP", F.ethernet(0x0806, tags: [0x8100], F.payload(46)), .notIP),
        Sample(
            "E11", "IPv6 header under IPv4's neighbour 0x0801",
            F.ethernet(0x0801, F.ipv4(6, F.tcp([]))), .notIP),
        Sample("E12", "9018 bytes", F.tcpv4(F.payload(8964)), headers: 54),
        Sample("E12", "65535 of IPv4, 65549 in all", F.tcpv4(F.payload(65495)), headers: 54),
        Sample(
            "E12", "256 KiB jumbogram (big TCP)",
            F.ethernet(
                0x86dd,
                F.ipv6(6, extensions: [(0, 0)], payloadLength: 0, F.tcp(F.payload(262_144)))),
            headers: 82),
        Sample(
            "E12", "256 KiB under IPv4's total length 0",
            F.ethernet(0x0800, F.ipv4(6, totalLength: 0, F.tcp(F.payload(262_144)))), .badIPv4),
    ]
}
