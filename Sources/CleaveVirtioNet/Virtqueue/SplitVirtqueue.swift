import CleaveHost
import CleaveRings

/// The device side of an activated split virtqueue.
///
/// Pointers and size were checked at activation and never change; everything the driver can
/// change is read once and checked here. The used ring is never read back.
struct SplitVirtqueue: Virtqueue {
    private let descriptors: UnsafeMutableRawPointer
    private let availRing: UnsafeMutableRawPointer
    private let usedRing: UnsafeMutableRawPointer
    /// Used entries of this burst, {le32 id, le32 len} each, `size` of them at most.
    private let shadow: UnsafeMutablePointer<UInt64>
    private let mask: UInt16
    private let allowsIndirect: Bool
    private var calls: CallRule

    private var regions: RegionCache
    private var nextAvail: UInt16
    /// `avail.idx` as last read: nextAvail <= availIndex <= nextAvail + size, modulo 2^16.
    private var availIndex: UInt16
    private var nextUsed: UInt16
    /// `nextUsed` before the last publish, for the event-index rule.
    private var publishedFrom: UInt16
    /// The head of the buffer taken last.
    private var head: UInt16 = 0
    private(set) var firstDescriptorByteCount = 0
    private(set) var usedCount = 0
    /// Descriptors walked one by one in this burst.
    private var walkedCount = 0
    private(set) var emptyCount = 0
    var fault = QueueFault.none

