// Crafted frames with the answer the rules demand, by the ids of the catalogue of hostile input
// (group E, packet parsing).
import CleaveVirtioNet
import Testing

struct Sample: CustomTestStringConvertible, Sendable {
    /// Catalogue id, "E00" for what must simply work.
    let id: String
    let name: String
    let frame: [UInt8]
    let expected: HeaderSplit

    var testDescription: String { "\(id) \(name)" }

    init(_ id: String, _ name: String, _ frame: [UInt8], headers: UInt16) {
        (self.id, self.name, self.frame) = (id, name, frame)
        expected = HeaderSplit(byteCount: headers)
    }

    init(_ id: String, _ name: String, _ frame: [UInt8], _ reason: NoSplitReason) {
        (self.id, self.name, self.frame) = (id, name, frame)
        expected = HeaderSplit(notSplit: reason)
    }

    static let all = plain + short + ipv4 + extensions + tags + transports + tunnels + others

    static func of(_ id: String) -> [Sample] { all.filter { $0.id == id } }

    private typealias F = Frames

    /// Every splittable combination of tags, IP and transport.
    static let plain: [Sample] = {
        var samples: [Sample] = []
        for tags in [[], [0x8100], [0x88a8, 0x8100], [0x9100]] {
            let link = 14 + tags.count * 4
            for (transport, header, bytes): (UInt8, Int, [UInt8]) in [
                (6, 20, F.tcp(F.payload(30))), (6, 32, F.tcp(optionWords: 3, F.payload(30))),
                (6, 60, F.tcp(optionWords: 10, F.payload(30))), (17, 8, F.udp(F.payload(30))),
            ] {
                for optionWords in [0, 1, 10] {
                    samples.append(
                        Sample(
                            "E00",
                            "tags \(tags.count), IPv4+\(optionWords), \(transport)/\(header)",
                            F.ethernet(
                                0x0800, tags: tags,
                                F.ipv4(transport, optionWords: optionWords, bytes)),
                            headers: UInt16(link + 20 + optionWords * 4 + header)))
                }
                samples.append(
                    Sample(
                        "E00", "tags \(tags.count), IPv6, \(transport)/\(header)",
                        F.ethernet(0x86dd, tags: tags, F.ipv6(transport, bytes)),
                        headers: UInt16(link + 40 + header)))
            }
        }
        return samples
    }()

    static let short: [Sample] = [
        Sample("E01", "empty", [], .truncated),
        Sample("E01", "one byte", [2], .truncated),
        Sample("E01", "13 bytes", Array(F.udpv4([]).prefix(13)), .truncated),
        Sample("E01", "14 bytes, IPv4 to come", Array(F.udpv4([]).prefix(14)), .truncated),
        Sample("E01", "33 bytes", Array(F.udpv4([]).prefix(33)), .truncated),
    ]

    static let ipv4: [Sample] =
        [0, 1, 2, 3, 4].map { (ihl: Int) in
            Sample(
                "E02", "IHL \(ihl)", F.ethernet(0x0800, F.ipv4(6, ihl: ihl, F.tcp(F.payload(40)))),
                .badIPv4)
        } + [
            Sample(
                "E02", "version 5", F.ethernet(0x0800, F.ipv4(6, version: 5, F.tcp([]))), .badIPv4),
            Sample(
                "E02", "version 6, type 0x0800",
                F.ethernet(0x0800, F.ipv6(6, F.tcp([]))), .badIPv4),
            Sample(
                "E02", "IHL 15 passes the frame",
                F.ethernet(0x0800, F.ipv4(17, ihl: 15, F.udp(F.payload(8)))), .badIPv4),
            Sample(
                "E02", "total length 0",
                F.ethernet(0x0800, F.ipv4(6, totalLength: 0, F.tcp(F.payload(40)))), .badIPv4),
            Sample(
                "E02", "total length below IHL",
                F.ethernet(0x0800, F.ipv4(6, optionWords: 2, totalLength: 27, F.tcp([]))),
                .badIPv4),
            Sample(
                "E02", "total length one more than the frame",
                F.ethernet(0x0800, F.ipv4(6, totalLength: 61, F.tcp(F.payload(20)))), .badIPv4),
            Sample(
                "E02", "total length 65535",
                F.ethernet(0x0800, F.ipv4(17, totalLength: 65535, F.udp(F.payload(60)))), .badIPv4),
            Sample(
                "E02", "total length ends inside TCP's fixed part",
                F.ethernet(0x0800, F.ipv4(6, totalLength: 39, F.tcp(F.payload(40)))), .badIPv4),
            Sample(
                "E02", "total length ends inside TCP's options",
                F.ethernet(
                    0x0800, F.ipv4(6, totalLength: 51, F.tcp(optionWords: 3, F.payload(40)))),
                .badIPv4),
            Sample(
                "E02", "total length ends inside UDP",
                F.ethernet(0x0800, F.ipv4(17, totalLength: 27, F.udp(F.payload(40)))), .badIPv4),
            Sample(
                "E02", "padding behind a pure ACK is payload",
                F.tcpv4([]) + [UInt8](repeating: 0, count: 6), headers: 54),
            Sample(
                "E02", "padding behind UDP without payload",
                F.udpv4([]) + [UInt8](repeating: 0, count: 18), headers: 42),
            Sample("E03", "first fragment", fragment(0x2000), .fragment),
            Sample("E03", "middle fragment", fragment(0x20b9), .fragment),
            Sample("E03", "last fragment", fragment(0x0172), .fragment),
            Sample("E03", "offset + length > 65535", fragment(0x1fff), .fragment),
            Sample("E03", "don't fragment", fragment(0x4000), headers: 54),
            Sample("E03", "reserved bit", fragment(0x8000), headers: 54),
        ]

