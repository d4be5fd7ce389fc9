// The virtio-net header in front of every received packet, and Cleave's split report after it.
//
//   0     1        2       4       6          8           10          12         16          18
//   flags gsoType  hdrLen  gsoSize csumStart  csumOffset  numBuffers  hashValue  hashReport  pad
//   |<------------------------- 12 bytes ------------------------->|<-- to 20, HASH_REPORT -->|
//
// then, on a receive queue that reports splits by `netHeader`, at offset 12 or 20:
//
//   +0 slot (le32)   +4 headerLength (le16)   +6 flags (le16)
//
// Sources: virtio 1.4, "Network Device" / "Device Operation" (struct virtio_net_hdr) and
// "Processing of Incoming Packets". The split report is this project's own; the original proposal
// for a header queue put the report there. All fields are little-endian (VERSION_1).

/// Where the fields of a virtio-net header lie, and how long it is. Fixed by the negotiated
/// features, never by data.
@frozen
public struct NetHeaderLayout: BitwiseCopyable, Sendable, Equatable {
    /// Bytes of the header: 12, or 20 with HASH_REPORT.
    public let byteCount: Int

    /// - Parameter hashReport: whether VIRTIO_NET_F_HASH_REPORT was negotiated.
    @inlinable
    public init(hashReport: Bool) {
        byteCount = hashReport ? Self.hashReportByteCount : Self.basicByteCount
    }

    /// Bytes of the header and the split report after it.
    @inlinable public var byteCountWithSplitReport: Int { byteCount &+ Self.splitReportByteCount }

    /// Header of a modern device without further features.
    @inlinable public static var basicByteCount: Int { 12 }
    /// Header with HASH_REPORT.
    @inlinable public static var hashReportByteCount: Int { 20 }
    /// Bytes of `SplitReport`.
    @inlinable public static var splitReportByteCount: Int { 8 }
}

/// The values of a virtio-net header, host order. All zero says: no offload, no hash.
@frozen
public struct NetHeader: BitwiseCopyable, Sendable, Equatable {
    /// 1 NEEDS_CSUM, 2 DATA_VALID, 4 RSC_INFO.
    public var flags: UInt8
    /// 0 none, 1 TCPv4, 3 UDP, 4 TCPv6, 5 UDP_L4; 0x80 ECN.
    public var gsoType: UInt8
    /// Bytes of L2 to L4 headers: a hint to the driver, never trusted from one.
    public var hdrLen: UInt16
    /// Payload bytes of each segment of a GSO packet.
    public var gsoSize: UInt16
    /// Where checksumming starts, in bytes from the Ethernet header.
    public var csumStart: UInt16
    /// Where the checksum lies, in bytes from `csumStart`.
    public var csumOffset: UInt16
    /// Buffers that the packet spans, with the one this header lies in.
    public var numBuffers: UInt16
    /// RSS hash of the packet; meaningless with `hashReport` 0.
    public var hashValue: UInt32
    /// 0 none, 1 IPv4, 2 TCPv4, 3 UDPv4, 4 IPv6, 5 TCPv6, 6 UDPv6.
    public var hashReport: UInt16

    @inlinable
    public init(
        flags: UInt8 = 0, gsoType: UInt8 = 0, hdrLen: UInt16 = 0, gsoSize: UInt16 = 0,
        csumStart: UInt16 = 0, csumOffset: UInt16 = 0, numBuffers: UInt16 = 1,
        hashValue: UInt32 = 0, hashReport: UInt16 = 0
    ) {
        self.flags = flags
        self.gsoType = gsoType
        self.hdrLen = hdrLen
        self.gsoSize = gsoSize
        self.csumStart = csumStart
        self.csumOffset = csumOffset
        self.numBuffers = numBuffers
        self.hashValue = hashValue
        self.hashReport = hashReport
    }

