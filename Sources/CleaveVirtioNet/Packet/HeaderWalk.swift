// The general header parser: one step per layer, every step bounded by the frame and the window.
//
// It decides what the fast path of `HeaderParser` leaves: tags, IPv4 options, IPv6 extension
// headers, and each reason for not splitting. It also remembers where the layers begin, which the
// RSS hash needs.
//
//   0            14, 18 or 22      transportStart        split.byteCount
//   | Ethernet, tags | IPv4 or IPv6 ... | TCP or UDP, options | payload
//                    ^ networkStart
//
// Invariants: offsets only grow; no byte at or after `limit` is read; a loop runs over at most two
// tags or eight extension headers.

/// A walk over the headers of one frame, and what it found.
struct HeaderWalk {
    /// The answer.
    private(set) var split = HeaderSplit(notSplit: .truncated)
    /// Offset of the IP header once its fixed part is present and of the right version, else 0.
    private(set) var networkStart = 0
    /// Whether the header at `networkStart` is IPv6.
    private(set) var isIPv6 = false
    /// Offset of the TCP or UDP header of a splittable frame.
    private(set) var transportStart = 0
    /// Whether the header at `transportStart` is TCP.
    private(set) var isTCP = false

    private let bytes: UnsafeRawPointer
    private let frameByteCount: Int
    /// Bytes that may be read: the window, but never more than the frame.
    private let limit: Int

    /// Extension headers walked at most.
    static var maximumExtensionCount: Int { 8 }

    /// Walks a frame of `frameByteCount` bytes whose first `windowByteCount` lie at `window`.
    @inline(__always)
    init(window: UnsafeRawPointer, windowByteCount: Int, frameByteCount: Int) {
        self.bytes = window
        self.frameByteCount = frameByteCount
        self.limit = min(windowByteCount, frameByteCount)
        self.split = walkEthernet()
    }

    /// Why bytes up to `end` cannot be read.
    @inline(__always)
    private func shortfall(_ end: Int) -> HeaderSplit {
        HeaderSplit(notSplit: end > frameByteCount ? .truncated : .headersTooLong)
    }

    @inline(__always)
    private mutating func walkEthernet() -> HeaderSplit {
        guard limit >= 14 else { return shortfall(14) }
        var offset = 14
        var etherType = bytes.networkWord(at: 12)
        while EtherType.isTag(etherType) {
            guard offset < 22 else { return HeaderSplit(notSplit: .tooManyTags) }
            guard limit >= offset &+ 4 else { return shortfall(offset &+ 4) }
            etherType = bytes.networkWord(at: offset &+ 2)
            offset &+= 4
        }
        if etherType == EtherType.ipv4 { return walkIPv4(at: offset) }
        if etherType == EtherType.ipv6 { return walkIPv6(at: offset) }
        return HeaderSplit(notSplit: .notIP)
    }

    /// RFC 791, section 3.1. The total length must fit this frame.
    @inline(__always)
    private mutating func walkIPv4(at start: Int) -> HeaderSplit {
        guard limit >= start &+ 20 else { return shortfall(start &+ 20) }
        let versionAndIHL = bytes.word(at: start, as: UInt8.self)
        guard versionAndIHL &>> 4 == 4 else { return HeaderSplit(notSplit: .badIPv4) }
        networkStart = start
        let byteCount = Int(versionAndIHL & 0xf) &<< 2
        let totalLength = bytes.networkWord(at: start &+ 2)
        guard byteCount >= 20, totalLength >= byteCount, totalLength <= frameByteCount &- start
        else { return HeaderSplit(notSplit: .badIPv4) }
        // More-fragments flag and fragment offset.
        guard bytes.networkWord(at: start &+ 6) & 0x3fff == 0 else {
            return HeaderSplit(notSplit: .fragment)
        }
        return walkTransport(
            Int(bytes.word(at: start &+ 9, as: UInt8.self)), at: start &+ byteCount,
            ipEnd: start &+ totalLength)
    }

