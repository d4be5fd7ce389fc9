import CleaveHost
import CleaveRings

/// The device side of an activated packed virtqueue (virtio 1.4, "Packed Virtqueues").
///
/// Lists are used in the order in which they are taken, so a list's used descriptor goes where its
/// head was, and between bursts there is one place in the ring for both. Everything the driver can
/// change is read once and checked here; used descriptors are never read back.
struct PackedVirtqueue: Virtqueue {
    private let ring: UnsafeMutableRawPointer
    private let driverArea: UnsafeMutableRawPointer
    private let deviceArea: UnsafeMutableRawPointer
    /// Used descriptors of this burst, `size` of them at most, ready to be copied: 0 in place of
    /// the address, which nobody reads; length 32 | id 16 | flags 16. Bits 48 on of the address
    /// hold how many descriptors the list has beyond one; masked out when copied.
    private let shadow: UnsafeMutablePointer<UInt64>
    let size: Int
    private let allowsIndirect: Bool
    private var calls: CallRule
    /// `takenCount` at the last publish: what the driver may want to be called for. A lap fits 16
    /// bits: with 64 the compiler spent 7 instructions more on each packet of method A.
    private var publishedCount: UInt16 = 0

    private var regions: RegionCache
    /// Where the next list begins.
    private var cursor: PackedCursor
    /// Descriptors of the lists taken in this burst: never more than `size`, whatever the driver
    /// makes available meanwhile.
    private var takenCount = 0
    /// Shadow words of the buffer taken last, without its length.
    private var taken: (list: UInt64, rest: UInt64) = (0, 0)
    private(set) var firstDescriptorByteCount = 0
    private(set) var usedCount = 0
    /// Descriptors walked one by one in this burst.
    private var walkedCount = 0
    private(set) var emptyCount = 0
    /// How often the list at `cursor` was found unfinished.
    private var unfinishedCount = 0
    var fault = QueueFault.none

    /// How often a list may be found unfinished: never, if the driver publishes the head last.
    private static let maximumUnfinished = 1024

