import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// The driver's half of a header queue: gives slots to the device by moving the tail.
///
/// Slots come back from consumers in any order, since the RQs that share the queue are harvested
/// independently, but a tail can only say "all below". So slots are cut into groups of `groupSize`;
/// each group has a word with a bit per slot, and one bit more, `passed`: the tail has reached this
/// group. Retiring sets bits. The thread that completes a word (all slots and `passed`) is the one
/// mover: it resets the word, moves the tail past the group, and sets `passed` in the next word,
/// which it may complete by that too. So there is one mover at a time and the tail never goes back.
///
/// With a return ring that the RQs share none of this is needed: retiring a burst reserves as many
/// ring entries by one operation, and writes the slots there. With a ring for each RQ slots come
/// back in groups, and the thread that completes a group's word posts the group.
///
/// Any number of threads may retire at the same time, but a slot must not be retired twice.
public final class DriverHeaderQueue: @unchecked Sendable {
    // SAFETY: constants, and words reached through explicit orderings.

    public let layout: HeaderQueueLayout
    /// Slots by which the tail moves.
    public let groupSize: Int

    /// As in `layout`, where it is worked out.
    private let slotReturn: SlotReturn
    private let space: GuestSpace
    private let slots: UnsafeMutableRawPointer
    private let tail: SharedWord32
    /// Written by the device.
    private let status: SharedWord32
    private let reset: SharedWord32
    private let words: UnsafeMutableRawPointer
    private let groupCount: Int
    private let full: UInt64
    private let doubleRetires: SharedWord64
    /// The first entry of the first return ring, if slots come back by rings; and how many entries
    /// of each were reserved, words on lines of their own.
    private let entries: UnsafeMutableRawPointer?
    private let tickets: UnsafeMutableRawPointer

    /// Most slots of a group.
    package static let maximumGroupSize = 32
    private static let passed: UInt64 = 1 << 32
    private static let wordStride = 64

    /// Lays a header queue over guest memory and gives all its slots to the device.
    /// - Parameters:
    ///   - slotSize: bytes, a power of two, 64 to 1024.
    ///   - slotCount: a power of two, 1 to 32768.
    ///   - slotReturn: how slots go back.
    ///   - rqCount: RQs that use the queue, each with a return ring of its own if slots go back in
    ///     groups: `RxDriverConfiguration.returnRing`. 1 to 128.
    ///   - groupSize: slots in a group, a power of two, 1 to 32; nil for a size of which each RQ
    ///     gets some, or how the tail moves. Only if slots go back in groups.
    ///   - space: the guest's memory, of which it takes what it needs.
    public init(
        slotSize: Int, slotCount: Int, slotReturn: SlotReturn = .tail, rqCount: Int = 1,
        groupSize: Int? = nil, in space: GuestSpace
    ) throws(SetupError) {
        try HeaderQueueLayout.check(slotSize: slotSize, slotCount: slotCount)
        let area = try space.allocate(byteCount: slotSize * slotCount)
        let control = try space.allocate(byteCount: HeaderQueueLayout.controlByteCount)
        var layout = HeaderQueueLayout(
            base: area.address, control: control.address, slotSize: slotSize, slotCount: slotCount)
        switch slotReturn {
        case .tail: self.groupSize = min(Self.maximumGroupSize, max(1, slotCount / 4))
        case .ring: self.groupSize = 1
        case .groups:
            let size =
                groupSize
                ?? min(
                    Self.maximumGroupSize, max(1, slotCount / (8 * max(1, rqCount))).powerOfTwo)
            guard (1...32).contains(size) else {
                throw SetupError("a group of \(size) header slots is not one of 1 to 32")
            }
            self.groupSize = size
            layout.groupRingCount = rqCount
            layout.groupSize = size
        }
        try layout.checkGroups()
        if slotReturn == .tail {
            entries = nil
        } else {
            let rings = try space.allocate(byteCount: layout.returnByteCount)
            layout.returnRing = rings.address
            entries = rings.pointer + layout.firstEntryOffset
        }
        self.layout = layout
        self.slotReturn = slotReturn
        self.space = space
        slots = area.pointer
        groupCount = slotCount / self.groupSize
        full = (UInt64(1) << UInt64(self.groupSize) - 1) | (slotReturn == .tail ? Self.passed : 0)
        let byteCount = (groupCount + 1 + layout.returnRingCount) * Self.wordStride
        words = .allocate(byteCount: byteCount, alignment: Self.wordStride)
        words.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        doubleRetires = SharedWord64(words + groupCount * Self.wordStride)
        tickets = words + (groupCount + 1) * Self.wordStride
        tail = SharedWord32(control.pointer + HeaderQueueLayout.tailOffset)
        status = SharedWord32(control.pointer + HeaderQueueLayout.statusOffset)
        reset = SharedWord32(control.pointer + HeaderQueueLayout.resetOffset)
        tail.store(0)
        giveAll()
    }