    /// RFC 8200, sections 3 and 4. The payload length is ignored (0 in a jumbogram).
    @inline(__always)
    private mutating func walkIPv6(at start: Int) -> HeaderSplit {
        guard limit >= start &+ 40 else { return shortfall(start &+ 40) }
        guard bytes.word(at: start, as: UInt8.self) &>> 4 == 6 else {
            return HeaderSplit(notSplit: .badIPv6)
        }
        networkStart = start
        isIPv6 = true
        var next = bytes.word(at: start &+ 6, as: UInt8.self)
        var offset = start &+ 40
        var extensionCount = 0
        while ExtensionHeader.isWalked(next) {
            guard next != ExtensionHeader.hopByHop || extensionCount == 0 else {
                return HeaderSplit(notSplit: .unknownExtension)
            }
            guard extensionCount < Self.maximumExtensionCount else {
                return HeaderSplit(notSplit: .tooManyExtensions)
            }
            guard limit >= offset &+ 8 else { return shortfall(offset &+ 8) }
            next = bytes.word(at: offset, as: UInt8.self)
            // In units of 8 bytes, the first of them not counted.
            offset &+= (Int(bytes.word(at: offset &+ 1, as: UInt8.self)) &+ 1) &<< 3
            guard limit >= offset else { return shortfall(offset) }
            extensionCount &+= 1
        }
        if next == ExtensionHeader.fragment { return HeaderSplit(notSplit: .fragment) }
        if ExtensionHeader.isOpaque(next) { return HeaderSplit(notSplit: .unknownExtension) }
        return walkTransport(Int(next), at: offset, ipEnd: frameByteCount)
    }

    /// RFC 9293, section 3.1, and RFC 768.
    @inline(__always)
    private mutating func walkTransport(
        _ transport: Int, at start: Int, ipEnd: Int
    ) -> HeaderSplit {
        guard transport == IPProtocol.tcp || transport == IPProtocol.udp else {
            return HeaderSplit(notSplit: .notTransport)
        }
        isTCP = transport == IPProtocol.tcp
        var end = start &+ (isTCP ? 20 : 8)
        guard limit >= end else { return shortfall(end) }
        guard ipEnd >= end else { return HeaderSplit(notSplit: .badIPv4) }
        if isTCP {
            let byteCount = Int(bytes.word(at: start &+ 12, as: UInt8.self) &>> 4) &<< 2
            guard byteCount >= 20 else { return HeaderSplit(notSplit: .badTCP) }
            end = start &+ byteCount
            guard limit >= end else { return shortfall(end) }
            guard ipEnd >= end else { return HeaderSplit(notSplit: .badIPv4) }
        }
        transportStart = start
        return HeaderSplit(byteCount: UInt16(truncatingIfNeeded: end))
    }
}

/// Ethertypes, from the IEEE registry.
enum EtherType {
    @inline(__always) static var ipv4: Int { 0x0800 }
    @inline(__always) static var ipv6: Int { 0x86dd }

    /// 802.1Q, 802.1ad, and the older number that switches use for the outer tag.
    @inline(__always)
    static func isTag(_ etherType: Int) -> Bool {
        // The first and the last differ in one bit. Never both: no branch between them.
        (etherType & 0xefff == 0x8100) != (etherType == 0x88a8)
    }
}

/// IPv6 extension headers, from the IANA registry "IPv6 Extension Header Types".
private enum ExtensionHeader {
    @inline(__always) static var hopByHop: UInt8 { 0 }
    @inline(__always) static var fragment: UInt8 { 44 }

    /// Hop-by-hop options, routing, destination options: all of one shape.
    @inline(__always)
    static func isWalked(_ next: UInt8) -> Bool { next == hopByHop || next == 43 || next == 60 }

    /// ESP, AH, no next header, mobility, HIP, Shim6, and the two for experiments.
    static func isOpaque(_ next: UInt8) -> Bool {
        switch next {
        case 50, 51, 59, 135, 139, 140, 253, 254: true
        default: false
        }
    }
}
