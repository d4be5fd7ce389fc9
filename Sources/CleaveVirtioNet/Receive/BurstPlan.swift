// The plan of one burst, and how much of it is written down.
//
//   needs    every packet is plain, and number i is reference i: only `needs` is written, from
//     |      which `plainHeaderLength` decodes the rest
//     | list
//   listed   the first words of `packets` as well (split point, references)
//     |
//   mixed    the same, but some packet has several references
//     | writeOut, noteRun
//   full     the second words, too (segments, used entries)
//
// Scan leaves one of the first three. Reserve keeps `needs` and `listed` if all packets are taken
// as one run: the burst is uniform, packet i has buffer i, and `planned` computes its second word.
// Otherwise it ends with `full`. A burst that finds too few header slots goes through reserve again
// (`replan`).

import CleaveRings

/// Bounds of a burst.
enum BurstLimit {
    /// Most source segments of one packet; a port may not submit longer runs.
    static let refsPerPacket = 64
    /// Most packets of one burst.
    static let packets = 256
    /// 65535 bytes of IP after an Ethernet header and two tags, and room for what virtio 1.4
    /// allows with segmentation offloads (65589 bytes with its 12-byte header and padding).
    static let packetByteCount = 65589
    /// Buffers too small for a net header, in a row, that break the queue.
    static let undersizedStreak = 64
}

/// Settings of a queue; constant.
struct PlanSettings: BitwiseCopyable {
    /// Most packets to take at once.
    let burst: Int
    /// VIRTIO_NET_F_MRG_RXBUF was negotiated.
    let isMergeable: Bool
    /// The negotiated features.
    let features: VirtioFeatures
    /// Packets for which there are too few buffers are dropped instead of left to the source.
    let dropsOnShortage: Bool
    /// Bytes of the virtio-net header: 12 or 20.
    let netHeaderByteCount: Int
    /// Packets up to this many bytes go to a slot entirely; 0 = none.
    let tinyLimit: UInt32
    /// Packets up to this many bytes are not parsed: `tinyLimit` or, if larger, the split
    /// threshold.
    let closerLimit: UInt32
    /// 63 to zero a slot's last line after the headers, or 0.
    let padMask: Int
    /// Buffers up to this many bytes are small ones (method C).
    let smallLimit: Int

    /// - Parameter slotRoom: packet bytes that a slot can hold under the queue's method.
    init(_ configuration: RxQueueConfiguration, slotRoom: Int) {
        let policy = configuration.splitPolicy
        burst = configuration.burst
        features = configuration.features
        isMergeable = features.contains(.mergeableBuffers)
        dropsOnShortage = configuration.shortage == .drop
        tinyLimit = policy.placesTinyPackets ? UInt32(max(0, slotRoom)) : 0
        closerLimit = max(tinyLimit, UInt32(policy.threshold))
        padMask = policy.zeroPads ? 63 : 0
        smallLimit = configuration.method.smallBufferByteCount
        netHeaderByteCount =
            NetHeaderLayout(hashReport: features.contains(.hashReport)).byteCount
    }
}

/// Fixed memory that the plans of a queue's bursts are written to, one after the other.
struct PlanMemory: BitwiseCopyable {
    let packets: UnsafeMutablePointer<PlannedPacket>
    /// Bytes that each packet puts into its data buffers; `Int.max` if it is dropped. Methods of
    /// two parts have two entries for each packet: headers and what precedes them, and payload;
    /// or `Int.max`, so that no run takes it, and the sum.
    let needs: UnsafeMutablePointer<Int>
    /// For parsing packets whose headers lie in several segments.
    let scratch: UnsafeMutableRawPointer
    /// Groups of the burst's slots, where they are listed (`PlacementMethod.listsGroups`).
    let groupList: UnsafeMutablePointer<UInt16>
    let segments: SegmentList

    /// Bytes of memory that `init` lays a plan over.
    static func byteCount(burst: Int, queueSize: Int) -> Int {
        CacheLine.roundedUp(burst * MemoryLayout<PlannedPacket>.stride)
            + CacheLine.roundedUp(2 * burst * MemoryLayout<Int>.stride)
            + CacheLine.roundedUp(HeaderParser.scratchByteCount)
            + CacheLine.roundedUp((burst + 1) * MemoryLayout<UInt16>.stride)
            + segmentCapacity(queueSize) * MemoryLayout<Segment>.stride
    }

    /// A chain may have as many descriptors as the queue has entries, so a packet in one buffer
    /// always fits; a burst that needs more ends early.
    private static func segmentCapacity(_ queueSize: Int) -> Int { max(1024, 2 * queueSize) }

    /// - Parameter memory: `byteCount(burst:queueSize:)` bytes on a cache line.
    init(_ memory: UnsafeMutableRawPointer, burst: Int, queueSize: Int) {
        assert(UInt(bitPattern: memory) % UInt(CacheLine.byteCount) == 0)
        precondition(MemoryLayout<PlannedPacket>.size == 16 && MemoryLayout<PacketRef>.size == 16)
        let needsOffset = CacheLine.roundedUp(burst * MemoryLayout<PlannedPacket>.stride)
        let scratchOffset =
            needsOffset + CacheLine.roundedUp(2 * burst * MemoryLayout<Int>.stride)
        let listOffset = scratchOffset + CacheLine.roundedUp(HeaderParser.scratchByteCount)
        let segmentsOffset =
            listOffset + CacheLine.roundedUp((burst + 1) * MemoryLayout<UInt16>.stride)
        packets = memory.assumingMemoryBound(to: PlannedPacket.self)
        needs = (memory + needsOffset).assumingMemoryBound(to: Int.self)
        scratch = memory + scratchOffset
        groupList = (memory + listOffset).assumingMemoryBound(to: UInt16.self)
        segments = SegmentList(
            base: (memory + segmentsOffset).assumingMemoryBound(to: Segment.self),
            capacity: Self.segmentCapacity(queueSize))
    }
}

