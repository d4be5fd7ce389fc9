// control path
//
// Features that driver and device negotiated.

import CleaveHost

/// How driver and device hand buffers to each other.
public enum RingFormat: String, BitwiseCopyable, Sendable, CaseIterable, Codable {
    /// Descriptor table, available ring and used ring.
    case split
    /// One ring of descriptors that both sides write (VIRTIO_F_RING_PACKED).
    case packed
}

/// Features that driver and device agreed on, as far as queues depend on them.
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
    /// VIRTIO_F_IN_ORDER: buffers are used in the order in which they were offered, which they
    /// always are. One used entry may complete several; a queue here writes one for each, since
    /// some drivers take the length of every entry as written (virtio-user of DPDK 22.11).
    public static let inOrder = VirtioFeatures(rawValue: 1 << 35)
    /// VIRTIO_NET_F_GUEST_USO4: it takes UDP over IPv4 that is not cut into datagrams yet.
    public static let guestUSO4 = VirtioFeatures(rawValue: 1 << 54)
    /// VIRTIO_NET_F_GUEST_USO6: the same over IPv6.
    public static let guestUSO6 = VirtioFeatures(rawValue: 1 << 55)
    /// VIRTIO_NET_F_HASH_REPORT: 20-byte virtio-net header.
    public static let hashReport = VirtioFeatures(rawValue: 1 << 57)

    /// Features of both directions.
    public static let ring: VirtioFeatures = [
        .indirectDescriptors, .eventIndex, .inOrder, .hashReport,
    ]
    /// Features of a receive queue.
    public static let receive: VirtioFeatures = [
        .ring, .mergeableBuffers, .guestChecksum, .guestTSO4, .guestTSO6, .guestECN, .guestUFO,
        .guestUSO4, .guestUSO6,
    ]
    /// Features of a transmit queue.
    public static let transmit: VirtioFeatures = [
        .ring, .checksum, .hostTSO4, .hostTSO6, .hostECN, .hostUFO, .hostUSO,
    ]

    /// Checks what virtio 1.4 says of features that need others.
    func check() throws(SetupError) {
        let segmentation: VirtioFeatures = [
            .guestTSO4, .guestTSO6, .guestUFO, .guestUSO4, .guestUSO6,
        ]
        if !isDisjoint(with: segmentation) && !contains(.guestChecksum) {
            throw SetupError("GUEST_TSO4, TSO6, UFO and USO need GUEST_CSUM")
        }
        if contains(.guestECN) && isDisjoint(with: [.guestTSO4, .guestTSO6]) {
            throw SetupError("GUEST_ECN needs GUEST_TSO4 or GUEST_TSO6")
        }
    }
}