    deinit { words.deallocate() }

    /// Call before the device is asked to reset the queue, with nobody retiring; nobody may until
    /// `finishReset`.
    public func prepareReset() {
        if entries != nil {
            for ring in 0..<layout.returnRingCount {
                for place in 0..<groupsOfRing { entry(ring, place).store(0) }
            }
            return
        }
        // The tail stays, as RQs run until they are paused. If something else moved it into a
        // group, it goes back to a group's start, so far that it gives no slot.
        let start = tail.load()
        let excess = start & UInt32(groupSize &- 1)
        if excess != 0 { tail.storeRelease(start &- excess &- UInt32(layout.slotCount)) }  // [H1]
    }

    /// Call after the device has reset the queue: gives all slots again. The caller has harvested
    /// what was reported before the reset, is done with those slots, and retires none of them
    /// (`RxDriver.forgetSlots`).
    public func finishReset() {
        reset.store(0)
        giveAll()
    }

    // MARK: A device at the other end of a virtqueue or socket

    /// Call before the device is asked to set the queue up: `isWorking` then says when it has.
    public func expectSetUp() { status.store(HeaderQueueStatus.pending) }

    /// Whether the device uses the queue: RQs are linked to it and nothing is broken. After a reset
    /// that was asked for, that it is done.
    public var isWorking: Bool {
        status.loadAcquire() == HeaderQueueStatus.working  // [H8]
    }

    /// Whether the device stopped using the queue, as it does when its rings stop.
    public var isStopped: Bool { status.load() == HeaderQueueStatus.stopped }

    /// Asks the device to reset the queue, which it found broken; call `prepareReset` before. When
    /// it `isWorking` again, call `finishReset`.
    public func requestReset() { reset.storeRelease(1) }  // [H9]

    /// Gives all slots to the device, whose head equals the tail here.
    private func giveAll() {
        if entries != nil {
            for ring in 0..<layout.returnRingCount { reserved(ring).store(0) }
            for group in 0..<groupCount {
                word(group).store(0)
                // As many for each RQ.
                let ring = group * layout.returnRingCount / groupCount
                var place = takePositions(1, ring)
                post(first: group, count: 1, at: &place, ring)
            }
            return
        }
        let start = tail.load()
        let oldest = (Int(start) & (layout.slotCount &- 1)) / groupSize
        for group in 0..<groupCount {
            word(group).store(group == oldest ? Self.passed : 0)
        }
        tail.storeRelease(start &+ UInt32(layout.slotCount))  // [H1]
        checkInvariants()
    }

    /// What holds while nobody retires: the tail is at the start of a group, that group alone has
    /// `passed`, and no word is complete. In debug builds; by return rings a word is not complete.
    func checkInvariants() {
        #if DEBUG && !ModelCheck
        if entries != nil {
            for group in 0..<groupCount { assert(word(group).load() & ~full == 0) }
            return
        }
        let position = Int(tail.load()) & (layout.slotCount &- 1)
        assert(position % groupSize == 0, "the tail is inside a group")
        for group in 0..<groupCount {
            let word = word(group).load()
            assert(word != full && (word & Self.passed != 0) == (group == position / groupSize))
        }
        #endif
    }

    /// What holds while other threads retire: the mover's group is complete, and no other group has
    /// `passed`. In debug builds, as long as no slot was retired twice: two threads may complete a
    /// word then.
    @inline(__always)
    private func checkMover(of mine: Int) {
        #if DEBUG && !ModelCheck
        if doubleRetires.load() > 0 { return }
        for group in 0..<groupCount {
            let word = SharedWord64(words + group * Self.wordStride).load()
            assert(group == mine ? word == full : word & Self.passed == 0, "one group has `passed`")
            assert(word & ~full == 0, "a group has bits of its slots alone")
        }
        #endif
    }

