// Finds the split point of a frame: the exact end of its TCP or UDP header.
//
// Called once per packet. Untagged IPv4 without options and IPv6 without extension headers, with
// TCP or UDP, are decided here by one branch on the IP version, masks between TCP and UDP, and
// one branch that clean traffic never takes; all the rest is `HeaderWalk`'s. Without the first
// branch, by selects alone, a 64-byte packet took 6 cycles more. The tests compare both parts with
// a naive twin, byte by byte.
//
// The frame may lie in memory that its sender still writes. Every field is loaded into a local
// before it is judged, and the answer is bounded by the caller's own lengths, whatever is read.

/// Finds where the headers of a frame end. Pure functions, callable from any thread.
///
/// Splittable: Ethernet with up to two VLAN tags; IPv4 with options, or IPv6 with hop-by-hop,
/// routing and destination options; TCP with options, or UDP. Tunnels over UDP are split after the
/// outer UDP header. The split point depends on header fields and on the bytes present: checksums,
/// the UDP length and the IPv6 payload length are ignored, an invalid IPv4 total length makes the
/// frame whole, and padding after it counts as payload.
public enum HeaderParser {
    /// Room that `parse(segments:segmentCount:scratch:)` needs in its scratch window, in bytes.
    public static var scratchByteCount: Int { 512 }

    /// Parses a frame that lies in one piece.
    /// - Parameters:
    ///   - frame: the first byte of the Ethernet header; any alignment.
    ///   - byteCount: bytes in the frame, without the frame check sequence. Nothing after them is
    ///     read.
    @inline(__always)
    public static func parse(_ frame: UnsafeRawPointer, byteCount: Int) -> HeaderSplit {
        parse(window: frame, windowByteCount: byteCount, frameByteCount: byteCount)
    }

    /// Parses a frame of which only the first bytes lie in one piece.
    /// - Parameters:
    ///   - window: the first byte of the Ethernet header; any alignment.
    ///   - windowByteCount: bytes that may be read.
    ///   - frameByteCount: bytes in the whole frame.
    /// - Returns: what `parse(_:byteCount:)` says of the whole frame, or `.headersTooLong` if that
    ///   takes more than the window.
    @inline(__always)
    public static func parse(
        window: UnsafeRawPointer, windowByteCount: Int, frameByteCount: Int
    ) -> HeaderSplit {
        if windowByteCount == frameByteCount && frameByteCount >= fastByteCount {
            let length = fastLength(window, byteCount: frameByteCount)
            if length != 0 { return HeaderSplit(byteCount: UInt16(truncatingIfNeeded: length)) }
            let other = taggedLength(window, byteCount: frameByteCount)
            if other != 0 { return HeaderSplit(byteCount: UInt16(truncatingIfNeeded: other)) }
        }
        return walk(window, windowByteCount, frameByteCount)
    }

    /// `fastLength` of a frame that may have one or two VLAN tags, and options if it is IPv4.
    /// Selects count the tags: after them it is as any other frame that begins that much later.
    @inline(__always)
    private static func taggedLength(_ frame: UnsafeRawPointer, byteCount: Int) -> Int {
        let first = EtherType.isTag(frame.networkWord(at: 12)) ? 4 : 0
        let tagByteCount = first &+ (EtherType.isTag(frame.networkWord(at: 16)) ? first : 0)
        if byteCount &- tagByteCount < fastByteCount { return 0 }
        let length = length(
            frame + tagByteCount, byteCount: byteCount &- tagByteCount, hasOptions: true)
        return length == 0 ? 0 : length &+ tagByteCount
    }

    /// The header length of a frame of the most common kinds: untagged, IPv4 without options or
    /// IPv6 without extension headers, TCP or UDP.
    /// - Parameters:
    ///   - frame: the first byte of the Ethernet header; any alignment.
    ///   - byteCount: bytes in the frame, at least `fastByteCount`. Nothing after them is read.
    /// - Returns: 0 if the frame is of another kind, or its headers are invalid: ask `parse`.
    @inline(__always)
    static func fastLength(_ frame: UnsafeRawPointer, byteCount: Int) -> Int {
        length(frame, byteCount: byteCount, hasOptions: false)
    }

    /// The same, of IPv4 headers of any length if `hasOptions`: a constant where it is called.
    @inline(__always)
    private static func length(
        _ frame: UnsafeRawPointer, byteCount: Int, hasOptions: Bool
    ) -> Int {
        // Bytes 12...19: ethertype, version and IHL, TOS, then IPv4's total length.
        let head = frame.word(at: 12, as: UInt64.self)
        // Bytes 20...23: IPv4's fragment word, TTL, protocol; or IPv6's next header first.
        let rest = frame.word(at: 20, as: UInt32.self)
        let isIPv4 = hasOptions ? head & 0xf0_ffff == 0x40_0008 : head & 0xff_ffff == 0x45_0008
        if isIPv4 {
            let ipByteCount = hasOptions ? Int(head &>> 16 & 0xf) &<< 2 : 20
            let start = 14 &+ ipByteCount
            let offset = hasOptions ? min(start &+ 12, byteCount &- 1) : start &+ 12
            // Of the fragment word all but "don't fragment": a fragment is neither TCP nor UDP.
            let transport = TransportEnd(
                rest & 0xff00_ff3f, tcp: UInt32(IPProtocol.tcp) &<< 24,
                udp: UInt32(IPProtocol.udp) &<< 24, at: start,
                dataOffset: frame.word(at: offset, as: UInt8.self))
            let ipEnd = 14 &+ Int(UInt16(truncatingIfNeeded: head &>> 32).byteSwapped)
            let slack = (ipEnd &- transport.end) | (byteCount &- ipEnd) | (ipByteCount &- 20)
            return slack | transport.slack >= 0 ? transport.end : 0
        }
        if head & 0xf0_ffff != 0x60_dd86 { return 0 }
        // A frame that ends before the data offset is too short for TCP whatever is read.
        let offset = min(66, byteCount &- 1)
        let transport = TransportEnd(
            rest & 0xff, tcp: UInt32(IPProtocol.tcp), udp: UInt32(IPProtocol.udp), at: 54,
            dataOffset: frame.word(at: offset, as: UInt8.self))
        return (byteCount &- transport.end) | transport.slack >= 0 ? transport.end : 0
    }