    /// Reads a header of `byteCount` bytes (a `NetHeaderLayout.byteCount`) at any alignment; each
    /// byte once. Fields that the layout lacks become 0.
    @inlinable
    public init(load pointer: UnsafeRawPointer, byteCount: Int) {
        let low = UInt64(littleEndian: pointer.loadUnaligned(as: UInt64.self))
        let middle = UInt32(
            littleEndian: pointer.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        var high: UInt64 = 0
        if byteCount >= NetHeaderLayout.hashReportByteCount {
            high = UInt64(
                littleEndian: pointer.loadUnaligned(fromByteOffset: 12, as: UInt64.self))
        }
        self.init(
            flags: UInt8(truncatingIfNeeded: low), gsoType: UInt8(truncatingIfNeeded: low &>> 8),
            hdrLen: UInt16(truncatingIfNeeded: low &>> 16),
            gsoSize: UInt16(truncatingIfNeeded: low &>> 32),
            csumStart: UInt16(truncatingIfNeeded: low &>> 48),
            csumOffset: UInt16(truncatingIfNeeded: middle),
            numBuffers: UInt16(truncatingIfNeeded: middle &>> 16),
            hashValue: UInt32(truncatingIfNeeded: high),
            hashReport: UInt16(truncatingIfNeeded: high &>> 32))
    }

    /// Writes a header of `byteCount` bytes (a `NetHeaderLayout.byteCount`) at any alignment, by
    /// two or three stores. Reserved bytes become 0.
    @inlinable
    public func store(to pointer: UnsafeMutableRawPointer, byteCount: Int) {
        let (low, middle, high) = words
        pointer.storeBytes(of: low, as: UInt64.self)
        pointer.storeBytes(of: middle, toByteOffset: 8, as: UInt32.self)
        if byteCount >= NetHeaderLayout.hashReportByteCount {
            pointer.storeBytes(of: high, toByteOffset: 12, as: UInt64.self)
        }
    }

    /// As it lies in memory: 8 bytes, 4, and 8 more with HASH_REPORT.
    @inlinable
    var words: (low: UInt64, middle: UInt32, high: UInt64) {
        let low =
            UInt64(flags) | UInt64(gsoType) &<< 8 | UInt64(hdrLen) &<< 16
            | UInt64(gsoSize) &<< 32 | UInt64(csumStart) &<< 48
        let middle = UInt32(csumOffset) | UInt32(numBuffers) &<< 16
        let high = UInt64(hashValue) | UInt64(hashReport) &<< 32
        return (low.littleEndian, middle.littleEndian, high.littleEndian)
    }

    /// `store`, left out where a header of 12 bytes is there already and no byte of the packet
    /// after it shares its cache line: drivers that keep room in front of a packet place it so
    /// (DPDK's do), and most packets have the header of the packet before. The line then stays in
    /// the driver's cache: over two cores with virtio-user 12.3 to 15.6 Mpps, split, and 12.3 to
    /// 17.4, packed.
    ///
    /// A driver that changes the header meanwhile changes what it will read itself.
    @inlinable
    func store(unlessThere pointer: UnsafeMutableRawPointer, byteCount: Int) {
        if UInt(bitPattern: pointer + byteCount) & 63 == 0 {
            // No branch: the loop that this is part of is as large as the compiler still inlines.
            let (low, middle, _) = words
            let difference =
                (pointer.loadUnaligned(as: UInt64.self) ^ low)
                | UInt64(pointer.loadUnaligned(fromByteOffset: 8, as: UInt32.self) ^ middle)
                | UInt64(truncatingIfNeeded: byteCount ^ NetHeaderLayout.basicByteCount)
            if difference == 0 { return }
        }
        store(to: pointer, byteCount: byteCount)
    }
}

/// The split report after the virtio-net header of a queue that reports by `netHeader`.
///
/// The device writes it for every packet, split or not, so that a driver never reads a stale one.
@frozen
public struct SplitReport: BitwiseCopyable, Sendable, Equatable {
    /// Header slot that holds the packet's headers; 0 when not split.
    public var slot: UInt32
    /// Bytes of L2 to L4 headers in that slot; 0 when not split.
    public var headerLength: UInt16
    /// Bit 0: split. The others are 0.
    public var flags: UInt16

    /// Bit of `flags`: the headers lie in `slot`, the data buffers hold payload only.
    @inlinable public static var splitFlag: UInt16 { 1 }
    /// The report of a packet that lies whole in its data buffers.
    @inlinable public static var notSplit: SplitReport {
        SplitReport(slot: 0, headerLength: 0, flags: 0)
    }
    /// Whether bit 0 of `flags` is set.
    @inlinable public var isSplit: Bool { flags & Self.splitFlag != 0 }

    @inlinable
    public init(slot: UInt32, headerLength: UInt16, flags: UInt16 = Self.splitFlag) {
        self.slot = slot
        self.headerLength = headerLength
        self.flags = flags
    }

    /// Reads the 8 bytes at `pointer` once, at any alignment.
    @inlinable
    public init(load pointer: UnsafeRawPointer) {
        let word = UInt64(littleEndian: pointer.loadUnaligned(as: UInt64.self))
        self.init(
            slot: UInt32(truncatingIfNeeded: word),
            headerLength: UInt16(truncatingIfNeeded: word &>> 32),
            flags: UInt16(truncatingIfNeeded: word &>> 48))
    }

    /// Writes the 8 bytes at `pointer` by one store, at any alignment.
    @inlinable
    public func store(to pointer: UnsafeMutableRawPointer) {
        let word = UInt64(slot) | UInt64(headerLength) &<< 32 | UInt64(flags) &<< 48
        pointer.storeBytes(of: word.littleEndian, as: UInt64.self)
    }
}
