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
/// With a return ring none of this is needed: retiring a burst reserves as many ring entries by one
/// operation, and writes the slots there.
///
/// Any number of threads may retire at the same time, but a slot must not be retired twice.
public final class DriverHeaderQueue: @unchecked Sendable {
    // SAFETY: constants, and words reached through explicit orderings.

    public let layout: HeaderQueueLayout
    /// Slots by which the tail moves.
    public let groupSize: Int

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
    /// The return ring, if slots come back by one, and how many of its entries were reserved.
    private let ring: UnsafeMutableRawPointer?
    private let tickets: SharedWord64

    private static let passed: UInt64 = 1 << 32
    private static let wordStride = 64

    /// Lays a header queue over guest memory and gives all its slots to the device.
    /// - Parameters:
    ///   - slotSize: bytes, a power of two, 64 to 1024.
    ///   - slotCount: a power of two, 1 to 32768.
    ///   - slotReturn: how slots go back.
    public init(
        slotSize: Int, slotCount: Int, slotReturn: SlotReturn = .tail, in space: GuestSpace
    ) throws(SetupError) {
        try HeaderQueueLayout.check(slotSize: slotSize, slotCount: slotCount)
        let area = try space.allocate(byteCount: slotSize * slotCount)
        let control = try space.allocate(byteCount: HeaderQueueLayout.controlByteCount)
        let returnRing =
            slotReturn == .tail
            ? nil
            : try space.allocate(byteCount: HeaderQueueLayout.returnEntryByteCount * slotCount)
        ring = returnRing?.pointer
        layout = HeaderQueueLayout(
            base: area.address, control: control.address, slotSize: slotSize, slotCount: slotCount,
            returnRing: returnRing?.address)
        self.space = space
        slots = area.pointer
        groupSize = min(32, max(1, slotCount / 4))
        groupCount = slotCount / groupSize
        full = (UInt64(1) << UInt64(groupSize) - 1) | Self.passed
        let byteCount = (groupCount + 2) * Self.wordStride
        words = .allocate(byteCount: byteCount, alignment: Self.wordStride)
        words.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        doubleRetires = SharedWord64(words + groupCount * Self.wordStride)
        tickets = SharedWord64(words + (groupCount + 1) * Self.wordStride)
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
        if let ring {
            for place in 0..<layout.slotCount { entry(ring, place).store(0) }
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
        if ring != nil {
            tickets.store(0)
            return retire(first: 0, count: layout.slotCount)
        }
        let start = tail.load()
        let oldest = (Int(start) & (layout.slotCount &- 1)) / groupSize
        for group in 0..<groupCount {
            SharedWord64(words + group * Self.wordStride).store(group == oldest ? Self.passed : 0)
        }
        tail.storeRelease(start &+ UInt32(layout.slotCount))  // [H1]
        checkInvariants()
    }

    /// What holds while nobody retires: the tail is at the start of a group, that group alone has
    /// `passed`, and no word is complete. In debug builds; the words of a return ring have no such
    /// rule.
    func checkInvariants() {
        #if DEBUG && !ModelCheck
        if ring != nil { return }
        let position = Int(tail.load()) & (layout.slotCount &- 1)
        assert(position % groupSize == 0, "the tail is inside a group")
        for group in 0..<groupCount {
            let word = SharedWord64(words + group * Self.wordStride).load()
            assert(word != full && (word & Self.passed != 0) == (group == position / groupSize))
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
    public func retire(first: Int, count: Int) {
        assert((0..<layout.slotCount).contains(first) && (0...layout.slotCount).contains(count))
        if let ring {
            var place = takePositions(count)
            return post(first: first, count: count, at: &place, ring)
        }
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

    /// Gives back ranges that were retired together: with a return ring by one read-modify-write.
    func retire(_ ranges: UnsafePointer<SlotRange>, count: Int) {
        guard let ring else {
            for index in 0..<count {
                retire(first: Int(ranges[index].first), count: Int(ranges[index].count))
            }
            return
        }
        var total = 0
        for index in 0..<count { total &+= Int(ranges[index].count) }
        if total == 0 { return }
        var place = takePositions(total)
        for index in 0..<count {
            let range = ranges[index]
            post(first: Int(range.first), count: Int(range.count), at: &place, ring)
        }
    }

    /// - Returns: the first of `count` reserved entries of the return ring, free-running.
    @inline(__always)
    private func takePositions(_ count: Int) -> UInt64 {
        // [H7 both ways: whoever takes a place knows that its last entry was taken in: the slots
        // retired since then, by whichever thread, were claimed after that]
        tickets.fetchAddOrdered(UInt64(truncatingIfNeeded: count))
    }

    @inline(__always)
    private func post(
        first: Int, count: Int, at place: inout UInt64, _ ring: UnsafeMutableRawPointer
    ) {
        let mask = layout.slotCount &- 1
        let shift = UInt64(layout.slotCount.trailingZeroBitCount)
        var offset = 0
        while offset < count {
            // Bit 15 is set in every lap, so zeroes are never an entry.
            let lap = UInt32(truncatingIfNeeded: place &>> shift) | 0x8000
            let slot = UInt32(truncatingIfNeeded: (first &+ offset) & mask)
            // [H1 release -> acquire in HeaderClaimer's refill: the slot is done with]
            entry(ring, Int(place & UInt64(mask))).storeRelease(slot | lap &<< 16)
            place &+= 1
            offset &+= 1
        }
    }

    @inline(__always)
    private func entry(_ ring: UnsafeMutableRawPointer, _ place: Int) -> SharedWord32 {
        SharedWord32(ring + place &* HeaderQueueLayout.returnEntryByteCount)
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
        SharedWord64(words + group &* Self.wordStride).fetchOr(bits)
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
        SharedWord64(words + group &* Self.wordStride).store(0)
        // [H1 release -> acquire in HeaderClaimer.claim: the slots below are done with]
        tail.storeRelease(tail.load() &+ UInt32(truncatingIfNeeded: groupSize))
    }

    #if ModelCheck
    /// Where group `group`'s word lies, for observation.
    func wordAddress(_ group: Int) -> UnsafeMutableRawPointer {
        words + group &* Self.wordStride
    }
    #endif

    /// Slots retired although they were retired already: 0 unless device or consumer misbehave.
    public var doubleRetireCount: UInt64 { doubleRetires.load() }
    /// Whether the device says that this driver broke the queue: packets come whole until a reset.
    public var isBroken: Bool { status.load() == HeaderQueueStatus.broken }

    /// The free-running tail as the device sees it; with a return ring, the entries written.
    public var currentTail: UInt32 {
        ring == nil ? tail.loadAcquire() : UInt32(truncatingIfNeeded: tickets.load())  // [H1]
    }
}
