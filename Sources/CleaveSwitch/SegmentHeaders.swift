// Where the layers of a packet begin that has to be segmented: read off a copy of its headers.
//
//   0            14, 18 or 22     fragmentStart        transportStart    payloadStart    end
//   | Ethernet, tags | IP, extensions | destination options | TCP or UDP | payload ... | padding
//                    ^ networkStart
//
// The rules are those by which a receive queue accepts such a packet unsegmented: IPv4's total
// length lies between headers and frame, what comes after it is padding; IPv6's payload length is
// ignored. A packet is then refused by both or by none.

/// The layers of one packet. Offsets grow in the order in which they are declared.
struct SegmentHeaders {
    private(set) var networkStart = 0
    /// Where IP fragments may begin: after the extension headers that each of them repeats.
    private(set) var fragmentStart = 0
    private(set) var transportStart = 0
    private(set) var payloadStart = 0
    /// The end of the IP packet.
    private(set) var end = 0
    private(set) var isIPv6 = false
    private(set) var isTCP = false
    /// Where the IPv6 header that ends at `fragmentStart` names the header that follows.
    private(set) var nextHeaderOffset = 0

    private static var maximumTagCount: Int { 2 }
    private static var maximumExtensionCount: Int { 8 }

    /// Bytes of the IP header and its extensions.
    var networkByteCount: Int { transportStart &- networkStart }

    /// - Parameters:
    ///   - bytes: the first bytes of the packet, at least 14, in memory of the caller's own.
    ///   - limit: how many of them there are.
    ///   - byteCount: bytes of the whole packet, at least `limit`.
    /// - Returns: nil if it is neither TCP nor UDP, a fragment, or its headers are not all there.
    init?(_ bytes: UnsafeRawPointer, limit: Int, byteCount: Int) {
        var offset = 14
        var etherType = Self.word(bytes, 12)
        var tagCount = 0
        while etherType == 0x8100 || etherType == 0x88a8 || etherType == 0x9100 {
            guard tagCount < Self.maximumTagCount, limit >= offset &+ 4 else { return nil }
            etherType = Self.word(bytes, offset &+ 2)
            offset &+= 4
            tagCount &+= 1
        }
        networkStart = offset
        let transport: UInt8?
        switch etherType {
        case 0x0800: transport = walkIPv4(bytes, limit, byteCount)
        case 0x86dd: transport = walkIPv6(bytes, limit, byteCount)
        default: return nil
        }
        guard let transport, transport == 6 || transport == 17 else { return nil }
        isTCP = transport == 6
        var headerByteCount = isTCP ? 20 : 8
        guard limit >= transportStart &+ headerByteCount else { return nil }
        if isTCP {
            headerByteCount = Int(Self.byte(bytes, transportStart &+ 12) &>> 4) &* 4
            guard headerByteCount >= 20 else { return nil }
        }
        payloadStart = transportStart &+ headerByteCount
        guard payloadStart <= limit, payloadStart <= end else { return nil }
    }

    /// - Returns: the protocol that follows, or nil.
    private mutating func walkIPv4(
        _ bytes: UnsafeRawPointer, _ limit: Int, _ byteCount: Int
    ) -> UInt8? {
        guard limit >= networkStart &+ 20 else { return nil }
        let first = Self.byte(bytes, networkStart)
        let headerByteCount = Int(first & 0xf) &* 4
        let totalLength = Self.word(bytes, networkStart &+ 2)
        guard first &>> 4 == 4, headerByteCount >= 20, limit >= networkStart &+ headerByteCount,
            totalLength <= byteCount &- networkStart,
            // More fragments, or an offset.
            Self.word(bytes, networkStart &+ 6) & 0x3fff == 0
        else { return nil }
        transportStart = networkStart &+ headerByteCount
        fragmentStart = transportStart
        end = networkStart &+ totalLength
        return Self.byte(bytes, networkStart &+ 9)
    }

    /// - Returns: the protocol that follows, or nil.
    private mutating func walkIPv6(
        _ bytes: UnsafeRawPointer, _ limit: Int, _ byteCount: Int
    ) -> UInt8? {
        guard limit >= networkStart &+ 40, Self.byte(bytes, networkStart) &>> 4 == 6 else {
            return nil
        }
        isIPv6 = true
        end = byteCount
        nextHeaderOffset = networkStart &+ 6
        var next = Self.byte(bytes, nextHeaderOffset)
        var offset = networkStart &+ 40
        fragmentStart = offset
        var extensionCount = 0
        // Hop-by-hop options, routing, destination options.
        while next == 0 || next == 43 || next == 60 {
            guard extensionCount < Self.maximumExtensionCount, limit >= offset &+ 8,
                next != 0 || extensionCount == 0
            else { return nil }
            // Every fragment repeats all up to the last of the headers that routers read (RFC
            // 8200, section 4.5).
            let isRepeated = next != 60
            let here = offset
            next = Self.byte(bytes, offset)
            offset &+= (Int(Self.byte(bytes, offset &+ 1)) &+ 1) &* 8
            if isRepeated { (fragmentStart, nextHeaderOffset) = (offset, here) }
            guard limit >= offset else { return nil }
            extensionCount &+= 1
        }
        transportStart = offset
        return next
    }

    private static func byte(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt8 {
        bytes.load(fromByteOffset: offset, as: UInt8.self)
    }

    private static func word(_ bytes: UnsafeRawPointer, _ offset: Int) -> Int {
        Int(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    }
}
