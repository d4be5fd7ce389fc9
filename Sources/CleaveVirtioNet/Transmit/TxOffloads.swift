// control path, but for `check`

extension VirtioFeatures {
    /// VIRTIO_NET_F_CSUM: the device takes packets with partial checksums.
    public static let checksum = VirtioFeatures(rawValue: 1 << 0)
    /// VIRTIO_NET_F_HOST_TSO4: and large TCP packets over IPv4.
    public static let hostTSO4 = VirtioFeatures(rawValue: 1 << 11)
    /// VIRTIO_NET_F_HOST_TSO6: and over IPv6.
    public static let hostTSO6 = VirtioFeatures(rawValue: 1 << 12)
    /// VIRTIO_NET_F_HOST_ECN: and those with ECN.
    public static let hostECN = VirtioFeatures(rawValue: 1 << 13)
    /// VIRTIO_NET_F_HOST_UFO: and large UDP datagrams, to be fragmented.
    public static let hostUFO = VirtioFeatures(rawValue: 1 << 14)
    /// VIRTIO_NET_F_HOST_USO: and large UDP packets, to be cut into datagrams.
    public static let hostUSO = VirtioFeatures(rawValue: 1 << 56)
}

/// The offloads that a driver may ask for: the features that were negotiated.
struct TxOffloads: BitwiseCopyable {
    private let allowsChecksum: Bool
    private let allowsECN: Bool
    /// Bit n: GSO type n.
    private let gsoTypes: UInt32

    init(_ features: VirtioFeatures) {
        allowsChecksum = features.contains(.checksum)
        allowsECN = features.contains(.hostECN)
        var types: UInt32 = 1
        if features.contains(.hostTSO4) { types |= 1 << 1 }
        if features.contains(.hostUFO) { types |= 1 << 3 }
        if features.contains(.hostTSO6) { types |= 1 << 4 }
        if features.contains(.hostUSO) { types |= 1 << 5 }
        gsoTypes = types
    }

    /// The offloads that the net header at `pointer` asks for, for a packet of `packetByteCount`
    /// bytes; nil if it may not ask for all of them.
    ///
    /// Not inlined, so that packets that ask for nothing do not pay for its registers.
    @inline(never)
    func read(_ pointer: UnsafeRawPointer, packetByteCount: Int) -> TxOffload? {
        let header = NetHeader(load: pointer, byteCount: NetHeaderLayout.basicByteCount)
        return check(header, packetByteCount: packetByteCount)
    }

    /// The same for a header that was read. `hdrLen` is ignored: it is a hint, and a driver can
    /// write anything there.
    @inline(__always)
    func check(_ header: NetHeader, packetByteCount: Int) -> TxOffload? {
        var request = TxOffload()
        if header.flags & 1 != 0 {
            let end = Int(header.csumStart) &+ Int(header.csumOffset) &+ 2
            if !allowsChecksum || end > packetByteCount { return nil }
            request.netFlags = 1
            request.csumStart = header.csumStart
            request.csumOffset = header.csumOffset
        }
        if header.gsoType == 0 { return request }
        let kind = header.gsoType & 0x7f
        if kind > 5 || gsoTypes &>> UInt32(kind) & 1 == 0 { return nil }
        if kind == 0 || header.gsoSize == 0 { return nil }
        if header.gsoType & 0x80 != 0 && !allowsECN { return nil }
        request.gsoType = header.gsoType
        request.gsoSize = header.gsoSize
        return request
    }
}

/// The offloads that a packet asks for, checked: fields of `TxPacket`.
struct TxOffload: BitwiseCopyable {
    var netFlags: UInt8 = 0
    var gsoType: UInt8 = 0
    var gsoSize: UInt16 = 0
    var csumStart: UInt16 = 0
    var csumOffset: UInt16 = 0
}