    /// Where a TCP or UDP header ends, by masks: which of the two it is mixes in any traffic, and
    /// what lies at TCP's data offset is payload in UDP, so that branches on either would miss.
    private struct TransportEnd {
        let end: Int
        /// Negative if it is neither, or TCP with a data offset below five words.
        let slack: Int

        /// - Parameters:
        ///   - word: what must be `tcp` or `udp`.
        ///   - start: where the transport header begins.
        @inline(__always)
        init(_ word: UInt32, tcp: UInt32, udp: UInt32, at start: Int, dataOffset: UInt8) {
            let tcpByteCount = Int(dataOffset &>> 2) & 0x3c
            let difference = Int(word ^ tcp)
            let isTCP = (difference &- 1) &>> 63
            let udpDifference = Int(tcp ^ udp)
            end = start &+ 8 &+ (tcpByteCount &- 8) & isTCP
            slack =
                (tcpByteCount &- 20) & isTCP
                | ((udpDifference & isTCP) &- (difference ^ udpDifference))
        }
    }

    /// Parses a frame that lies in several segments.
    ///
    /// When the headers do not lie in the first segment, the first `scratchByteCount` bytes of the
    /// frame are gathered into `scratch`: the cost is bounded however small the segments are.
    /// - Parameters:
    ///   - segments: the segments in order; empty ones are skipped without being touched.
    ///   - segmentCount: how many.
    ///   - scratch: `scratchByteCount` bytes of the caller's own.
    public static func parse(
        segments: UnsafePointer<PacketRef>, segmentCount: Int, scratch: UnsafeMutableRawPointer
    ) -> HeaderSplit {
        var frameByteCount = 0
        var index = 0
        while index < segmentCount {
            frameByteCount &+= Int(segments[index].byteCount)
            index &+= 1
        }
        guard segmentCount > 0, frameByteCount > 0 else { return HeaderSplit(notSplit: .truncated) }
        let first = segments[0]
        if first.byteCount > 0 {
            let split = parse(
                window: first.pointer, windowByteCount: Int(first.byteCount),
                frameByteCount: frameByteCount)
            if split.reason != .headersTooLong { return split }
        }
        let windowByteCount = gather(segments, segmentCount, into: scratch)
        return parse(
            window: UnsafeRawPointer(scratch), windowByteCount: windowByteCount,
            frameByteCount: frameByteCount)
    }

    /// Where the layers of a frame in several segments begin, as far as its first
    /// `scratchByteCount` bytes tell.
    static func walk(
        segments: UnsafePointer<PacketRef>, segmentCount: Int, scratch: UnsafeMutableRawPointer
    ) -> HeaderWalk {
        var frameByteCount = 0
        for index in 0..<segmentCount { frameByteCount &+= Int(segments[index].byteCount) }
        return HeaderWalk(
            window: UnsafeRawPointer(scratch),
            windowByteCount: gather(segments, segmentCount, into: scratch),
            frameByteCount: frameByteCount)
    }

    /// Copies the first bytes of a frame together, at most `scratchByteCount` of them.
    /// - Returns: bytes copied.
    private static func gather(
        _ segments: UnsafePointer<PacketRef>, _ segmentCount: Int,
        into scratch: UnsafeMutableRawPointer
    ) -> Int {
        var filled = 0
        var index = 0
        while index < segmentCount, filled < scratchByteCount {
            let segment = segments[index]
            let piece = min(Int(segment.byteCount), scratchByteCount &- filled)
            if piece > 0 {
                (scratch + filled).copyMemory(from: segment.pointer, byteCount: piece)
                filled &+= piece
            }
            index &+= 1
        }
        return filled
    }

    /// The shortest frame `fastLength` takes: Ethernet, IPv4 and TCP, all without options. It makes
    /// every fixed load there safe but that of IPv6's TCP data offset, which is checked.
    @inline(__always)
    static var fastByteCount: Int { 54 }

    /// The general case, kept out of the callers' loops.
    @inline(never)
    private static func walk(
        _ window: UnsafeRawPointer, _ windowByteCount: Int, _ frameByteCount: Int
    ) -> HeaderSplit {
        HeaderWalk(
            window: window, windowByteCount: windowByteCount, frameByteCount: frameByteCount
        ).split
    }
}

/// Protocol numbers of IP, from the IANA registry "Protocol Numbers".
enum IPProtocol {
    @inline(__always) static var tcp: Int { 6 }
    @inline(__always) static var udp: Int { 17 }
}

extension UnsafeRawPointer {
    /// A little-endian word at any alignment.
    @inline(__always)
    func word<Word: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as: Word.Type) -> Word {
        Word(littleEndian: loadUnaligned(fromByteOffset: offset, as: Word.self))
    }

    /// A 16-bit word in network order, at any alignment.
    @inline(__always)
    func networkWord(at offset: Int) -> Int {
        Int(UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    }
}
