// control path
//
// Where the parts of a split virtqueue lie, and the checks that are made once, at activation, so
// that the loop needs none on them (virtio 1.4, "Split Virtqueues").
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

/// `flags` of a descriptor (the same bits in split and packed rings).
public enum DescriptorFlags {
    public static let next: UInt16 = 1
    public static let write: UInt16 = 2
    public static let indirect: UInt16 = 4
}

/// `flags` of the available ring: the driver does not want to be called.
public let availNoInterrupt: UInt16 = 1
/// `flags` of the used ring: the device does not want to be kicked.
public let usedNoNotify: UInt16 = 1

/// What driver and device agreed on, as far as the receive path cares.
public struct VirtioFeatures: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// VIRTIO_NET_F_MRG_RXBUF: a packet may span several buffers.
    public static let mergeableBuffers = VirtioFeatures(rawValue: 1 << 15)
    /// VIRTIO_F_INDIRECT_DESC: a descriptor may refer to a table of descriptors.
    public static let indirectDescriptors = VirtioFeatures(rawValue: 1 << 28)
    /// VIRTIO_F_EVENT_IDX: notification thresholds in place of flags.
    public static let eventIndex = VirtioFeatures(rawValue: 1 << 29)
    /// VIRTIO_NET_F_HASH_REPORT: 20-byte virtio-net header.
    public static let hashReport = VirtioFeatures(rawValue: 1 << 57)
}

/// The guest addresses of a split virtqueue's parts, as a driver hands them over.
public struct SplitVirtqueueAddresses: Sendable {
    /// Entries: a power of two, 1 to 32768.
    public var size: Int
    public var descriptorTable: GuestAddress
    public var availRing: GuestAddress
    public var usedRing: GuestAddress
    /// Where the device goes on: the next available entry it takes and, for a queue without
    /// packets in flight, the next used entry it writes. 0 for a fresh queue.
    public var firstIndex: UInt16

    public init(
        size: Int, descriptorTable: GuestAddress, availRing: GuestAddress, usedRing: GuestAddress,
        firstIndex: UInt16 = 0
    ) {
        self.size = size
        self.descriptorTable = descriptorTable
        self.availRing = availRing
        self.usedRing = usedRing
        self.firstIndex = firstIndex
    }

    /// Host pointers of the three parts.
    struct Mapped {
        let descriptorTable: UnsafeMutableRawPointer
        let availRing: UnsafeMutableRawPointer
        let usedRing: UnsafeMutableRawPointer
    }

    /// Checks size, alignment and range of all parts.
    func map(in memory: GuestMemory) throws(RxPathError) -> Mapped {
        guard size > 0, size <= SplitLayout.maximumSize, size & (size - 1) == 0 else {
            throw RxPathError(
                "split virtqueue size \(size) is not a power of two between 1 and "
                    + "\(SplitLayout.maximumSize)")
        }
        return Mapped(
            descriptorTable: try Self.part(
                "descriptor table", descriptorTable, 16,
                SplitLayout.descriptorTableByteCount(size: size), memory),
            availRing: try Self.part(
                "available ring", availRing, 2, SplitLayout.availRingByteCount(size: size), memory),
            usedRing: try Self.part(
                "used ring", usedRing, 4, SplitLayout.usedRingByteCount(size: size), memory))
    }

    private static func part(
        _ name: String, _ address: GuestAddress, _ alignment: UInt64, _ byteCount: Int,
        _ memory: GuestMemory
    ) throws(RxPathError) -> UnsafeMutableRawPointer {
        let place = "0x" + String(address.rawValue, radix: 16)
        guard address.rawValue % alignment == 0 else {
            throw RxPathError("\(name) at \(place) is not aligned to \(alignment) bytes")
        }
        guard let pointer = memory.translate(address, byteCount: byteCount) else {
            throw RxPathError(
                "\(name) at \(place), \(byteCount) bytes, is not in one memory region")
        }
        guard UInt(bitPattern: pointer) % UInt(alignment) == 0 else {
            throw RxPathError("\(name) at \(place) is mapped at a misaligned host address")
        }
        return pointer
    }
}
