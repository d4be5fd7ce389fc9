/// Where a packet's parts go: the compile-time policy that scan, reserve and place are
/// specialised for. Everything static, so that a specialisation holds no trace of the others.
///
/// A split packet's headers lie in one of three places: nowhere of their own (`WholePlacement`),
/// at the start of its first buffer (`leadsWithHeaders`: A, B, C), or in a slot of the header
/// queue (`claimsSlots`: D).
protocol PlacementMethod {
    /// Headers go to a slot of the header queue where they can.
    static var claimsSlots: Bool { get }
    /// A burst's slots are in groups that are listed, instead of all lying one after the other.
    static var listsGroups: Bool { get }
    /// Headers go to the start of the packet's first buffer, and payload after a border: the end of
    /// that buffer's first descriptor, or of the buffer.
    static var leadsWithHeaders: Bool { get }
    /// The border is the end of the first buffer, not of its first descriptor; a split packet then
    /// has as many used entries as there are parts.
    static var partsAreBuffers: Bool { get }
    /// Buffers of up to `smallLimit` bytes that do not hold the rest of a payload are given back
    /// empty within the packet.
    static var skipsSmallBuffers: Bool { get }

    /// What one buffer of a run is made of (`Virtqueue.popRun`).
    associatedtype Buffer: RunBuffer

    /// Bytes at the start of the first data buffer, before any byte of the packet.
    /// - Parameter netHeader: bytes of the virtio-net header, by negotiated features.
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int

    /// Bytes that a packet with `headerLength` bytes of headers puts into its slot.
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int

    /// The virtio-net header lies in the slot, and the used entry's length names it.
    static var reportsInUsedLength: Bool { get }
    /// Most bytes of a packet in its data buffers if it is split; more are placed whole.
    static var splitPayloadLimit: Int { get }
}

extension PlacementMethod {
    /// Headers lie apart from payload where they can.
    @inline(__always) static var splits: Bool { claimsSlots || leadsWithHeaders }
    /// Pieces of buffer that a packet of a run takes, and entries of `BurstPlan.needs`.
    @inline(__always) static var partCount: Int { leadsWithHeaders ? 2 : 1 }
    /// Buffers that a packet of a run takes.
    @inline(__always) static var bufferCount: Int { partsAreBuffers ? partCount : 1 }

    @inline(__always) static var leadsWithHeaders: Bool { false }
    @inline(__always) static var claimsSlots: Bool { false }
    @inline(__always) static var listsGroups: Bool { false }
    @inline(__always) static var partsAreBuffers: Bool { false }
    @inline(__always) static var skipsSmallBuffers: Bool { false }
    @inline(__always) static var reportsInUsedLength: Bool { false }
    @inline(__always) static var splitPayloadLimit: Int { BurstLimit.packetByteCount }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int { 0 }

    /// With the split report, which says whether the packet is split and how long its headers are.
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int {
        netHeader &+ NetHeaderLayout.splitReportByteCount
    }
}

/// No split: virtio-net header and packet lie together in the data buffers.
enum WholePlacement: PlacementMethod {
    typealias Buffer = OneDescriptor
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int { netHeader }
}

/// Method A: headers in the first descriptor of a chain, the rest of which stays unused; payload
/// from the second on.
enum HeaderDescriptorPlacement: PlacementMethod {
    typealias Buffer = TwoDescriptors
    @inline(__always) static var leadsWithHeaders: Bool { true }
}

/// Method B: headers in the first of a packet's buffers, the rest of which stays unused; payload
/// from the second on.
enum HeaderPagePlacement: PlacementMethod {
    typealias Buffer = OneDescriptor
    @inline(__always) static var leadsWithHeaders: Bool { true }
    @inline(__always) static var partsAreBuffers: Bool { true }
}

/// Method C: as B, over small and large buffers alternately; small ones in the way of payload are
/// skipped.
enum AlternatingPlacement: PlacementMethod {
    typealias Buffer = OneDescriptor
    @inline(__always) static var leadsWithHeaders: Bool { true }
    @inline(__always) static var partsAreBuffers: Bool { true }
    @inline(__always) static var skipsSmallBuffers: Bool { true }
}

/// Method D, the slot named in the net header: an 8-byte tail follows it in the data buffer, split
/// or not, and then the payload.
enum NetHeaderReportPlacement: PlacementMethod {
    typealias Buffer = OneDescriptor
    @inline(__always) static var claimsSlots: Bool { true }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int { headerLength }
}

/// Method D, the slot named in the used entry's length: net header and packet headers lie in the
/// slot, the payload starts at offset 0 of the data buffer.
///
/// Half of the length is left for bytes. So a packet of more payload is not split: no valid packet
/// of TCP or UDP has more, as the lengths of IP are 16 bits and count at least 8 bytes of headers.
/// Then no used entry of a split packet has more, whatever its buffers hold.
enum UsedLengthReportPlacement: PlacementMethod {
    typealias Buffer = OneNamingDescriptor
    @inline(__always) static var claimsSlots: Bool { true }
    @inline(__always) static var reportsInUsedLength: Bool { true }
    @inline(__always) static var splitPayloadLimit: Int { UsedLength.byteMask }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int { split ? 0 : netHeader }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int {
        netHeader &+ headerLength
    }
}

/// Method D with slots that come back out of order, and so are claimed as a list of groups.
enum OutOfOrder<Base: PlacementMethod>: PlacementMethod {
    typealias Buffer = Base.Buffer
    @inline(__always) static var claimsSlots: Bool { Base.claimsSlots }
    @inline(__always) static var listsGroups: Bool { true }
    @inline(__always) static var reportsInUsedLength: Bool { Base.reportsInUsedLength }
    @inline(__always) static var splitPayloadLimit: Int { Base.splitPayloadLimit }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int {
        Base.prefixByteCount(split: split, netHeader: netHeader)
    }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int {
        Base.slotByteCount(headerLength: headerLength, netHeader: netHeader)
    }
}

// MARK: Passes
//
// The writes of one pass over a placed burst. A burst is placed in one pass, or in one for each
// kind of write, so that a profile can tell them apart: the same code, specialised for less.

/// The writes of a pass.
protocol PlacePart {
    /// Slots into shadowed used entries, where the method reports them there.
    static var namesSlots: Bool { get }
    /// Net headers, and packet headers that lie apart.
    static var writesHeaders: Bool { get }
    /// The rest of the packets; and counts their outcomes.
    static var writesPayload: Bool { get }
}

/// All of them.
enum WholePlace: PlacePart {
    @inline(__always) static var namesSlots: Bool { true }
    @inline(__always) static var writesHeaders: Bool { true }
    @inline(__always) static var writesPayload: Bool { true }
}

enum SlotNames: PlacePart {
    @inline(__always) static var namesSlots: Bool { true }
    @inline(__always) static var writesHeaders: Bool { false }
    @inline(__always) static var writesPayload: Bool { false }
}

enum HeaderBytes: PlacePart {
    @inline(__always) static var namesSlots: Bool { false }
    @inline(__always) static var writesHeaders: Bool { true }
    @inline(__always) static var writesPayload: Bool { false }
}

/// The last pass. Packets off the fast path (several segments, several buffers, offloads) are
/// written here, headers and all, except what precedes them in a slot.
enum PayloadBytes: PlacePart {
    @inline(__always) static var namesSlots: Bool { false }
    @inline(__always) static var writesHeaders: Bool { false }
    @inline(__always) static var writesPayload: Bool { true }
}
