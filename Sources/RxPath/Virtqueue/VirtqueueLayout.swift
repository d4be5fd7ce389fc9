// control path
//
// Where the parts of a split virtqueue lie (virtio 1.4, "Split Virtqueues"), and what driver and
// device agree on.
//
//   descriptor table   16 n bytes, align 16   {le64 addr, le32 len, le16 flags, le16 next}
//   available ring     6 + 2n,     align 2    {le16 flags, le16 idx, le16 ring[n], le16 used_event}
//   used ring          6 + 8n,     align 4    {le16 flags, le16 idx, {le32 id, le32 len}[n],
//                                              le16 avail_event}

/// How driver and device hand buffers to each other.
public enum RingFormat: String, BitwiseCopyable, Sendable, CaseIterable, Codable {
    /// Descriptor table, available ring and used ring.
    case split
    /// One ring of descriptors that both sides write (VIRTIO_F_RING_PACKED).
    case packed
}

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

/// What driver and device agreed on, as far as the receive path cares.
public struct VirtioFeatures: OptionSet, BitwiseCopyable, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// VIRTIO_NET_F_GUEST_CSUM: the driver takes packets whose checksum is not complete.
    public static let guestChecksum = VirtioFeatures(rawValue: 1 << 1)
    /// VIRTIO_NET_F_GUEST_TSO4: it takes TCP over IPv4 that is not cut into segments yet.
    public static let guestTSO4 = VirtioFeatures(rawValue: 1 << 7)
    /// VIRTIO_NET_F_GUEST_TSO6: the same over IPv6.
    public static let guestTSO6 = VirtioFeatures(rawValue: 1 << 8)
    /// VIRTIO_NET_F_GUEST_ECN: such TCP may carry congestion marks.
    public static let guestECN = VirtioFeatures(rawValue: 1 << 9)
    /// VIRTIO_NET_F_GUEST_UFO: it takes UDP datagrams that are not cut into fragments yet.
    public static let guestUFO = VirtioFeatures(rawValue: 1 << 10)
    /// VIRTIO_NET_F_MRG_RXBUF: a packet may span several buffers.
    public static let mergeableBuffers = VirtioFeatures(rawValue: 1 << 15)
    /// VIRTIO_F_INDIRECT_DESC: a descriptor may refer to a table of descriptors.
    public static let indirectDescriptors = VirtioFeatures(rawValue: 1 << 28)
    /// VIRTIO_F_EVENT_IDX: notification thresholds in place of flags.
    public static let eventIndex = VirtioFeatures(rawValue: 1 << 29)
    /// VIRTIO_F_IN_ORDER: buffers are used in the order in which they were offered, and one used
    /// entry may stand for several.
    public static let inOrder = VirtioFeatures(rawValue: 1 << 35)
    /// VIRTIO_NET_F_GUEST_USO4: it takes UDP over IPv4 that is not cut into datagrams yet.
    public static let guestUSO4 = VirtioFeatures(rawValue: 1 << 54)
    /// VIRTIO_NET_F_GUEST_USO6: the same over IPv6.
    public static let guestUSO6 = VirtioFeatures(rawValue: 1 << 55)
    /// VIRTIO_NET_F_HASH_REPORT: 20-byte virtio-net header.
    public static let hashReport = VirtioFeatures(rawValue: 1 << 57)

    /// Checks what virtio 1.4 says of features that need others.
    func check() throws(RxPathError) {
        let segmentation: VirtioFeatures = [
            .guestTSO4, .guestTSO6, .guestUFO, .guestUSO4, .guestUSO6,
        ]
        if !isDisjoint(with: segmentation) && !contains(.guestChecksum) {
            throw RxPathError("GUEST_TSO4, TSO6, UFO and USO need GUEST_CSUM")
        }
        if contains(.guestECN) && isDisjoint(with: [.guestTSO4, .guestTSO6]) {
            throw RxPathError("GUEST_ECN needs GUEST_TSO4 or GUEST_TSO6")
        }
    }
}
