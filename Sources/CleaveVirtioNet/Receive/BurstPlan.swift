import CleaveRings

/// The plan of one burst: fixed memory that scan, reserve, claim and place fill one after the
/// other.
///
/// A value of pointers and counts; a worker copies it into a local for a burst, so that the counts
/// live in registers. One thread at a time.
struct BurstPlan: BitwiseCopyable {
    /// Most source segments of one packet; a port may not submit longer runs.
    static let maximumRefsPerPacket = 64
    /// Most packets of one burst.
    static let maximumPackets = 256
    /// 65535 bytes of IP behind an Ethernet header and two tags, and room for what virtio 1.4
    /// allows with segmentation offloads (65589 bytes with its 12-byte header and padding).
    static let maximumPacketByteCount = 65589
    /// Buffers too small for a net header, in a row, that break the queue.
    static let maximumTinyStreak = 64

    let packets: UnsafeMutablePointer<PlannedPacket>
    /// Bytes that each packet puts into its data buffers; `Int.max` if it is dropped. Methods of
    /// two parts have two entries for each packet: headers and what precedes them, and payload;
    /// or `Int.max`, so that no run takes it, and the sum.
    let needs: UnsafeMutablePointer<Int>
    /// For parsing packets whose headers lie in several segments.
    let scratch: UnsafeMutableRawPointer
    /// Slots of the burst, where they are listed (`PlacementMethod.listsSlots`).
    let slotList: UnsafeMutablePointer<UInt16>
    var segments: SegmentList
    /// Packets that scan found, delivered or not.
    var packetCount = 0
    /// Packets before this one were planned: dropped, or given buffers.
    var plannedCount = 0
    /// Packets that split: by scan, or after a second plan.
    var splitCount = 0
    /// Scan found packets that fit a slot entirely and are to go there.
    var hasTiny = false
    /// Scan found one reference in each packet.
    var hasSingleRefs = true
    /// `packets` holds what scan found; else every packet is plain, number i is reference i, and
    /// `list` has not been called for.
    var isListed = false
    /// Packet i is planned as number i of a run, from one reference: its second word was not
    /// written, `PlannedPacket.uniform` gives it.
    var isUniform = false

    /// This burst wanted slots of a header queue that is broken.
    var metBrokenHeaderQueue = false

    /// Most packets to take at once.
    let burst: Int
    /// VIRTIO_NET_F_MRG_RXBUF was negotiated.
    let isMergeable: Bool
    /// What was negotiated.
    let features: VirtioFeatures
    /// Packets for which there are too few buffers are dropped instead of left to the source.
    let dropsOnShortage: Bool
    /// Bytes of the virtio-net header: 12 or 20.
    let netHeaderByteCount: Int
    /// Packets up to this many bytes go to a slot entirely; 0 = none.
    let tinyLimit: UInt32
    /// Packets up to this many bytes need a closer look: `tinyLimit` or the split threshold.
    let closerLimit: UInt32
    /// 63 to zero a slot's last line behind the headers, or 0.
    let padMask: Int
    /// Tiny buffers since the last burst that placed anything.
    var tinyStreak = 0
    /// This burst gave a buffer back with length 0.
    var sawTiny = false
    /// Buffers up to this many bytes are small ones (method C).
    let smallLimit: Int
    /// Small buffers skipped in this burst, and large ones that took headers.
    var skippedCount = 0
    var misfitCount = 0

    /// Forgets the last burst.
    @inline(__always)
    mutating func begin() {
        segments.count = 0
        skippedCount = 0
        misfitCount = 0
    }

    /// Bytes of memory that `init` lays the plan over.
    static func byteCount(burst: Int, queueSize: Int) -> Int {
        CacheLine.roundedUp(burst * MemoryLayout<PlannedPacket>.stride)
            + CacheLine.roundedUp(2 * burst * MemoryLayout<Int>.stride)
            + CacheLine.roundedUp(HeaderParser.scratchByteCount)
            + CacheLine.roundedUp(burst * MemoryLayout<UInt16>.stride)
            + segmentCapacity(queueSize) * MemoryLayout<Segment>.stride
    }

    /// A chain may have as many descriptors as the queue has entries, so a packet in one buffer
    /// always fits; a burst that needs more ends early.
    private static func segmentCapacity(_ queueSize: Int) -> Int { max(1024, 2 * queueSize) }

    /// - Parameters:
    ///   - memory: `byteCount(burst:queueSize:)` bytes on a cache line.
    ///   - slotRoom: packet bytes that a slot can hold under the queue's method.
    ///   - smallLimit: bytes of method C's small buffers.
    init(
        memory: UnsafeMutableRawPointer, burst: Int, queueSize: Int, features: VirtioFeatures,
        dropsOnShortage: Bool, policy: SplitPolicy, slotRoom: Int, smallLimit: Int
    ) {
        let needsOffset = CacheLine.roundedUp(burst * MemoryLayout<PlannedPacket>.stride)
        let scratchOffset =
            needsOffset + CacheLine.roundedUp(2 * burst * MemoryLayout<Int>.stride)
        packets = memory.assumingMemoryBound(to: PlannedPacket.self)
        needs = (memory + needsOffset).assumingMemoryBound(to: Int.self)
        scratch = memory + scratchOffset
        let listOffset = scratchOffset + CacheLine.roundedUp(HeaderParser.scratchByteCount)
        slotList = (memory + listOffset).assumingMemoryBound(to: UInt16.self)
        let segmentsOffset =
            listOffset + CacheLine.roundedUp(burst * MemoryLayout<UInt16>.stride)
        segments = SegmentList(
            base: (memory + segmentsOffset).assumingMemoryBound(to: Segment.self),
            capacity: Self.segmentCapacity(queueSize))
        self.burst = burst
        isMergeable = features.contains(.mergeableBuffers)
        self.features = features
        self.dropsOnShortage = dropsOnShortage
        tinyLimit = policy.placesTinyPackets ? UInt32(max(0, slotRoom)) : 0
        closerLimit = max(tinyLimit, UInt32(policy.threshold))
        padMask = policy.zeroPads ? 63 : 0
        self.smallLimit = smallLimit
        netHeaderByteCount =
            NetHeaderLayout(hashReport: features.contains(.hashReport)).byteCount
    }
}