    private static func fragment(_ word: Int) -> [UInt8] {
        F.ethernet(0x0800, F.ipv4(6, fragment: word, F.tcp(F.payload(40))))
    }

    private static func ipv6(
        _ transport: UInt8, _ extensions: [(type: UInt8, units: Int)], _ rest: [UInt8]
    ) -> [UInt8] {
        F.ethernet(0x86dd, F.ipv6(transport, extensions: extensions, rest))
    }

    static let extensions: [Sample] = [
        Sample("E04", "hop-by-hop", ipv6(6, [(0, 0)], F.tcp([1])), headers: 82),
        Sample("E04", "routing", ipv6(6, [(43, 2)], F.tcp([1])), headers: 98),
        Sample("E04", "destination options", ipv6(17, [(60, 1)], F.udp([1])), headers: 78),
        Sample(
            "E04", "hop-by-hop, destination, routing, destination",
            ipv6(17, [(0, 0), (60, 0), (43, 0), (60, 0)], F.udp([1])), headers: 94),
        Sample(
            "E04", "eight extensions",
            ipv6(17, [(type: UInt8, units: Int)](repeating: (60, 0), count: 8), F.udp([])),
            headers: 126),
        Sample(
            "E04", "nine extensions",
            ipv6(17, [(type: UInt8, units: Int)](repeating: (60, 0), count: 9), F.udp([])),
            .tooManyExtensions),
        Sample(
            "E04", "256 extensions",
            ipv6(17, [(type: UInt8, units: Int)](repeating: (60, 0), count: 256), F.udp([])),
            .tooManyExtensions),
        Sample(
            "E04", "eight extensions of 2048 bytes",
            ipv6(6, [(type: UInt8, units: Int)](repeating: (60, 255), count: 8), F.tcp([])),
            headers: 54 + 8 * 2048 + 20),
        Sample(
            "E04", "hop-by-hop second", ipv6(6, [(60, 0), (0, 0)], F.tcp([])), .unknownExtension),
        Sample(
            "E04", "hop-by-hop twice", ipv6(6, [(0, 0), (0, 0)], F.tcp([])), .unknownExtension),
        Sample("E04", "jumbogram", jumbogram, headers: 82),
        Sample("E04", "mobility header", ipv6(135, [], F.payload(40)), .unknownExtension),
        Sample("E04", "experiment 253", ipv6(253, [(0, 0)], F.payload(40)), .unknownExtension),
        Sample("E04", "unassigned 200", ipv6(200, [], F.payload(40)), .notTransport),
        Sample("E04", "length passes the frame", overlong, .truncated),
        Sample(
            "E04", "payload length lies",
            F.ethernet(0x86dd, F.ipv6(6, payloadLength: 3, F.tcp([1]))), headers: 74),
        Sample(
            "E04", "version 4 under 0x86dd",
            F.ethernet(0x86dd, F.ipv6(6, version: 4, F.tcp([1]))), .badIPv6),
        Sample("E05", "atomic fragment", ipv6(6, [(44, 0)], F.tcp([1])), .fragment),
        Sample(
            "E05", "fragment behind routing", ipv6(6, [(43, 0), (44, 0)], F.tcp([1])), .fragment),
        Sample("E05", "fragment header cut off", ipv6(44, [], []), .fragment),
        Sample("E06", "ESP", ipv6(50, [], F.payload(40)), .unknownExtension),
        Sample("E06", "AH", ipv6(51, [], F.payload(40)), .unknownExtension),
        Sample("E06", "no next header", ipv6(59, [(60, 0)], F.payload(40)), .unknownExtension),
        Sample("E06", "ESP over IPv4", ip(50), .notTransport),
        Sample("E06", "AH over IPv4", ip(51), .notTransport),
    ]

    private static let jumbogram: [UInt8] = {
        var frame = F.ethernet(
            0x86dd, F.ipv6(6, extensions: [(0, 0)], payloadLength: 0, F.tcp([1])))
        frame.replaceSubrange(56..<62, with: [0xc2, 4, 0, 1, 0, 21])
        return frame
    }()

    private static let overlong: [UInt8] = {
        var frame = ipv6(6, [(60, 0)], F.tcp([]))
        frame[55] = 200
        return frame
    }()

    private static func ip(_ transport: UInt8) -> [UInt8] {
        F.ethernet(0x0800, F.ipv4(transport, F.payload(64)))
    }
}