/// The plan of one burst, which scan, reserve, claim and place fill one after the other.
///
/// A local value, so that its counts live in registers. Only `undersizedStreak` lasts beyond a
/// burst. One thread at a time.
struct BurstPlan<Method: PlacementMethod>: BitwiseCopyable {
    /// How much of the plan is written down: the picture above.
    enum Form: UInt8 {
        case needs, listed, mixed, full
    }

    let settings: PlanSettings
    let packets: UnsafeMutablePointer<PlannedPacket>
    let needs: UnsafeMutablePointer<Int>
    let scratch: UnsafeMutableRawPointer
    let groupList: UnsafeMutablePointer<UInt16>
    /// The buffers of the burst, piece by piece.
    var segments: SegmentList

    var form = Form.needs
    /// Packets that scan found, delivered or not.
    var packetCount = 0
    /// Packets before this one were planned: dropped, or given buffers.
    var plannedCount = 0
    /// Packets that split: by scan, or after a second plan.
    var splitCount = 0
    /// The burst wanted slots of a header queue that is broken.
    var metBrokenHeaderQueue = false
    /// A buffer was given back with length 0, since it could not hold a net header.
    var sawUndersized = false
    /// Small buffers skipped in this burst, and large ones that took headers.
    var skippedCount = 0
    var misfitCount = 0

    /// Undersized buffers since the last burst that placed anything: handed on from burst to burst.
    var undersizedStreak: Int

    @inline(__always)
    init(_ settings: PlanSettings, _ memory: PlanMemory, undersizedStreak: Int) {
        self.settings = settings
        packets = memory.packets
        needs = memory.needs
        scratch = memory.scratch
        groupList = memory.groupList
        segments = memory.segments
        self.undersizedStreak = undersizedStreak
    }

    @inline(__always) var burst: Int { settings.burst }
    @inline(__always) var netHeaderByteCount: Int { settings.netHeaderByteCount }

    /// All packets were taken as one run: packet i has the buffers and segments of number i.
    /// Meaningful after reserve.
    @inline(__always) var isUniform: Bool { form.rawValue <= Form.listed.rawValue }

    // MARK: What scan and reserve left unwritten

    /// Writes the first words of a burst of plain packets.
    @inline(never)
    mutating func list(_ refs: UnsafePointer<PacketRef>) {
        if form != .needs { return }
        list(0, packetCount, refs, from: 0)
        form = .listed
    }

    /// The same for `count` plain packets from number `first` on, of references from `firstRef` on.
    func list(_ first: Int, _ count: Int, _ refs: UnsafePointer<PacketRef>, from firstRef: Int) {
        for offset in 0..<count {
            let byteCount = refs[firstRef &+ offset].byteCount
            (packets + first + offset).initialize(
                to: PlannedPacket(
                    headerLength: plainHeaderLength(first &+ offset, byteCount),
                    outcome: byteCount <= settings.tinyLimit ? .tiny : .deliver,
                    firstRef: firstRef &+ offset, refCount: 1))
        }
    }

    /// Records where a run's packets go.
    @inline(__always)
    func noteRun(
        _ first: Int, _ count: Int, firstSegment: Int, firstUsed: Int
    ) {
        var offset = 0
        while offset < count {
            let packet = packets + (first &+ offset)
            packet.pointee.reserve(
                firstSegment: firstSegment &+ offset &* Method.partCount,
                firstUsed: firstUsed &+ offset &* Method.bufferCount,
                bufferCount: Method.bufferCount, isSimple: packet.pointee.refCount == 1)
            offset &+= 1
        }
    }

    /// Writes both words of the first `count` packets, if the burst is uniform.
    mutating func writeOut(_ refs: UnsafePointer<PacketRef>, count: Int) {
        list(refs)
        if !isUniform { return }
        noteRun(0, count, firstSegment: 0, firstUsed: 0)
        form = .full
    }

    /// Packet `index` with both words; its first one is written.
    @inline(__always)
    func planned(_ index: Int) -> PlannedPacket {
        var packet = packets[index]
        if isUniform {
            packet.reserve(
                firstSegment: index &* Method.partCount, firstUsed: index &* Method.bufferCount,
                bufferCount: Method.bufferCount, isSimple: true)
        }
        return packet
    }

    /// Checks what holds after each pass, in debug builds.
    @inline(__always)
    func checkInvariants(usedCount: Int) {
        #if DEBUG
        assert(packetCount <= burst && plannedCount <= packetCount)
        assert(splitCount >= 0 && splitCount <= packetCount)
        assert(segments.count <= segments.capacity)
        if form == .full {
            var nextUsed = 0
            for index in 0..<plannedCount where !packets[index].outcome.isDropped {
                let packet = packets[index]
                assert(packet.firstUsed >= nextUsed, "used entries ascend")
                assert(packet.firstSegment <= segments.count)
                nextUsed = packet.firstUsed + Int(packet.bufferCount)
            }
            assert(nextUsed <= usedCount)
        } else {
            assert(usedCount == 0 || plannedCount &* Method.bufferCount == usedCount)
        }
        #endif
    }
}

/// Runs a rare part of a pass on a copy. A local whose address is given to a call lives in memory
/// from its beginning on, in the fast loops as well; the copy takes its place.
@inline(__always)
func onCopy<Value>(_ value: inout Value, _ body: (inout Value) -> Void) {
    var copy = value
    body(&copy)
    value = copy
}
