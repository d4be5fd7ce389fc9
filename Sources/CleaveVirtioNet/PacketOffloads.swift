// What a source knows of a packet beyond its bytes, as the virtio-net header will say it.
//
// Source: virtio 1.4, "Network Device" / "Device Operation" (struct virtio_net_hdr).

/// Bits of `NetHeader.flags` that a receive queue may set.
public enum NetHeaderFlags {
    /// VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum field holds the pseudo-header's sum only.
    @inlinable public static var needsChecksum: UInt8 { 1 }
    /// VIRTIO_NET_HDR_F_DATA_VALID: the checksum was verified.
    @inlinable public static var dataValid: UInt8 { 2 }
}

/// Values of `NetHeader.gsoType`.
public enum SegmentationType {
    @inlinable public static var none: UInt8 { 0 }
    /// VIRTIO_NET_HDR_GSO_TCPV4.
    @inlinable public static var tcp4: UInt8 { 1 }
    /// VIRTIO_NET_HDR_GSO_UDP: one large datagram, to be cut into IP fragments.
    @inlinable public static var udpFragments: UInt8 { 3 }
    /// VIRTIO_NET_HDR_GSO_TCPV6.
    @inlinable public static var tcp6: UInt8 { 4 }
    /// VIRTIO_NET_HDR_GSO_UDP_L4: datagrams of equal size under one header.
    @inlinable public static var udpDatagrams: UInt8 { 5 }
    /// VIRTIO_NET_HDR_GSO_ECN, ORed with a TCP type.
    @inlinable public static var ecn: UInt8 { 0x80 }
}

/// Checksum, segmentation and hash of one packet. All zero says: nothing is known, nothing needed.
///
/// A packet brings them in a reference of their own before its first segment
/// (`PacketRef.init(context:)`). Values are judged when the packet is placed.
@frozen
public struct PacketOffloads: BitwiseCopyable, Sendable, Equatable {
    /// `NetHeaderFlags`.
    public var flags: UInt8
    /// `SegmentationType`; other than none needs `needsChecksum` and `gsoSize`.
    public var gsoType: UInt8
    /// Payload bytes of each segment; ignored without a type.
    public var gsoSize: UInt16
    /// Where checksumming starts, in bytes from the Ethernet header; ignored but for
    /// `needsChecksum`.
    public var csumStart: UInt16
    /// Where the checksum lies, in bytes from `csumStart`.
    public var csumOffset: UInt16
    /// RSS hash; meaningless with `hashReport` 0.
    public var hashValue: UInt32
    /// 0 none, 1 IPv4, 2 TCPv4, 3 UDPv4, 4 IPv6, 5 TCPv6, 6 UDPv6, 7 to 9 the same with
    /// extension headers (IPv6, TCPv6, UDPv6).
    public var hashReport: UInt16

    /// The largest `hashReport` of virtio 1.4.
    @inlinable public static var maximumHashReport: UInt16 { 9 }

    @inlinable
    public init(
        flags: UInt8 = 0, gsoType: UInt8 = 0, gsoSize: UInt16 = 0, csumStart: UInt16 = 0,
        csumOffset: UInt16 = 0, hashValue: UInt32 = 0, hashReport: UInt16 = 0
    ) {
        self.flags = flags
        self.gsoType = gsoType
        self.gsoSize = gsoSize
        self.csumStart = csumStart
        self.csumOffset = csumOffset
        self.hashValue = hashValue
        self.hashReport = hashReport
    }

    /// Nothing is known, nothing needed.
    @inlinable public static var none: PacketOffloads { PacketOffloads() }
    @inlinable public var needsChecksum: Bool { flags & NetHeaderFlags.needsChecksum != 0 }
}

extension PacketRef {
    /// The offloads of the packet whose segments follow in the next references. It counts as one
    /// of the packet's references.
    ///
    ///     address     flags 8 | gsoType 8 | gsoSize 16 | csumStart 16 | csumOffset 16
    ///     byteCount   hashValue
    ///     cookie      hashReport
    @inlinable
    public init(context: PacketOffloads) {
        let low = UInt64(context.flags) | UInt64(context.gsoType) &<< 8
        let middle = UInt64(context.gsoSize) &<< 16 | UInt64(context.csumStart) &<< 32
        self.init(
            address: low | middle | UInt64(context.csumOffset) &<< 48,
            byteCount: context.hashValue, flags: [.context, .more], cookie: context.hashReport)
    }

    /// The offloads in this reference, if that is what it carries.
    @inlinable
    public var context: PacketOffloads? {
        guard flags.contains(.context) else { return nil }
        return PacketOffloads(
            flags: UInt8(truncatingIfNeeded: address),
            gsoType: UInt8(truncatingIfNeeded: address &>> 8),
            gsoSize: UInt16(truncatingIfNeeded: address &>> 16),
            csumStart: UInt16(truncatingIfNeeded: address &>> 32),
            csumOffset: UInt16(truncatingIfNeeded: address &>> 48), hashValue: byteCount,
            hashReport: cookie)
    }
}
