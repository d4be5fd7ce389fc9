// Ethernet | tags | IPv4 or IPv6 | TCP or UDP | payload, every length and checksum valid.
// Addresses are those set aside for benchmarks: 198.18.0.0/15 (RFC 2544) and 2001:2::/48
// (RFC 5180), under locally administered Ethernet addresses.

/// Builds one frame of a given size and kind.
struct FrameBuilder {
    private(set) var bytes: [UInt8]
    private let kind: HeaderKind
    private var networkOffset: Int { kind.linkByteCount }
    private var transportOffset: Int { kind.linkByteCount + kind.networkByteCount }

    /// Source ports are taken from the first of these on; further flows change the address.
    private static let firstSourcePort = 1024
    private static let sourcePortCount = 65_536 - firstSourcePort

    /// `byteCount` is at least `kind.byteCount`.
    init(kind: HeaderKind, byteCount: Int) {
        self.kind = kind
        bytes = [UInt8](repeating: 0, count: byteCount)
    }

    mutating func fillPayload(_ random: inout SplitMix64) {
        var offset = kind.byteCount
        while offset < bytes.count {
            var word = random.next()
            for _ in 0..<min(8, bytes.count - offset) {
                bytes[offset] = UInt8(truncatingIfNeeded: word)
                word >>= 8
                offset += 1
            }
        }
    }

    /// Writes all headers; the payload must be in place, because checksums cover it.
    mutating func writeHeaders(flow: Int, index: Int, sequenceNumber: UInt32) {
        writeLink(flow: flow)
        let host = 1 + flow / Self.sourcePortCount
        switch kind.network {
        case .v4: writeIPv4(host: host, index: index)
        case .v6: writeIPv6(host: host, flow: flow)
        }
        let port = Self.firstSourcePort + flow % Self.sourcePortCount
        put16(transportOffset, port)
        switch kind.transport {
        case .tcp: writeTCP(sequenceNumber: sequenceNumber, index: index)
        case .udp: writeUDP()
        }
    }

    private mutating func writeLink(flow: Int) {
        bytes.replaceSubrange(0..<12, with: [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1])
        let type = kind.network == .v4 ? 0x0800 : 0x86dd
        let identifier = 100 + flow % 16
        switch kind.tags {
        case .none: break
        case .vlan: put16(12, 0x8100, identifier)
        case .qinq: put16(12, 0x88a8, 50, 0x8100, identifier)
        }
        put16(networkOffset - 2, type)
    }

    private mutating func writeIPv4(host: Int, index: Int) {
        let start = networkOffset
        // Version and length, DSCP 0 | total length | identification | don't fragment.
        put16(start, 0x4500, bytes.count - start, index & 0xffff, 0x4000)
        put16(start + 8, 64 << 8 | transportProtocol)
        put16(start + 12, 198 << 8 | 18, host & 0xffff, 198 << 8 | 19, 1)
        put16(start + 10, Self.checksum(sum(start..<start + 20)))
    }

    private mutating func writeIPv6(host: Int, flow: Int) {
        let start = networkOffset
        put16(start, 0x6000, (1 + flow) & 0xffff, bytes.count - transportOffset)
        put16(start + 6, transportProtocol << 8 | 64)
        // 2001:2::host and 2001:2:0:1::1.
        put16(start + 8, 0x2001, 2, 0, 0, 0, 0, 0, host & 0xffff)
        put16(start + 24, 0x2001, 2, 0, 1, 0, 0, 0, 1)
    }

    private mutating func writeTCP(sequenceNumber: UInt32, index: Int) {
        let start = transportOffset
        put16(start + 2, 5201)
        put16(start + 4, Int(sequenceNumber >> 16), Int(sequenceNumber & 0xffff), 0, 1)
        // Header length in words; ACK, and PSH as on the last segment of a send.
        put16(start + 12, (kind.transportByteCount / 4) << 12 | 0x018, 0xffff)
        if kind.hasTimestamp {
            // Two no-operations, kind 8, length 10, value, echo.
            put16(start + 20, 0x0101, 0x080a, index >> 16 & 0xffff, index & 0xffff, 0, 1)
        }
        put16(start + 16, Self.checksum(transportSum()))
    }

    private mutating func writeUDP() {
        let start = transportOffset
        put16(start + 2, 5201, bytes.count - start)
        let checksum = Self.checksum(transportSum())
        // Zero would mean that there is no checksum (RFC 768).
        put16(start + 6, checksum == 0 ? 0xffff : checksum)
    }

    private var transportProtocol: Int { kind.transport == .tcp ? 6 : 17 }

    /// The sum over pseudo-header, header and payload (RFC 793, RFC 8200 section 8.1).
    private func transportSum() -> Int {
        let addresses =
            kind.network == .v4
            ? networkOffset + 12..<networkOffset + 20 : networkOffset + 8..<networkOffset + 40
        let byteCount = bytes.count - transportOffset
        return sum(addresses) + sum(transportOffset..<bytes.count)
            + transportProtocol + byteCount >> 16 + byteCount & 0xffff
    }

    /// Big-endian 16-bit words, the last one padded with a zero byte.
    private func sum(_ range: Range<Int>) -> Int {
        var total = 0
        for offset in stride(from: range.lowerBound, to: range.upperBound, by: 2) {
            let low = offset + 1 < range.upperBound ? Int(bytes[offset + 1]) : 0
            total += Int(bytes[offset]) << 8 | low
        }
        return total
    }

    /// The Internet checksum of a sum (RFC 1071).
    private static func checksum(_ sum: Int) -> Int {
        var folded = sum
        while folded > 0xffff { folded = folded >> 16 + folded & 0xffff }
        return ~folded & 0xffff
    }

    private mutating func put16(_ offset: Int, _ words: Int...) {
        for (position, word) in words.enumerated() {
            bytes[offset + 2 * position] = UInt8(truncatingIfNeeded: word >> 8)
            bytes[offset + 2 * position + 1] = UInt8(truncatingIfNeeded: word)
        }
    }
}