    static var shadowEntryByteCount: Int { 16 + 1 }

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        shadow: UnsafeMutableRawPointer
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        ring = areas.descriptorArea
        driverArea = areas.driverArea
        self.shadow = shadow.assumingMemoryBound(to: UInt64.self)
        size = addresses.size
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        cursor = PackedCursor(base: addresses.base)
        // A worker polls: kicks would be wasted.
        deviceArea = areas.deviceArea
        PackedEvent.request(deviceArea, flags: PackedEvent.disable, at: cursor)
    }

    var isFresh: Bool { usedCount == 0 && walkedCount == 0 }

    // MARK: Taking buffers

    /// There is no index to read: descriptors themselves say whether they are available.
    @inline(__always)
    mutating func refresh(_ count: Int) {}

    /// Span by span: within one the wrap counter stays the same, so the loop need not check for the
    /// ring's end. A chain that runs over it is left to `pop`.
    @inline(__always)
    mutating func popRun<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, count: Int, into segments: inout SegmentList,
        _ buffer: Buffer.Type
    ) -> Int {
        let room = min(size &- takenCount, segments.capacity &- segments.count)
        let limit = min(count, room / Buffer.descriptorCount)
        var (taken, hasSwitched) = (0, false)
        while taken < limit {
            let span = min(limit &- taken, (size &- cursor.offset) / Buffer.descriptorCount)
            let found = popSpan(
                needs + taken &* Buffer.descriptorCount, count: span,
                into: segments.base + segments.count,
                buffer)
            let descriptors = found &* Buffer.descriptorCount
            segments.count &+= descriptors
            takenCount &+= descriptors
            usedCount &+= found
            cursor.advance(by: descriptors, size: size)
            taken &+= found
            if found < span || found == 0 {
                // Continues in the other region. An empty span after a switch ends the run, which
                // bounds it whatever the driver writes meanwhile.
                if found == 0 && hasSwitched || !switchRegion() { break }
                hasSwitched = true
            }
        }
        return taken
    }

    /// Whether the next buffer lies in the region before the last one, which is the last one now.
    @inline(__always)
    private mutating func switchRegion() -> Bool {
        let entry = ring + cursor.offset &* PackedLayout.descriptorByteCount
        return regions.switchRegion(to: SharedWord64(entry).load())
    }

    /// A loop of its own without a call in it, for the reason given at the split ring's.
    @inline(__always)
    private func popSpan<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, count: Int, into segments: UnsafeMutablePointer<Segment>,
        _ buffer: Buffer.Type
    ) -> Int {
        let region = regions.last
        let first = ring + cursor.offset &* PackedLayout.descriptorByteCount
        // Any other flags are left to `pop`.
        let single = UInt32(cursor.availableFlags | DescriptorFlags.write) &<< 16
        let linked = single | UInt32(DescriptorFlags.next) &<< 16
        let write = Buffer.namesSlot ? DescriptorFlags.write : 0
        let usedFlags = UInt64(cursor.usedFlags | write) &<< 48
        let (shadowOut, idLimit) = (shadow + 2 &* usedCount, UInt32(truncatingIfNeeded: size))
        var taken = 0
        while taken < count {
            var part = taken &* Buffer.descriptorCount
            var entry = first + part &* PackedLayout.descriptorByteCount
            // [V4 acquire <- the driver's release of the word: the address, and later lists]
            var rest = SharedWord64(entry + PackedLayout.restOffset).loadAcquire()
            var byteCount = needs[part]
            if Buffer.hasTwoDescriptors {
                guard (UInt32(truncatingIfNeeded: rest &>> 32) ^ linked) < 1 &<< 16,
                    let head = Self.segment(entry, rest, holding: byteCount, region)
                else { break }
                (segments + part).initialize(to: head)
                part &+= 1
                byteCount &+= needs[part]
                entry += PackedLayout.descriptorByteCount
                rest = SharedWord64(entry + PackedLayout.restOffset).load()
            }
            // XOR leaves only the id if the flags match; wrong flags leave more than any id.
            let id = UInt32(truncatingIfNeeded: rest &>> 32) ^ single
            guard id < idLimit, let last = Self.segment(entry, rest, holding: needs[part], region)
            else { break }
            (segments + part).initialize(to: last)
            shadowOut[2 &* taken] = UInt64(Buffer.descriptorCount &- 1) &<< 48
            shadowOut[2 &* taken &+ 1] =
                UInt64(id) &<< 32 | usedFlags
                | (Buffer.namesSlot
                    ? UInt64(UInt32(truncatingIfNeeded: byteCount))
                    : Self.lengthAndWrite(byteCount))
            taken &+= 1
        }
        return taken
    }

    /// The segment of the descriptor at `entry`, if it holds `need` bytes and the region holds it.
    @inline(__always)
    private static func segment(
        _ entry: UnsafeMutableRawPointer, _ rest: UInt64, holding need: Int, _ region: MemoryRegion
    ) -> Segment? {
        region.segment(SharedWord64(entry).load(), rest & 0xffff_ffff, holding: need)
    }

    @inline(__always)
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        if takenCount == size { return .empty }
        let entry = ring + cursor.offset &* PackedLayout.descriptorByteCount
        // [V4 acquire <- the driver's release of the word: the address, and the rest of the list]
        let rest = SharedWord64(entry + PackedLayout.restOffset).loadAcquire()
        let flags = UInt16(truncatingIfNeeded: rest &>> 48)
        if flags & PackedLayout.ownerFlags != cursor.availableFlags { return .empty }
        let descriptor = Descriptor(address: SharedWord64(entry).load(), packedRest: rest)
        if descriptor.isSingleWritable && !segments.isFull && Int(descriptor.tag) < size,
            let pointer = regions.translate(descriptor.address, descriptor.byteCount)
        {
            accept(id: descriptor.tag, listCount: 1)
            firstDescriptorByteCount = Int(descriptor.byteCount)
            segments.append(pointer, descriptor.byteCount)
            return BufferFetch(byteCount: Int(descriptor.byteCount))
        }
        let links = PackedLinks(ring: ring, count: size, cursor: cursor, left: size &- takenCount)
        let walked = DescriptorChain.walk(
            links, from: descriptor, need: need, into: segments, allowsIndirect: allowsIndirect,
            regions: regions, walkedCount: walkedCount)
        segments.count = walked.segmentCount
        walkedCount &+= walked.visited
        emptyCount &+= walked.emptyCount
        firstDescriptorByteCount = walked.firstDescriptorByteCount
        return judge(walked)
    }

    @inline(__always)
    private mutating func judge(_ walked: WalkedChain) -> BufferFetch {
        if walked.fetch.isBroken { return broken(walked.fault) }
        if walked.fetch.isEmpty {
            unfinishedCount &+= 1
            return unfinishedCount < Self.maximumUnfinished ? .empty : broken(.unfinishedList)
        }
        if walked.fetch.isBuffer {
            // The list's last descriptor carries the id.
            if Int(walked.last.tag) >= size { return broken(.id) }
            unfinishedCount = 0
            accept(id: walked.last.tag, listCount: walked.listCount)
        }
        return walked.fetch
    }

    @inline(__always)
    private mutating func accept(id: UInt16, listCount: Int) {
        taken.list = UInt64(truncatingIfNeeded: listCount &- 1) &<< 48
        taken.rest = UInt64(id) &<< 32 | UInt64(cursor.usedFlags) &<< 48
        takenCount &+= listCount
        cursor.advance(by: listCount, size: size)
    }

    @inline(__always)
    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }

    // MARK: Using buffers

    @inline(__always)
    mutating func addUsed(_ byteCount: Int) {
        shadow[2 &* usedCount] = taken.list
        shadow[2 &* usedCount &+ 1] = taken.rest | Self.lengthAndWrite(byteCount)
        usedCount &+= 1
    }

    mutating func keepEmptyLength() {
        shadow[2 &* usedCount &- 1] |= UInt64(DescriptorFlags.write) &<< 48
    }

    @inline(__always) func head(ofUsed index: Int) -> Int {
        Int(UInt16(truncatingIfNeeded: shadow[2 &* index &+ 1] &>> 32))
    }
    var headMarks: UnsafeMutablePointer<UInt8> {
        UnsafeMutableRawPointer(shadow + 2 &* size).assumingMemoryBound(to: UInt8.self)
    }

    /// Length, and WRITE if there are bytes.
    @inline(__always)
    private static func lengthAndWrite(_ byteCount: Int) -> UInt64 {
        // Bit 32 of the sum is set by any count but 0, and bit 33 by none: lengths have 32 bits.
        let any = UInt64(truncatingIfNeeded: byteCount) &+ 0xffff_ffff
        return UInt64(UInt32(truncatingIfNeeded: byteCount))
            | (any &>> 32) &* (UInt64(DescriptorFlags.write) &<< 48)
    }

    struct SlotReport: UsedSlotReport {
        fileprivate let shadow: UnsafeMutablePointer<UInt64>

        /// The upper half of the length is 0, so a store does.
        @inline(__always)
        func attach(slot: UInt32, toUsed index: Int) {
            assert(slot < 0x8000 && UInt32(truncatingIfNeeded: shadow[2 &* index &+ 1]) >> 16 == 0)
            // Without WRITE virtio gives the length no meaning.
            assert(shadow[2 &* index &+ 1] &>> 48 & UInt64(DescriptorFlags.write) != 0)
            UnsafeMutableRawPointer(shadow).storeBytes(
                of: UsedLength.upperHalf(slot: slot), toByteOffset: index &* 16 &+ 10,
                as: UInt16.self)
        }
    }

    @inline(__always) var slotReport: SlotReport { SlotReport(shadow: shadow) }

    @inline(__always)
    mutating func rewind(toUsed count: Int) {
        var descriptors = 0
        while usedCount > count {
            usedCount &-= 1
            descriptors &+= Self.listCount(shadow[2 &* usedCount])
        }
        takenCount &-= descriptors
        cursor = cursor.moved(back: descriptors, size: size)
    }

    @inline(__always)
    private static func listCount(_ entry: UInt64) -> Int { Int(entry &>> 48) &+ 1 }

    // MARK: Publishing

    @inline(__always)
    mutating func publish() {
        publishedCount = UInt16(truncatingIfNeeded: takenCount)
        walkedCount = 0
        emptyCount = 0
        if usedCount == 0 { return }
        calls.publish()
        let first = cursor.moved(back: takenCount, size: size)
        // Plain stores: the driver reads none of these before the first.
        if takenCount == usedCount {
            Self.copySingles(shadow, usedCount, to: ring, from: first, size)
        } else {
            Self.copyLists(shadow, usedCount, to: ring, from: first, size)
        }
        usedCount = 0
        takenCount = 0
        let entry = ring + first.offset &* PackedLayout.descriptorByteCount
        SharedWord64(entry).store(shadow[0] & Self.addressMask)
        // [V5 release -> the driver's acquire of the first used descriptor: the others, buffers and
        // header slots] Sequential: `wantsCall` cannot read the driver's event before that [V3].
        SharedWord64(entry + PackedLayout.restOffset).storeSequential(shadow[1])
    }

    private static var addressMask: UInt64 { 0xffff_ffff_ffff }

    /// Writes all used descriptors but the first, each list being one descriptor: in two spans at
    /// the ring's end.
    @inline(__always)
    private static func copySingles(
        _ shadow: UnsafePointer<UInt64>, _ count: Int, to ring: UnsafeMutableRawPointer,
        from first: PackedCursor, _ size: Int
    ) {
        let each = PackedLayout.descriptorByteCount
        let untilEnd = min(count, size &- first.offset)
        (ring + (first.offset &+ 1) &* each).copyMemory(
            from: shadow + 2, byteCount: (untilEnd &- 1) &* each)
        if untilEnd < count {
            ring.copyMemory(
                from: shadow + 2 &* untilEnd, byteCount: (count &- untilEnd) &* each)
        }
    }

    /// The same for lists of any length.
    @inline(never)
    private static func copyLists(
        _ shadow: UnsafePointer<UInt64>, _ count: Int, to ring: UnsafeMutableRawPointer,
        from first: PackedCursor, _ size: Int
    ) {
        var place = first
        var index = 1
        while index < count {
            place.advance(by: listCount(shadow[2 &* index &- 2]), size: size)
            let entry = ring + place.offset &* PackedLayout.descriptorByteCount
            SharedWord64(entry).store(shadow[2 &* index] & addressMask)
            SharedWord64(entry + PackedLayout.restOffset).store(shadow[2 &* index &+ 1])
            index &+= 1
        }
    }

    func setKicks(enabled wanted: Bool) {
        PackedEvent.setKicks(enabled: wanted, deviceArea: deviceArea, ring: ring, at: cursor)
    }

    @inline(__always)
    func wantsCall() -> Bool {
        if publishedCount == 0 { return false }
        return PackedEvent.isWanted(
            driverArea, upTo: cursor, count: Int(publishedCount), size: size,
            usesEventIndex: calls.trustsEventIndex)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        assert(usedCount >= 0 && takenCount <= size && (0..<size).contains(cursor.offset))
        var descriptors = 0
        for index in 0..<usedCount {
            descriptors += Self.listCount(shadow[2 * index])
            assert(head(ofUsed: index) < size, "a used descriptor names a buffer")
        }
        assert(descriptors == takenCount, "a used descriptor for each list taken")
        #endif
    }

    // MARK: Observation (control path)

    /// Offset in the lower 15 bits, wrap counter above them.
    var base: UInt16 { cursor.base }
}

extension PackedVirtqueue: ObservableVirtqueue {
    var publishedSpans: (RingSpan, RingSpan) {
        PackedLayout.spans(upTo: cursor, count: Int(publishedCount), size: size)
    }
    var indexSpan: RingSpan { .none }
    var eventSpans: (RingSpan, RingSpan) { PackedLayout.eventSpans }
    var usedAreaByteCount: Int { PackedLayout.ringByteCount(size: size) }

    func beginPublish(_ writer: InFlightWriter) {
        let first = cursor.moved(back: takenCount, size: size)
        var place = first
        for index in 0..<usedCount {
            let count = Self.listCount(shadow[2 &* index])
            writer.take(ring, at: place.offset, count)
            place.advance(by: count, size: size)
        }
        place = first
        for index in 0..<usedCount {
            let count = Self.listCount(shadow[2 &* index])
            writer.use(place.offset, count)
            place.advance(by: count, size: size)
        }
        writer.begin(cursor)
    }
}
