/// Where a packet's parts go: the compile-time policy that scan, reserve and place are
/// specialised for. Everything static, so that a specialisation holds no trace of the others.
protocol PlacementMethod {
    /// Headers go to a slot of the header queue where they can.
    static var splits: Bool { get }

    /// Bytes at the start of the first data buffer, before any byte of the packet.
    /// - Parameter netHeader: bytes of the virtio-net header, by negotiated features.
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int

    /// Bytes that a packet with `headerLength` bytes of headers puts into its slot.
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int

    /// The virtio-net header lies in the slot, and the used entry names it.
    static var reportsInUsedElement: Bool { get }
}

/// No split: virtio-net header and packet lie together in the data buffers.
enum WholePlacement: PlacementMethod {
    @inline(__always) static var splits: Bool { false }
    @inline(__always) static var reportsInUsedElement: Bool { false }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int { netHeader }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int { 0 }
}

/// Method D, the slot named in the net header: an 8-byte tail follows it in the data buffer, split
/// or not, and then the payload.
enum NetHeaderReportPlacement: PlacementMethod {
    @inline(__always) static var splits: Bool { true }
    @inline(__always) static var reportsInUsedElement: Bool { false }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int {
        netHeader &+ NetHeaderLayout.splitTailByteCount
    }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int { headerLength }
}

/// Method D, the slot named in the used entry: net header and packet headers lie in the slot, the
/// payload starts at offset 0 of the data buffer.
enum UsedElementReportPlacement: PlacementMethod {
    @inline(__always) static var splits: Bool { true }
    @inline(__always) static var reportsInUsedElement: Bool { true }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int { split ? 0 : netHeader }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int {
        netHeader &+ headerLength
    }
}
