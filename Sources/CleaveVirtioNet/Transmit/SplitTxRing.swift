import CleaveHost
import CleaveRings

/// The device side of a split transmit virtqueue.
struct SplitTxRing: TxRing {
    private let descriptors: UnsafeMutableRawPointer
    private let availRing: UnsafeMutableRawPointer
    private let usedRing: UnsafeMutableRawPointer
    private let mask: UInt16
    private let allowsIndirect: Bool
    private var calls: CallRule
    private var regions: RegionCache
    private var nextAvail: UInt16
    /// `avail.idx` as last read: nextAvail <= availIndex <= nextUsed + size, modulo 2^16.
    private var availIndex: UInt16
    private var nextUsed: UInt16
    private var publishedFrom: UInt16
    private var publishedTo: UInt16
    private var walkedCount = 0
    private(set) var taken = TxChain(tag: 0)
    private(set) var fault = QueueFault.none

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        descriptors = areas.descriptorArea
        availRing = areas.driverArea
        usedRing = areas.deviceArea
        mask = UInt16(truncatingIfNeeded: addresses.size - 1)
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        nextAvail = addresses.base
        availIndex = addresses.base
        nextUsed = addresses.base
        publishedFrom = addresses.base
        publishedTo = addresses.base
        // The caller polls: kicks would be wasted.
        SharedWord16(usedRing + SplitLayout.flagsOffset).store(usedNoNotify)
    }

    var base: UInt16 { nextAvail }
    @inline(__always) private var size: Int { Int(mask) &+ 1 }

    @inline(__always)
    mutating func begin(_ count: Int) {
        walkedCount = 0
        if Int(availIndex &- nextAvail) < count { refreshAvailIndex() }
    }

    @inline(__always)
    private mutating func refreshAvailIndex() {
        // [V1 acquire <- the driver's release of avail.idx: ring entries and descriptors below it]
        let index = SharedWord16(availRing + SplitLayout.indexOffset).loadAcquire()
        // Chains that are out count as well: they are not the driver's to post again.
        if Int(index &- nextUsed) > size || Int(index &- nextUsed) < Int(nextAvail &- nextUsed) {
            fault = .availJump
        } else {
            availIndex = index
        }
    }

    @inline(__always)
    mutating func popRun<Kind: TxRunKind>(_ count: Int, _ run: inout TxRun, _ kind: Kind.Type) {
        // Local copies: stores through other pointers cannot change them.
        let (descriptors, entries, mask) = (
            descriptors, availRing + SplitLayout.entriesOffset, mask
        )
        let start = nextAvail
        let limit = min(count, Int(availIndex &- start))
        var regions = regions
        var taken = 0
        while taken < limit {
            let index = Int((start &+ UInt16(truncatingIfNeeded: taken)) & mask)
            let head = SharedWord16(entries + 2 &* index).load()
            if head > mask { break }
            let descriptor = Descriptor(readingOnce: descriptors + Int(head) &* 16)
            guard descriptor.isSingleReadable, descriptor.byteCount >= run.least,
                let pointer = regions.translate(descriptor.address, descriptor.byteCount, kind),
                run.add(
                    Segment(pointer: pointer, byteCount: descriptor.byteCount), tag: head, kind)
            else { break }
            taken &+= 1
        }
        self.regions = regions
        nextAvail = start &+ UInt16(truncatingIfNeeded: taken)
    }

    @inline(__always) private var nextHead: UInt16 {
        let entry = SplitLayout.entriesOffset &+ 2 &* Int(nextAvail & mask)
        return SharedWord16(availRing + entry).load()
    }

    @inline(__always)
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        if nextAvail == availIndex {
            // Dropped chains took some of those that `begin` knew of.
            refreshAvailIndex()
            if nextAvail == availIndex { return fault == .none ? .empty : .broken }
        }
        let head = nextHead
        if head > mask { return broken(.head) }
        let walked = DescriptorChain.walk(
            SplitLinks(table: descriptors, count: size),
            from: Descriptor(readingOnce: descriptors + Int(head) &* 16), need: need,
            into: segments, allowsIndirect: allowsIndirect, access: .readable, regions: regions,
            walkedCount: walkedCount)
        walkedCount &+= walked.visited
        if walked.fetch.isBroken { return broken(walked.fault) }
        if walked.fetch.isBuffer {
            segments.count = walked.segmentCount
            nextAvail = nextAvail &+ 1
            taken = TxChain(tag: head)
        }
        return walked.fetch
    }

    @inline(__always)
    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }

    @inline(__always)
    mutating func addUsedRun(
        _ chains: UnsafePointer<TxChain>, mask: Int, first: Int, _ count: Int
    ) -> Int {
        var done = 0
        while done < count {
            let chain = chains[(first &+ done) & mask]
            if !chain.isPlain { break }
            addUsed(chain)
            done &+= 1
        }
        return done
    }

    @inline(__always)
    mutating func addUsed(_ chain: TxChain) {
        // {le32 id, le32 len 0}, on a 4-byte boundary.
        (usedRing + SplitLayout.entriesOffset
            + Int(nextUsed & mask) &* SplitLayout.usedElementByteCount)
            .storeBytes(of: UInt64(chain.tag), as: UInt64.self)
        nextUsed = nextUsed &+ 1
    }

    @inline(__always)
    mutating func publish() {
        publishedFrom = publishedTo
        publishedTo = nextUsed
        if publishedFrom == publishedTo { return }
        calls.publish()
        // [V2 release -> the driver's acquire of used.idx: entries; the buffers are its own again]
        // Sequential: `wantsCall` cannot read the driver's word before this is visible [V3].
        SharedWord16(usedRing + SplitLayout.indexOffset).storeSequential(nextUsed)
    }

    func setKicks(enabled wanted: Bool) {
        SplitEvent.setKicks(
            enabled: wanted, usedRing: usedRing, availRing: availRing, at: availIndex, size: size)
    }

    @inline(__always)
    func wantsCall() -> Bool {
        SplitEvent.isWanted(
            availRing, upTo: publishedTo, count: Int(publishedTo &- publishedFrom), size: size,
            calls)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        let out = Int(nextAvail &- nextUsed)
        assert(out + Int(availIndex &- nextAvail) <= size, "chains are out, or to be taken")
        assert(Int(publishedTo &- publishedFrom) <= size)
        #endif
    }
}

extension SplitTxRing: ObservableTxRing {
    var publishedSpans: (RingSpan, RingSpan) {
        SplitLayout.usedSpans(from: publishedFrom, to: publishedTo, size: size)
    }
    var indexSpan: RingSpan { SplitLayout.usedIndexSpan }
    var eventSpans: (RingSpan, RingSpan) { SplitLayout.eventSpans(size: size) }
    var usedAreaByteCount: Int { SplitLayout.usedRingByteCount(size: size) }
    var hasUsed: Bool { publishedTo != nextUsed }
}