    /// The memory of slot `index`, below slotCount.
    @inline(__always)
    func pointer(_ index: Int) -> UnsafeRawPointer {
        UnsafeRawPointer(slots + index &* layout.slotSize)
    }

    /// Gives `count` slots from `first` on (modulo slotCount) back to the device. The caller is
    /// done reading them.
    ///
    /// At most two read-modify-writes for a burst of up to `groupSize` slots in order.
    /// - Parameters:
    ///   - first: index of the first, below `slotCount`.
    ///   - count: how many, 0 to `slotCount`.
    ///   - ring: the return ring of the RQ that reported them, if each RQ has one.
    public func retire(first: Int, count: Int, ring: Int = 0) {
        assert((0..<layout.slotCount).contains(first) && (0...layout.slotCount).contains(count))
        switch slotReturn {
        case .tail: retireByTail(first: first, count: count)
        case .ring:
            var place = takePositions(count, 0)
            post(first: first, count: count, at: &place, 0)
        case .groups: retireInGroups(first: first, count: count, ring)
        }
    }

    private func retireInGroups(first: Int, count: Int, _ ring: Int) {
        var slot = first
        var left = count
        while left > 0 {
            let group = slot / groupSize
            let offset = slot & (groupSize &- 1)
            let here = min(left, groupSize &- offset)
            let bits = ((UInt64(1) &<< UInt64(here)) &- 1) &<< UInt64(offset)
            let found = here == groupSize ? 0 : mark(group, bits)
            if found & bits != 0 { doubleRetires.fetchAdd(1) }
            if found | bits == full {
                // Nobody else has slots of the group: the device gets them only by what follows.
                #if ModelCheck
                if SeededBug.postBeforeReset.isOn {
                    var place = takePositions(1, ring)
                    post(first: group, count: 1, at: &place, ring)
                    word(group).store(0)
                    return
                }
                #endif
                if here != groupSize { word(group).store(0) }
                var place = takePositions(1, ring)
                post(first: group, count: 1, at: &place, ring)
            }
            left &-= here
            slot = group &+ 1 == groupCount ? 0 : (group &+ 1) &* groupSize
        }
    }

    @inline(__always)
    private func retireByTail(first: Int, count: Int) {
        var slot = first
        var left = count
        var passes = false
        while left > 0 || passes {
            let group = slot / groupSize
            let offset = slot & (groupSize &- 1)
            let room = groupSize &- offset
            let here = left < room ? left : room
            let bits = ((UInt64(1) &<< UInt64(here)) &- 1) &<< UInt64(offset)
            let found = mark(group, bits | (passes ? Self.passed : 0))
            if found & bits != 0 { doubleRetires.fetchAdd(1) }
            passes = isOldest(found | bits | (passes ? Self.passed : 0))
            if passes { moveTail(past: group) }
            left &-= here
            // The first slot of the next group: there the range continues, if it does, and there
            // the tail arrives, if it moved.
            slot = group &+ 1 == groupCount ? 0 : (group &+ 1) &* groupSize
        }
    }

    /// Gives back ranges that were retired together: by a shared ring with one read-modify-write.
    func retire(_ ranges: UnsafePointer<SlotRange>, count: Int, ring: Int) {
        if slotReturn != .ring {
            for index in 0..<count {
                retire(
                    first: Int(ranges[index].first), count: Int(ranges[index].count), ring: ring)
            }
            return
        }
        var total = 0
        for index in 0..<count { total &+= Int(ranges[index].count) }
        if total == 0 { return }
        var place = takePositions(total, 0)
        for index in 0..<count {
            let range = ranges[index]
            post(first: Int(range.first), count: Int(range.count), at: &place, 0)
        }
    }

    /// - Returns: the first of `count` reserved entries of a return ring, free-running.
    @inline(__always)
    private func takePositions(_ count: Int, _ ring: Int) -> UInt64 {
        // [H7 both ways: whoever takes a place knows that its last entry was taken in: the slots
        // retired since then, by whichever thread, were claimed after that]
        reserved(ring).fetchAddOrdered(UInt64(truncatingIfNeeded: count))
    }

