/// Frames for tests that need packets with headers of a known length, and packets without.
public enum TestFrames {
    /// Payload that differs between seeds and repeats in no power of two.
    public static func payload(_ count: Int, seed: Int = 0) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: ($0 + seed * 17) % 251) }
    }

    private static let ethernet: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]

    private static func word(_ value: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }

    private static func ipv4(_ transport: UInt8, _ rest: [UInt8]) -> [UInt8] {
        ethernet + [8, 0, 0x45, 0] + word(20 + rest.count) + [0, 1, 0x40, 0, 64, transport, 0, 0]
            + [192, 0, 2, 1, 192, 0, 2, 2] + rest
    }

    private static func tcp(_ optionWords: Int, _ payload: [UInt8]) -> [UInt8] {
        word(443) + word(51000) + [0, 0, 0, 1, 0, 0, 0, 2] + [UInt8((5 + optionWords) << 4), 0x18]
            + [1, 0, 0, 0, 0, 0] + [UInt8](repeating: 1, count: optionWords * 4) + payload
    }

    /// TCP over IPv4: 54 + 4 x `optionWords` bytes of headers.
    public static func tcp4(_ payload: [UInt8], optionWords: Int = 0) -> [UInt8] {
        ipv4(6, tcp(optionWords, payload))
    }

    /// UDP over IPv4: 42 bytes of headers.
    public static func udp4(_ payload: [UInt8]) -> [UInt8] {
        ipv4(17, word(40000) + word(5001) + word(8 + payload.count) + [0, 0] + payload)
    }

    /// TCP over IPv6: 74 + 4 x `optionWords` bytes of headers.
    public static func tcp6(_ payload: [UInt8], optionWords: Int = 0) -> [UInt8] {
        ipv6(6, tcp(optionWords, payload))
    }

    /// UDP over IPv6: 62 bytes of headers.
    public static func udp6(_ payload: [UInt8]) -> [UInt8] {
        ipv6(17, word(40000) + word(5001) + word(8 + payload.count) + [0, 0] + payload)
    }

    private static func ipv6(_ transport: UInt8, _ rest: [UInt8]) -> [UInt8] {
        let source: [UInt8] = [0xfd] + [UInt8](repeating: 0, count: 14) + [1]
        let target: [UInt8] = [0xfd] + [UInt8](repeating: 0, count: 14) + [2]
        return ethernet + [0x86, 0xdd, 0x60, 0, 0, 0] + word(rest.count) + [transport, 64] + source
            + target + rest
    }

    /// Not splittable: an ethertype for local experiments, and any bytes of at least 14.
    public static func opaque(_ byteCount: Int, seed: Int = 0) -> [UInt8] {
        let frame = ethernet + [0x88, 0xb5] + payload(max(0, byteCount - 14), seed: seed)
        return [UInt8](frame.prefix(byteCount))
    }
}
