// control path
//
// Where the parts of a split virtqueue lie (virtio 1.4, "Split Virtqueues"), and what driver and
// device agree on.
//
//   descriptor table   16 n bytes, align 16   {le64 addr, le32 len, le16 flags, le16 next}
//   available ring     6 + 2n,     align 2    {le16 flags, le16 idx, le16 ring[n], le16 used_event}
//   used ring          6 + 8n,     align 4    {le16 flags, le16 idx, {le32 id, le32 len}[n],
//                                              le16 avail_event}

/// Offsets and sizes inside a split virtqueue; used by the device and by the driver side.
public enum SplitLayout {
    public static let maximumSize = 32768
    public static let descriptorByteCount = 16
    /// Offset of `flags` in the available and in the used ring.
    public static let flagsOffset = 0
    /// Offset of `idx` in the available and in the used ring.
    public static let indexOffset = 2
    /// Offset of the first entry in the available and in the used ring.
    public static let entriesOffset = 4
    public static let usedElementByteCount = 8

    public static func descriptorTableByteCount(size: Int) -> Int { descriptorByteCount * size }
    public static func availRingByteCount(size: Int) -> Int { 6 + 2 * size }
    public static func usedRingByteCount(size: Int) -> Int { 6 + 8 * size }
    /// Offset of `used_event`, the driver's notification threshold, in the available ring.
    @inlinable public static func usedEventOffset(size: Int) -> Int { 4 + 2 * size }
    /// Offset of `avail_event`, the device's notification threshold, in the used ring.
    @inlinable public static func availEventOffset(size: Int) -> Int { 4 + 8 * size }
}

/// `flags` of a descriptor (the same bits in split and packed rings; the last two are packed only).
public enum DescriptorFlags {
    public static let next: UInt16 = 1
    public static let write: UInt16 = 2
    public static let indirect: UInt16 = 4
    public static let available: UInt16 = 1 << 7
    public static let used: UInt16 = 1 << 15
}

/// `flags` of the available ring: the driver does not want to be called.
public let availNoInterrupt: UInt16 = 1
/// `flags` of the used ring: the device does not want to be kicked.
public let usedNoNotify: UInt16 = 1

/// The length of a used entry that names a header slot (report `usedLength`), the same four bytes
/// in both ring formats:
///
///     bit 31       the packet is split
///     bits 30..16  its header slot
///     bits 15..0   bytes written to this buffer
///
/// With bit 31 clear it is a length as in virtio, of 31 bits.
public enum UsedLength {
    /// The packet is split, and the entry names its slot.
    @inlinable public static var splitFlag: UInt32 { 1 << 31 }
    /// Most bytes in the first buffer of a split packet.
    @inlinable public static var byteMask: Int { 0xffff }

    /// The upper two bytes of the length in the first used entry of a split packet.
    @inlinable public static func upperHalf(slot: UInt32) -> UInt16 {
        UInt16(truncatingIfNeeded: slot | splitFlag &>> 16)
    }

    /// The slot that a length with `splitFlag` names.
    @inlinable public static func slot(_ length: UInt32) -> Int { Int(length &>> 16 & 0x7fff) }
    /// Bytes written to the buffer, by such a length.
    @inlinable public static func byteCount(_ length: UInt32) -> Int { Int(length) & byteMask }
}