    /// Entries of a return ring that were reserved.
    @inline(__always)
    private func reserved(_ ring: Int) -> SharedWord64 {
        SharedWord64(tickets + ring &* Self.wordStride)
    }

    /// The word of a group.
    @inline(__always)
    private func word(_ group: Int) -> SharedWord64 {
        SharedWord64(words + group &* Self.wordStride)
    }

    /// Entries of each return ring.
    @inline(__always) private var groupsOfRing: Int { layout.groupCount }

    /// Writes the slots, or groups of a ring of groups, from `first` on to a return ring.
    @inline(__always)
    private func post(first: Int, count: Int, at place: inout UInt64, _ ring: Int) {
        let mask = groupsOfRing &- 1
        let shift = UInt64(groupsOfRing.trailingZeroBitCount)
        var offset = 0
        while offset < count {
            // Bit 15 is set in every lap, so zeroes are never an entry.
            let lap = UInt32(truncatingIfNeeded: place &>> shift) | 0x8000
            let slot = UInt32(truncatingIfNeeded: (first &+ offset) & mask)
            // [H1 release -> acquire in `ReturnRing.entry`: the slots are done with]
            entry(ring, Int(place & UInt64(mask))).storeRelease(slot | lap &<< 16)
            place &+= 1
            offset &+= 1
        }
    }

    @inline(__always)
    private func entry(_ ring: Int, _ place: Int) -> SharedWord32 {
        // SAFETY: asked only of queues with return rings.
        SharedWord32(
            entries.unsafelyUnwrapped + ring &* layout.returnRingStride
                + place &* HeaderQueueLayout.returnEntryByteCount)
    }

    /// Whether `word` is complete: all slots retired, and the tail has come this far.
    @inline(__always)
    private func isOldest(_ word: UInt64) -> Bool {
        #if ModelCheck
        if SeededBug.retireOutOfOrder.isOn { return word | Self.passed == full }
        #endif
        return word == full
    }

    /// - Returns: the word before.
    @inline(__always)
    private func mark(_ group: Int, _ bits: UInt64) -> UInt64 {
        // [H3 both ways: what other threads read of their slots is done before this word is full]
        word(group).fetchOr(bits)
    }

    /// Only the thread that completed the group's word gets here. The next one can only after this
    /// one has set `passed` in the next word.
    @inline(__always)
    private func moveTail(past group: Int) {
        #if ModelCheck
        if SeededBug.tailBeforeReset.isOn {
            tail.storeRelease(tail.load() &+ UInt32(truncatingIfNeeded: groupSize))  // [H1]
            return SharedWord64(words + group &* Self.wordStride).store(0)
        }
        #endif
        checkMover(of: group)
        word(group).store(0)
        // [H1 release -> acquire in HeaderClaimer.claim: the slots below are done with]
        tail.storeRelease(tail.load() &+ UInt32(truncatingIfNeeded: groupSize))
    }

    #if ModelCheck
    /// Where group `group`'s word lies, for observation.
    func wordAddress(_ group: Int) -> UnsafeMutableRawPointer {
        words + group &* Self.wordStride
    }
    /// Where the number of reserved entries of a return ring lies.
    func reservedAddress(_ ring: Int) -> UnsafeMutableRawPointer {
        tickets + ring &* Self.wordStride
    }
    #endif

    /// Slots retired that wait for others of their group, if slots go back in groups.
    public var waitingSlotCount: Int {
        layout.slotReturn == .groups
            ? (0..<groupCount).reduce(0) { $0 + word($1).load().nonzeroBitCount } : 0
    }

    /// Slots retired although they were retired already: 0 unless device or consumer misbehave.
    public var doubleRetireCount: UInt64 { doubleRetires.load() }
    /// Whether the device says that this driver broke the queue: packets come whole until a reset.
    public var isBroken: Bool { status.load() == HeaderQueueStatus.broken }

    /// The free-running tail as the device sees it; with a shared return ring, the entries written,
    /// and with a ring for each RQ those of the first.
    public var currentTail: UInt32 {
        if entries != nil { return UInt32(truncatingIfNeeded: reserved(0).load()) }
        return tail.loadAcquire()  // [H1]
    }
}

extension Int {
    /// The greatest power of two that is no greater.
    fileprivate var powerOfTwo: Int { 1 << (Int.bitWidth - 1 - leadingZeroBitCount) }
}
