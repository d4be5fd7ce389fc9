import CleaveHost
import CleaveRings

/// The device side of a packed transmit virtqueue.
struct PackedTxRing: TxRing {
    private let ring: UnsafeMutableRawPointer
    private let driverArea: UnsafeMutableRawPointer
    private let deviceArea: UnsafeMutableRawPointer
    private let size: Int
    private let allowsIndirect: Bool
    private var calls: CallRule
    private var regions: RegionCache
    /// Where the next list begins.
    private var cursor: PackedCursor
    /// Where the next used descriptor goes: the head of the list that was taken longest ago.
    private var usedCursor: PackedCursor
    /// Descriptors between the two.
    private var outCount = 0
    /// The first used descriptor since the last publish: stored last.
    private var first: (place: PackedCursor, rest: UInt64)
    private var usedCount = 0
    /// Descriptors of what the last publish made visible.
    private var publishedCount = 0
    private var walkedCount = 0
    private var unfinishedCount = 0
    private(set) var taken = TxChain(tag: 0)
    private(set) var fault = QueueFault.none

    /// How often a list may be found unfinished: never, if the driver publishes the head last.
    private static let maximumUnfinished = 1024

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        ring = areas.descriptorArea
        driverArea = areas.driverArea
        deviceArea = areas.deviceArea
        size = addresses.size
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        cursor = PackedCursor(base: addresses.base)
        usedCursor = cursor
        first = (cursor, 0)
        // The caller polls: kicks would be wasted.
        PackedEvent.request(areas.deviceArea, flags: PackedEvent.disable, at: cursor)
    }

    var base: UInt16 { cursor.base }

    @inline(__always)
    mutating func begin(_ count: Int) { walkedCount = 0 }

    @inline(__always)
    private func place(_ cursor: PackedCursor) -> UnsafeMutableRawPointer {
        ring + cursor.offset &* PackedLayout.descriptorByteCount
    }

    /// The second word of the next list's head.
    @inline(__always)
    private var head: UInt64 {
        // [V4 acquire <- the driver's release of the word: the address, and the rest of the list]
        SharedWord64(place(cursor) + PackedLayout.restOffset).loadAcquire()
    }

    @inline(__always)
    private func isAvailable(_ rest: UInt64) -> Bool {
        UInt16(truncatingIfNeeded: rest &>> 48) & PackedLayout.ownerFlags == cursor.availableFlags
    }

    @inline(__always)
    mutating func popRun<Kind: TxRunKind>(_ count: Int, _ run: inout TxRun, _ kind: Kind.Type) {
        // Up to the ring's end: one place after the other, all with the same flags.
        let limit = min(count, size &- cursor.offset, size &- outCount)
        let flags = UInt32(cursor.availableFlags) &<< 16
        let idLimit = UInt32(truncatingIfNeeded: size)
        var regions = regions
        var entry = place(cursor)
        var taken = 0
        while taken < limit {
            // [V4] XOR leaves only the id if the flags are those of a plain descriptor; any other
            // flags make the value at least 65536, which no id reaches.
            let rest = SharedWord64(entry + PackedLayout.restOffset).loadAcquire()
            let id = UInt32(truncatingIfNeeded: rest &>> 32) ^ flags
            let byteCount = UInt32(truncatingIfNeeded: rest)
            guard id < idLimit, byteCount >= run.least,
                let pointer = regions.translate(SharedWord64(entry).load(), byteCount, kind),
                run.add(
                    Segment(pointer: pointer, byteCount: byteCount),
                    tag: UInt16(truncatingIfNeeded: id), kind)
            else { break }
            entry += PackedLayout.descriptorByteCount
            taken &+= 1
        }
        self.regions = regions
        outCount &+= taken
        cursor.advance(by: taken, size: size)
    }

    @inline(__always)
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        let rest = head
        if outCount == size || !isAvailable(rest) { return .empty }
        let walked = DescriptorChain.walk(
            PackedLinks(ring: ring, count: size, cursor: cursor, left: size &- outCount),
            from: Descriptor(address: SharedWord64(place(cursor)).load(), packedRest: rest),
            need: need, into: segments, allowsIndirect: allowsIndirect, access: .readable,
            regions: regions, walkedCount: walkedCount)
        walkedCount &+= walked.visited
        if walked.fetch.isBroken { return broken(walked.fault) }
        if walked.fetch.isEmpty {
            unfinishedCount &+= 1
            return unfinishedCount < Self.maximumUnfinished ? .empty : broken(.unfinishedList)
        }
        if walked.fetch.isBuffer {
            // The list's last descriptor carries the id.
            if Int(walked.last.tag) >= size { return broken(.id) }
            unfinishedCount = 0
            segments.count = walked.segmentCount
            taken = TxChain(tag: walked.last.tag, listCount: walked.listCount)
            outCount &+= walked.listCount
            cursor.advance(by: walked.listCount, size: size)
        }
        return walked.fetch
    }

    @inline(__always)
    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }

    @inline(__always)
    mutating func addUsed(_ chain: TxChain) {
        let rest = UInt64(chain.tag) &<< 32 | UInt64(usedCursor.usedFlags) &<< 48
        if usedCount == 0 {
            first = (usedCursor, rest)
        } else {
            // A plain store: the driver reads none of these before the first.
            SharedWord64(place(usedCursor) + PackedLayout.restOffset).store(rest)
        }
        usedCount &+= chain.listCount
        outCount &-= chain.listCount
        usedCursor.advance(by: chain.listCount, size: size)
    }

    @inline(__always)
    mutating func addUsedRun(
        _ chains: UnsafePointer<TxChain>, mask: Int, first index: Int, _ count: Int
    ) -> Int {
        // Up to the ring's end, and never the first of a publish.
        if usedCount == 0 || count == 0 { return 0 }
        let limit = min(count, size &- usedCursor.offset)
        let flags = UInt64(usedCursor.usedFlags) &<< 48
        var rest = place(usedCursor) + PackedLayout.restOffset
        var done = 0
        while done < limit {
            let chain = chains[(index &+ done) & mask]
            if !chain.isPlain { break }
            SharedWord64(rest).store(UInt64(chain.tag) &<< 32 | flags)
            rest += PackedLayout.descriptorByteCount
            done &+= 1
        }
        usedCount &+= done
        outCount &-= done
        usedCursor.advance(by: done, size: size)
        return done
    }

    @inline(__always)
    mutating func publish() {
        publishedCount = usedCount
        if usedCount == 0 { return }
        calls.publish()
        usedCount = 0
        // [V5 release -> the driver's acquire of the first used descriptor: the others]
        // Sequential: `wantsCall` cannot read the driver's event before that [V3].
        SharedWord64(place(first.place) + PackedLayout.restOffset).storeSequential(first.rest)
    }

    func setKicks(enabled wanted: Bool) {
        PackedEvent.setKicks(enabled: wanted, deviceArea: deviceArea, ring: ring, at: cursor)
    }

    @inline(__always)
    func wantsCall() -> Bool {
        if publishedCount == 0 { return false }
        return PackedEvent.isWanted(
            driverArea, upTo: usedCursor, count: publishedCount, size: size,
            usesEventIndex: calls.trustsEventIndex)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        assert((0...size).contains(outCount) && (0...size).contains(usedCount))
        assert(cursor.moved(back: outCount, size: size) == usedCursor, "all between them is out")
        #endif
    }
}

extension PackedTxRing: ObservableTxRing {
    var publishedSpans: (RingSpan, RingSpan) {
        PackedLayout.spans(upTo: usedCursor, count: publishedCount, size: size)
    }
    var indexSpan: RingSpan { .none }
    var eventSpans: (RingSpan, RingSpan) { PackedLayout.eventSpans }
    var usedAreaByteCount: Int { PackedLayout.ringByteCount(size: size) }
    var hasUsed: Bool { usedCount > 0 }
    var places: PackedPlaces? {
        PackedPlaces(ring: ring, size: size, taken: cursor, used: usedCursor)
    }
}
