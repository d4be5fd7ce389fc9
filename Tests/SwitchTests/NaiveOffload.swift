import CleaveTestSupport
import CleaveVirtioNet

/// A packet as the tests build it: layers apart, so that nothing has to be found in it.
struct LayeredPacket {
    /// Ethernet, with tags.
    var link: [UInt8]
    var isIPv6: Bool
    /// Options of IPv4, or extension headers of IPv6 that every fragment repeats.
    var extras: [UInt8] = []
    /// Destination options after those: part of what is fragmented.
    var destinationOptions: [UInt8] = []
    var isTCP: Bool
    var tcpOptions: [UInt8] = []
    var flags: UInt8 = 0x18
    var sequence: UInt32 = 0xffff_ff00
    var id: UInt16 = 0xfffe
    var payload: [UInt8]

    static let source6 = [UInt8](1...16)
    static let target6 = [UInt8](101...116)
    static let source4: [UInt8] = [192, 0, 2, 1]
    static let target4: [UInt8] = [198, 51, 100, 7]

    var transportStart: Int {
        link.count + (isIPv6 ? 40 : 20) + extras.count + destinationOptions.count
    }
    var transportByteCount: Int { isTCP ? 20 + tcpOptions.count : 8 }

    static func word(_ value: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }

    static func long(_ value: UInt32) -> [UInt8] {
        word(Int(value >> 16)) + word(Int(value & 0xffff))
    }

    /// Addresses, protocol and length: what TCP and UDP sum beside themselves.
    func pseudoHeader(_ byteCount: Int) -> [UInt8] {
        let transport: UInt8 = isTCP ? 6 : 17
        if isIPv6 {
            return Self.source6 + Self.target6 + Self.long(UInt32(byteCount)) + [
                0, 0, 0, transport,
            ]
        }
        return Self.source4 + Self.target4 + [0, transport] + Self.word(byteCount)
    }

    /// The IP header for `byteCount` bytes after it and its extras.
    func network(
        _ byteCount: Int, next: UInt8, fragmentWord: Int = 0x4000, inserted: [UInt8] = []
    ) -> [UInt8] {
        if isIPv6 {
            var chain = extras
            // `extras` is at most one header of 8 bytes: hop-by-hop options.
            if !chain.isEmpty { chain[0] = next }
            let first: UInt8 = extras.isEmpty ? next : 0
            let length = extras.count + inserted.count + byteCount
            return [0x60, 0, 0, 0] + Self.word(length) + [first, 64] + Self.source6
                + Self.target6 + chain + inserted
        }
        var header: [UInt8] = [UInt8(0x45 + extras.count / 4), 0]
        header += Self.word(20 + extras.count + byteCount) + Self.word(Int(id))
        header += Self.word(fragmentWord) + [64, next, 0, 0] + Self.source4 + Self.target4 + extras
        header.replaceSubrange(10..<12, with: Self.word(NaiveOffload.checksum(header)))
        return header
    }

    /// TCP or UDP with `payload`, its checksum field as given.
    func transport(
        _ payload: ArraySlice<UInt8>, offset: Int, flags: UInt8, checksum: Int
    ) -> [UInt8] {
        if isTCP {
            return [1, 187, 200, 10] + Self.long(sequence &+ UInt32(offset)) + [0, 0, 0, 9]
                + [UInt8(((20 + tcpOptions.count) / 4) << 4), flags, 4, 0] + Self.word(checksum)
                + [0, 0] + tcpOptions + payload
        }
        return [1, 187, 200, 10] + Self.word(8 + payload.count) + Self.word(checksum) + payload
    }

    var lastHeader: UInt8 { isTCP ? 6 : 17 }
    /// What follows IP and its extras.
    var nextHeader: UInt8 { destinationOptions.isEmpty ? lastHeader : 60 }

    /// As a sender with offloads hands it out.
    var bytes: [UInt8] {
        let byteCount = transportByteCount + payload.count
        let partial = 0xffff - NaiveOffload.checksum(pseudoHeader(byteCount))
        return link + network(destinationOptions.count + byteCount, next: nextHeader)
            + destinationOptions
            + transport(payload[...], offset: 0, flags: flags, checksum: partial)
    }

    func offloads(_ type: UInt8, size: Int) -> PacketOffloads {
        PacketOffloads(
            flags: NetHeaderFlags.needsChecksum, gsoType: type, gsoSize: UInt16(size),
            csumStart: UInt16(transportStart), csumOffset: isTCP ? 16 : 6)
    }
}

/// The slow twin of `SoftwareOffload`.
enum NaiveOffload {
    /// RFC 1071, word by word.
    static func checksum(_ bytes: [UInt8]) -> Int {
        var sum = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += Int(bytes[index]) << 8
            if index + 1 < bytes.count { sum += Int(bytes[index + 1]) }
        }
        while sum > 0xffff { sum = sum % 0x10000 + sum / 0x10000 }
        return 0xffff - sum
    }

    private static func transport(
        _ packet: LayeredPacket, _ payload: ArraySlice<UInt8>, offset: Int, flags: UInt8,
        isSummed: Bool
    ) -> [UInt8] {
        let byteCount = packet.transportByteCount + payload.count
        let pseudo = packet.pseudoHeader(byteCount)
        if !isSummed {
            return packet.transport(
                payload, offset: offset, flags: flags, checksum: 0xffff - checksum(pseudo))
        }
        let open = packet.transport(payload, offset: offset, flags: flags, checksum: 0)
        let sum = checksum(pseudo + open)
        return packet.transport(
            payload, offset: offset, flags: flags, checksum: sum == 0 ? 0xffff : sum)
    }

    /// TCP segments or UDP datagrams of `size` bytes of payload.
    static func segments(_ packet: LayeredPacket, size: Int, isSummed: Bool = true) -> [[UInt8]] {
        var result: [[UInt8]] = []
        var offset = 0
        repeat {
            let part = packet.payload[offset...].prefix(size)
            var flags = packet.flags
            if offset + part.count < packet.payload.count { flags &= ~0x09 }
            if offset > 0 { flags &= ~0x80 }
            var copy = packet
            copy.id = packet.id &+ UInt16(result.count)
            let segment = transport(
                packet, part, offset: offset, flags: flags, isSummed: isSummed)
            result.append(
                packet.link
                    + copy.network(
                        packet.destinationOptions.count + segment.count, next: packet.nextHeader)
                    + packet.destinationOptions + segment)
            offset += size
        } while offset < packet.payload.count
        return result
    }

    /// The packet with its checksum made, uncut.
    static func whole(_ packet: LayeredPacket) -> [UInt8] {
        segments(packet, size: max(1, packet.payload.count))[0]
    }

    /// IP fragments of one UDP datagram, `size` bytes of data each. `id`: of IPv6.
    static func fragments(_ packet: LayeredPacket, size: Int, id: [UInt8]) -> [[UInt8]] {
        let data =
            packet.destinationOptions
            + transport(packet, packet.payload[...], offset: 0, flags: 0, isSummed: true)
        if data.count <= size { return [whole(packet)] }
        return stride(from: 0, to: data.count, by: size).map { offset in
            let part = data[offset...].prefix(size)
            let more = offset + part.count < data.count
            if packet.isIPv6 {
                let header =
                    [packet.nextHeader, 0] + LayeredPacket.word(offset + (more ? 1 : 0)) + id
                return packet.link + packet.network(part.count, next: 44, inserted: header) + part
            }
            let word = offset / 8 + (more ? 0x2000 : 0)
            return packet.link + packet.network(part.count, next: 17, fragmentWord: word) + part
        }
    }
}