    static var shadowEntryByteCount: Int { 8 + 1 }

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        shadow: UnsafeMutableRawPointer
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        descriptors = areas.descriptorArea
        availRing = areas.driverArea
        usedRing = areas.deviceArea
        self.shadow = shadow.assumingMemoryBound(to: UInt64.self)
        mask = UInt16(truncatingIfNeeded: addresses.size - 1)
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        nextAvail = addresses.base
        availIndex = addresses.base
        nextUsed = addresses.base
        publishedFrom = addresses.base
        // A worker polls: kicks would be wasted.
        SharedWord16(usedRing + SplitLayout.flagsOffset).store(usedNoNotify)
    }

    var isFresh: Bool { usedCount == 0 && walkedCount == 0 }
    @inline(__always) var size: Int { Int(mask) &+ 1 }

    // MARK: Taking buffers

    @inline(__always)
    mutating func refresh(_ count: Int) {
        if Int(availIndex &- nextAvail) >= count { return }
        refreshAvailIndex()
    }

    /// Reads `avail.idx`. Posted buffers and those used in this burst are together at most `size`.
    @inline(__always)
    private mutating func refreshAvailIndex() {
        // [V1 acquire <- the driver's release of avail.idx: ring entries and descriptors below it]
        let index = SharedWord16(availRing + SplitLayout.indexOffset).loadAcquire()
        if Int(index &- nextAvail) &+ usedCount > size {
            availIndex = nextAvail
            fault = .availJump
        } else {
            availIndex = index
        }
    }

    @inline(__always)
    mutating func popRun<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, count: Int, into segments: inout SegmentList,
        _ buffer: Buffer.Type
    ) -> Int {
        let known = min(count, Int(availIndex &- nextAvail))
        let limit = min(known, (segments.capacity &- segments.count) / Buffer.descriptorCount)
        var (taken, hasSwitched) = (0, false)
        while true {
            let found = popSpan(
                needs + taken &* Buffer.descriptorCount, limit: limit &- taken,
                into: segments.base + segments.count, buffer)
            nextAvail = nextAvail &+ UInt16(truncatingIfNeeded: found)
            usedCount &+= found
            segments.count &+= found &* Buffer.descriptorCount
            taken &+= found
            // Continues in the other region. An empty span after a switch ends the run, which
            // bounds it whatever the driver writes meanwhile.
            if taken == limit || found == 0 && hasSwitched || !switchRegion() { return taken }
            hasSwitched = true
        }
    }

    /// Whether the next buffer lies in the region before the last one, which is the last one now.
    @inline(__always)
    private mutating func switchRegion() -> Bool {
        let head = nextHead
        if head > mask { return false }
        return regions.switchRegion(to: SharedWord64(descriptors + Int(head) &* 16).load())
    }

    @inline(__always) private var nextHead: UInt16 {
        let entry = SplitLayout.entriesOffset &+ 2 &* Int(nextAvail & mask)
        return SharedWord16(availRing + entry).load()
    }

    /// Buffers in a row, all in the last region.
    ///
    /// A loop of its own without a call in it: among the rare cases of `pop` the compiler keeps
    /// the cursors in memory, which cost 9 cycles per packet.
    @inline(__always)
    private func popSpan<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, limit: Int, into segmentsOut: UnsafeMutablePointer<Segment>,
        _ buffer: Buffer.Type
    ) -> Int {
        let region = regions.last
        let shadowOut = shadow + usedCount
        var taken = 0
        while taken < limit {
            let index = Int((nextAvail &+ UInt16(truncatingIfNeeded: taken)) & mask)
            let entry = SplitLayout.entriesOffset &+ 2 &* index
            let head = SharedWord16(availRing + entry).load()
            if head > mask { break }
            var descriptor = Descriptor(readingOnce: descriptors + Int(head) &* 16)
            var part = taken &* Buffer.descriptorCount
            var byteCount = needs[part]
            if Buffer.hasTwoDescriptors {
                guard descriptor.isLinkedWritable, descriptor.tag <= mask,
                    let first = region.segment(descriptor, holding: byteCount)
                else { break }
                (segmentsOut + part).initialize(to: first)
                descriptor = Descriptor(readingOnce: descriptors + Int(descriptor.tag) &* 16)
                part &+= 1
                byteCount &+= needs[part]
            }
            guard descriptor.isSingleWritable,
                let last = region.segment(descriptor, holding: needs[part])
            else { break }
            (segmentsOut + part).initialize(to: last)
            shadowOut[taken] = UInt64(head) | UInt64(truncatingIfNeeded: byteCount) &<< 32
            taken &+= 1
        }
        return taken
    }

    @inline(__always)
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        if nextAvail == availIndex {
            // A packet over several buffers needs more than `refresh` was asked for.
            refreshAvailIndex()
            if nextAvail == availIndex { return fault == .none ? .empty : .broken }
        }
        head = nextHead
        if head > mask { return broken(.head) }
        let descriptor = Descriptor(readingOnce: descriptors + Int(head) &* 16)
        if descriptor.isSingleWritable && !segments.isFull,
            let pointer = regions.translate(descriptor.address, descriptor.byteCount)
        {
            nextAvail = nextAvail &+ 1
            firstDescriptorByteCount = Int(descriptor.byteCount)
            segments.append(pointer, descriptor.byteCount)
            return BufferFetch(byteCount: Int(descriptor.byteCount))
        }
        let walked = DescriptorChain.walk(
            SplitLinks(table: descriptors, count: size), from: descriptor, need: need,
            into: segments, allowsIndirect: allowsIndirect, regions: regions,
            walkedCount: walkedCount)
        segments.count = walked.segmentCount
        walkedCount &+= walked.visited
        firstDescriptorByteCount = walked.firstDescriptorByteCount
        emptyCount &+= walked.emptyCount
        if walked.fetch.isBroken { return broken(walked.fault) }
        if walked.fetch.isBuffer { nextAvail = nextAvail &+ 1 }
        return walked.fetch
    }

    @inline(__always)
    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }

    // MARK: Using buffers

    @inline(__always)
    mutating func addUsed(_ byteCount: Int) {
        // At most `size` buffers can be taken between two publishes, so `shadow` has the room.
        shadow[usedCount] =
            UInt64(head) | UInt64(UInt32(truncatingIfNeeded: byteCount)) &<< 32
        usedCount &+= 1
    }

    /// A split ring's lengths always count.
    @inline(__always) mutating func keepEmptyLength() {}

    @inline(__always) func head(ofUsed index: Int) -> Int {
        Int(truncatingIfNeeded: shadow[index]) & 0x7fff
    }
    var headMarks: UnsafeMutablePointer<UInt8> {
        UnsafeMutableRawPointer(shadow + size).assumingMemoryBound(to: UInt8.self)
    }

    struct SlotReport: UsedSlotReport {
        fileprivate let shadow: UnsafeMutablePointer<UInt64>

        /// The upper half of the length is 0, so a store does.
        @inline(__always)
        func attach(slot: UInt32, toUsed index: Int) {
            assert(slot < 0x8000 && shadow[index] &>> 48 == 0)
            UnsafeMutableRawPointer(shadow).storeBytes(
                of: UsedLength.upperHalf(slot: slot), toByteOffset: index &* 8 &+ 6,
                as: UInt16.self)
        }
    }

    @inline(__always) var slotReport: SlotReport { SlotReport(shadow: shadow) }

    @inline(__always)
    mutating func rewind(toUsed count: Int) {
        // One available entry per used entry.
        nextAvail = nextAvail &- UInt16(truncatingIfNeeded: usedCount &- count)
        usedCount = count
    }

    // MARK: Publishing

    @inline(__always)
    mutating func publish() {
        publishedFrom = nextUsed
        walkedCount = 0
        emptyCount = 0
        if usedCount == 0 { return }
        calls.publish()
        let entries = (usedRing + SplitLayout.entriesOffset)
        let start = Int(nextUsed & mask)
        let untilEnd = size &- start
        let first = usedCount < untilEnd ? usedCount : untilEnd
        // Entries are 8 bytes on a 4-byte boundary: copied as bytes, in two spans at the wrap.
        (entries + start &* 8).copyMemory(from: shadow, byteCount: first &* 8)
        if first < usedCount {
            entries.copyMemory(from: shadow + first, byteCount: (usedCount &- first) &* 8)
        }
        nextUsed = nextUsed &+ UInt16(truncatingIfNeeded: usedCount)
        usedCount = 0
        // [V2 release -> the driver's acquire of used.idx: entries, buffers and header slots]
        // Sequential: `wantsCall` cannot read the driver's word before this is visible [V3].
        SharedWord16(usedRing + SplitLayout.indexOffset).storeSequential(nextUsed)
    }

    @inline(__always)
    func wantsCall() -> Bool {
        SplitEvent.isWanted(
            availRing, upTo: nextUsed, count: Int(nextUsed &- publishedFrom), size: size, calls)
    }

    func setKicks(enabled wanted: Bool) {
        SplitEvent.setKicks(
            enabled: wanted, usedRing: usedRing, availRing: availRing, at: availIndex, size: size)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        assert(usedCount >= 0 && usedCount + Int(availIndex &- nextAvail) <= size)
        assert(nextAvail &- nextUsed == usedCount, "an available entry for each used one")
        for index in 0..<usedCount {
            assert(UInt32(truncatingIfNeeded: shadow[index]) <= mask, "a used entry names a head")
        }
        #endif
    }

    // MARK: Observation (control path)

    /// The next available entry to take: what a stopped queue reports as its base.
    var base: UInt16 { nextAvail }
}

extension SplitVirtqueue: ObservableVirtqueue {
    var publishedSpans: (RingSpan, RingSpan) {
        SplitLayout.usedSpans(from: publishedFrom, to: nextUsed, size: size)
    }
    var indexSpan: RingSpan { SplitLayout.usedIndexSpan }
    var eventSpans: (RingSpan, RingSpan) { SplitLayout.eventSpans(size: size) }
    var usedAreaByteCount: Int { SplitLayout.usedRingByteCount(size: size) }
    /// The ring itself tells what is in flight.
    func beginPublish(_ writer: InFlightWriter) {}
}
