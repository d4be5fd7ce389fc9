// Crafts frames layer by layer. Lengths are right unless a test says otherwise.

enum Frames {
    static func word(_ value: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }

    static func payload(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 % 251) } }

    /// Ethernet with the given tag types in front of `type`.
    static func ethernet(_ type: Int, tags: [Int] = [], _ rest: [UInt8]) -> [UInt8] {
        var frame: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
        for (index, tag) in tags.enumerated() { frame += word(tag) + word(0x2000 + 5 + index) }
        return frame + word(type) + rest
    }

    static func ipv4(
        _ transport: UInt8, optionWords: Int = 0, ihl: Int? = nil, version: Int = 4,
        totalLength: Int? = nil, fragment: Int = 0x4000, _ rest: [UInt8]
    ) -> [UInt8] {
        let headerByteCount = 20 + optionWords * 4
        return [UInt8(version << 4 | (ihl ?? headerByteCount / 4)), 0]
            + word(totalLength ?? headerByteCount + rest.count) + word(0x1234) + word(fragment)
            + [64, transport] + word(0xbeef) + [192, 168, 1, 2, 10, 20, 30, 40]
            + [UInt8](repeating: 1, count: optionWords * 4) + rest
    }

    /// IPv6 with extension headers given as (type, units of 8 bytes after the first).
    static func ipv6(
        _ transport: UInt8, extensions: [(type: UInt8, units: Int)] = [], version: Int = 6,
        payloadLength: Int? = nil, _ rest: [UInt8]
    ) -> [UInt8] {
        var chain: [UInt8] = []
        for (index, item) in extensions.enumerated() {
            let next = index + 1 < extensions.count ? extensions[index + 1].type : transport
            chain += [next, UInt8(item.units)] + payload(6 + item.units * 8)
        }
        return [UInt8(version << 4), 0, 0x12, 0x34]
            + word(payloadLength ?? chain.count + rest.count)
            + [extensions.first?.type ?? transport, 64]
            + [0xfd, 0] + payload(13) + [1] + [0xfd, 0] + payload(13) + [2] + chain + rest
    }

    static func tcp(optionWords: Int = 0, dataOffset: Int? = nil, _ payload: [UInt8]) -> [UInt8] {
        word(443) + word(51000) + [0, 0, 0, 1, 0, 0, 0, 2]
            + [UInt8((dataOffset ?? 5 + optionWords) << 4), 0x18] + word(501) + word(0) + word(0)
            + [UInt8](repeating: 1, count: optionWords * 4) + payload
    }

    static func udp(
        _ payload: [UInt8], destination: Int = 5001, length: Int? = nil
    ) -> [UInt8] {
        word(40000) + word(destination) + word(length ?? 8 + payload.count) + word(0) + payload
    }

    /// Ethernet, IPv4 and UDP around `payload`.
    static func udpv4(_ payload: [UInt8], destination: Int = 5001) -> [UInt8] {
        ethernet(0x0800, ipv4(17, udp(payload, destination: destination)))
    }

    /// Ethernet, IPv4 and TCP around `payload`.
    static func tcpv4(optionWords: Int = 0, _ payload: [UInt8]) -> [UInt8] {
        ethernet(0x0800, ipv4(6, tcp(optionWords: optionWords, payload)))
    }
}
