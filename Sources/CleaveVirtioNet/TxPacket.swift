/// One packet that a guest sends, as the device sees it: references into guest memory, which the
/// guest may change at any time, until it is completed.
///
///     0 address   8 byteCount   12 flags (0)   14 cookie (0)   16 netFlags   17 gsoType
///     18 gsoSize  20 csumStart  22 csumOffset  24 hash (0)     30 moreCount  32 more
@frozen
public struct TxPacket: BitwiseCopyable, Sendable {
    /// Host address of the first byte of the Ethernet frame.
    public var address: UInt64
    /// Bytes in the first segment, at least 1.
    public var byteCount: UInt32
    @usableFromInline var flags: UInt16 = 0
    @usableFromInline var cookie: UInt16 = 0
    /// VIRTIO_NET_HDR_F_*: 1 NEEDS_CSUM, or 0.
    public var netFlags: UInt8 = 0
    /// VIRTIO_NET_HDR_GSO_*, with ECN; only kinds that were negotiated.
    public var gsoType: UInt8 = 0
    /// Payload bytes of each segment; not 0 if `gsoType` is not.
    public var gsoSize: UInt16 = 0
    /// Where checksumming starts; inside the packet if `netFlags` says so, else 0.
    public var csumStart: UInt16 = 0
    /// Where the checksum lies, from `csumStart` on; its two bytes are inside the packet.
    public var csumOffset: UInt16 = 0
    @usableFromInline var hashValue32: UInt32 = 0
    @usableFromInline var hashReport: UInt16 = 0
    /// Further segments.
    public var moreCount: UInt16 = 0
    /// The first of them; 0 if there is none. Valid until the packet is completed.
    @usableFromInline var more: UInt64 = 0

    /// The largest packet, as large as a device may deliver.
    @inline(__always) static var maximumByteCount: Int { 65589 }

    /// A packet of one segment that follows `netHeaderByteCount` bytes of net header.
    @inline(__always)
    init(_ segment: Segment, after netHeaderByteCount: Int = 0, offload request: TxOffload) {
        address = UInt64(UInt(bitPattern: segment.pointer + netHeaderByteCount))
        byteCount = segment.byteCount &- UInt32(truncatingIfNeeded: netHeaderByteCount)
        netFlags = request.netFlags
        gsoType = request.gsoType
        gsoSize = request.gsoSize
        csumStart = request.csumStart
        csumOffset = request.csumOffset
    }

    /// A packet of one segment from a source that is not a guest: whoever makes it has checked its
    /// offloads, and keeps its bytes until it is completed.
    @inlinable @inline(__always)
    public init(_ pointer: UnsafeRawPointer, byteCount: Int, offloads: PacketOffloads = .none) {
        address = UInt64(UInt(bitPattern: pointer))
        self.byteCount = UInt32(truncatingIfNeeded: byteCount)
        netFlags = offloads.flags
        gsoType = offloads.gsoType
        gsoSize = offloads.gsoSize
        csumStart = offloads.csumStart
        csumOffset = offloads.csumOffset
    }

    /// The first byte.
    public var pointer: UnsafeRawPointer {
        // SAFETY: made from a translated pointer.
        UnsafeRawPointer(bitPattern: UInt(address)).unsafelyUnwrapped
    }

    /// Further segment `index`, below `moreCount`: where it lies, and its bytes.
    public func segment(_ index: Int) -> (pointer: UnsafeRawPointer, byteCount: Int) {
        // SAFETY: the caller's promise: `moreCount` segments lie there until completion.
        let list = UnsafePointer<Segment>(bitPattern: UInt(more)).unsafelyUnwrapped
        return (UnsafeRawPointer(list[index].pointer), Int(list[index].byteCount))
    }
}

// control path
/// Why a packet that a guest sent was not handed out; its buffer goes back with length 0.
@frozen
public enum TxDropReason: UInt8, CaseIterable, Sendable {
    /// Shorter than the virtio-net header and an Ethernet header.
    case runt
    /// Longer than the largest packet a driver may send.
    case tooLong
    /// In more segments than a packet may have.
    case tooManySegments
    /// Its virtio-net header asks for what was not negotiated, or names bytes it does not have.
    case badOffload

    // control path
    /// The name in reports.
    public var name: String { String(describing: self) }
}
