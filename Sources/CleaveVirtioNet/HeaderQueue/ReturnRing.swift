// The out-of-order return: slots come back by index through rings in guest memory, so that one that
// is held holds up none of another group.
//
//   driver of RQ i      guest memory                host memory
//   appends --[H1]--> | return ring i | --take--> claim: current group, then others --> worker of i
//      ^               lap | group     ring's lock      |                                  |
//      |                                                owners: ring i | ring i, out <-- report
//      +------------------------- used entries [V2] ---------------------------------------+
//
// Slots come back in groups of equal size, each when all its slots were retired. A worker uses a
// group's slots in order, then goes on with the next group of its own ring. So slots stay with one
// RQ, and with the cores of its worker and its driver, and no word is written by two workers. Only
// a worker whose ring is empty takes a group from another RQ's ring: groups go to where they are
// needed, and no RQ keeps more than the group it has begun.
//
// Exclusivity must not rest on a ring, which a driver may fill with one group twice. It rests on
// the owners, a word for each group: the ring whose RQ it is with, and whether it is out, reported
// to the driver. An entry of ring i counts only if its group is out and was reported through that
// ring. Whoever takes from ring i holds its lock, and a group that is not out is written by the one
// worker that has it, so an owner is tested and set without a read-modify-write. A group that no
// RQ has had yet may be in any ring, and in two of a driver that lies: it is taken by an exchange.

import CCleaveHost
import CleaveRings

/// An RQ's end of a header queue's return rings: constants, free to copy with the claimer.
struct ReturnRing: BitwiseCopyable {
    /// Guest memory: le32 entries of ring 0, group in the lower half, lap number in the upper.
    let entries: UnsafeMutableRawPointer
    /// Bytes from ring to ring.
    let ringStride: Int
    let ringCount: Int
    /// The ring of this RQ; 0 if RQs share one.
    var ring: Int
    let groupCount: Int
    /// The group size's power of two.
    let groupShift: UInt32
    /// RQs share the one ring.
    let isShared: Bool
    /// Host memory: `Words` for each ring.
    let words: UnsafeMutableRawPointer
    /// Host memory: 16 bits for each group, on a line of its own where RQs have their own rings:
    /// workers write the owners of different groups at the same time.
    let owners: UnsafeMutableRawPointer
    let ownerStride: Int

    /// Ring entries that one look at a ring skips at most: a bound on the cost of a poll.
    static let maximumSkips = 256
    /// Rings of others that one claim looks at: a bound as well.
    static let maximumLooks = 8

    /// Host words of a ring, on lines of their own.
    struct Words {
        static let byteCount = 2 * CacheLine.byteCount
        /// Not 0 while a worker takes from the ring.
        let lock: SharedWord64
        /// Ring entries taken since creation; the lock's holder writes it.
        let taken: SharedWord64
        /// Entries that named a group which was not out; the lock's holder writes it.
        let duplicates: SharedWord64
        /// Groups that the ring's RQ took from whichever ring. If RQs share the ring, its lock's
        /// holder writes it, and else the RQ's worker; so the next two.
        let accepted: SharedWord64
        /// The group that the RQ has begun.
        let group: SharedWord32
        /// Its next slot; 0 if there is none.
        let next: SharedWord32
        /// The ring of another RQ that this one looked at last.
        let look: SharedWord32
        /// The first slot that this queue claimed of a group which another one had begun; 0 if
        /// there was none.
        let resumed: SharedWord32

        @inline(__always)
        init(_ memory: UnsafeMutableRawPointer) {
            lock = SharedWord64(memory)
            taken = SharedWord64(memory + 8)
            duplicates = SharedWord64(memory + 16)
            accepted = SharedWord64(memory + CacheLine.byteCount)
            group = SharedWord32(memory + CacheLine.byteCount + 8)
            next = SharedWord32(memory + CacheLine.byteCount + 12)
            look = SharedWord32(memory + CacheLine.byteCount + 16)
            resumed = SharedWord32(memory + CacheLine.byteCount + 20)
        }
    }

    /// What an owner holds beside the number of a ring.
    enum Owner {
        /// Reported to the driver, through that ring.
        static let out: UInt16 = 0x100
        /// No RQ has had it since creation or reset.
        static let nobody: UInt16 = 0xffff
    }

    /// Host bytes: words and owners.
    static func hostByteCount(_ layout: HeaderQueueLayout) -> Int {
        Words.byteCount * layout.returnRingCount
            + CacheLine.roundedUp(ownerStride(layout) * layout.groupCount)
    }

    private static func ownerStride(_ layout: HeaderQueueLayout) -> Int {
        // Small groups are many, and change hands so often that lines are shared anyway.
        layout.groupSize < 8 ? 2 : CacheLine.byteCount
    }

    /// - Parameters:
    ///   - entries: of ring 0, in guest memory.
    ///   - memory: `hostByteCount` zeroed bytes on a cache line.
    init(
        _ layout: HeaderQueueLayout, entries: UnsafeMutableRawPointer,
        memory: UnsafeMutableRawPointer, ring: Int
    ) {
        self.entries = entries
        ringStride = layout.returnRingStride
        ringCount = layout.returnRingCount
        self.ring = ring
        groupCount = layout.groupCount
        groupShift = UInt32(layout.groupSize.trailingZeroBitCount)
        isShared = layout.groupRingCount == 0
        words = memory
        owners = memory + Words.byteCount * layout.returnRingCount
        ownerStride = Self.ownerStride(layout)
    }

    private init(none memory: UnsafeMutableRawPointer) {
        entries = memory
        ringStride = 0
        ringCount = 0
        ring = 0
        groupCount = 0
        groupShift = 0
        isShared = true
        words = memory
        owners = memory
        ownerStride = 0
    }

    /// For a queue whose slots come back by the tail: never used.
    static func none(_ memory: UnsafeMutableRawPointer) -> ReturnRing { ReturnRing(none: memory) }

    /// What the entry at `position` (free-running) holds in its upper half once it is written: it
    /// differs from lap to lap, and always from the zeroes of a ring that is fresh or being reset.
    @inline(__always)
    static func lap(_ position: UInt64, shift: UInt32) -> UInt32 {
        UInt32(truncatingIfNeeded: position &>> UInt64(shift)) & 0x7fff | 0x8000
    }

    @inline(__always)
    func words(_ ring: Int) -> Words { Words(words + ring &* Words.byteCount) }

    @inline(__always)
    func owner(_ group: UInt32) -> SharedWord16 { SharedWord16(owners + Int(group) &* ownerStride) }

    @inline(__always) var groupSize: Int { 1 &<< Int(groupShift) }

    /// The slot of number `number` of a claim whose groups are `list`.
    @inline(__always)
    func slot(_ number: Int, _ list: UnsafePointer<UInt16>) -> Int {
        let shift = Int(groupShift)
        return Int(list[number &>> shift]) &<< shift | number & (groupSize &- 1)
    }

    /// The group in the entry of ring `ring` at `position`, unchecked; nil if the driver has not
    /// written it yet.
    @inline(__always)
    func entry(_ ring: Int, _ position: UInt64) -> UInt32? {
        let place = Int(position & UInt64(groupCount &- 1))
        // [H1 acquire <- the driver's release of the entry: it has done with the slots]
        let entry = SharedWord32(entries + ring &* ringStride + place &* 4).loadAcquire()
        let lap = Self.lap(position, shift: UInt32(groupCount.trailingZeroBitCount))
        return entry &>> 16 == lap ? entry & 0xffff : nil
    }

    /// Makes a group that the driver posted in ring `ring` this RQ's, if it was out.
    /// Only with that ring's lock.
    @inline(__always)
    func accept(_ group: UInt32, from ring: Int) -> Bool {
        let word = owner(group)
        let mine = UInt16(truncatingIfNeeded: self.ring)
        // [H6 acquire <- the worker that wrote the slots last]
        let found = word.loadAcquire()
        #if ModelCheck
        if SeededBug.acceptOfAnyRing.isOn && found & ~0x7f == Owner.out
            || SeededBug.takeNobodysByStore.isOn && found == Owner.nobody
        {
            word.store(mine)
            return true
        }
        #endif
        if found == UInt16(truncatingIfNeeded: ring) | Owner.out {
            word.store(mine)
            return true
        }
        if found != Owner.nobody { return false }
        // [H6 both ways: of two workers that find it in two rings one gets it]
        return word.compareExchange(expected: found, desired: mine).exchanged
    }
}

extension HeaderClaimer {
    /// Claims up to `wanted` slots of a queue with return rings: as many as there are groups for.
    ///
    /// No read-modify-write while the slots are of the group begun before; one lock, which others
    /// want only if they have no slots, when the claim goes on with further groups.
    /// - Parameter list: where the groups go; room for `wanted` and one more.
    /// - Returns: the claim; slot `n` of the queue's numbering is in group `n / groupSize` of
    ///   `list`, and `first` is below `groupSize`.
    @inline(__always)
    func claim(_ wanted: Int, into list: UnsafeMutablePointer<UInt16>) -> Claim {
        if wanted == 0 || isBroken { return Claim(first: 0, count: 0, retries: 0) }
        let words = returns.words(returns.ring)
        // With groups of one slot none is ever begun.
        let first = returns.groupShift == 0 ? 0 : Int(words.next.load())
        var listed = 0
        if first != 0 {
            list[0] = UInt16(truncatingIfNeeded: words.group.load())
            listed = 1
        }
        var end = first &+ wanted
        var retries = 0
        let needed = (end &+ returns.groupSize &- 1) &>> Int(returns.groupShift)
        if needed > listed {
            // [H5 both ways: takers of a ring, one after the other]
            let isLocked = words.lock.compareExchange(expected: 0, desired: 1).exchanged
            if isLocked {
                listed &+= takeLocked(needed &- listed, from: returns.ring, into: list + listed)
            }
            if listed < needed {
                let (more, tries) = takeMore(
                    needed &- listed, into: list + listed, hasTaken: isLocked)
                listed &+= more
                retries = tries
            }
            if listed < needed {
                end = listed &<< Int(returns.groupShift)
                if end <= first {
                    cleave_probe_header_queue_empty(slots, UInt64(truncatingIfNeeded: wanted))
                    return Claim(first: 0, count: 0, retries: retries)
                }
            }
        }
        if returns.groupShift != 0 {
            let next = end & (returns.groupSize &- 1)
            if next != 0 { words.group.store(UInt32(list[end &>> Int(returns.groupShift)])) }
            words.next.store(UInt32(truncatingIfNeeded: next))
        }
        probeClaim(wanted, end &- first, free: listed &<< Int(returns.groupShift) &- first)
        return Claim(
            first: UInt32(truncatingIfNeeded: first), count: end &- first, retries: retries)
    }

    /// Takes up to `wanted` groups that the RQ's own ring does not give: of that ring, if its lock
    /// was not free, and of others.
    /// - Parameter hasTaken: the RQ's own ring is empty.
    /// - Returns: how many, and how often the lock of the own ring was not free.
    @inline(never)
    private func takeMore(
        _ wanted: Int, into list: UnsafeMutablePointer<UInt16>, hasTaken: Bool
    ) -> (count: Int, tries: Int) {
        let lock = returns.words(returns.ring).lock
        var count = 0
        var tries = hasTaken ? 0 : 1
        while tries > 0 && tries < Self.maximumTries {
            // An RQ that shares the ring takes, or one without slots: it is done in a moment.
            cleave_pause()
            if lock.compareExchange(expected: 0, desired: 1).exchanged {  // [H5]
                count = takeLocked(wanted, from: returns.ring, into: list)
                break
            }
            tries &+= 1
        }
        var looks = isBroken ? 0 : min(returns.ringCount &- 1, ReturnRing.maximumLooks)
        if count == wanted || looks <= 0 { return (count, tries) }
        // Where it ended the last time, so that all rings are looked at in turn.
        let look = returns.words(returns.ring).look
        var ring = Int(look.load())
        while looks > 0 && count < wanted && !isBroken {
            ring = ring &+ 1 >= returns.ringCount ? 0 : ring &+ 1
            if ring == returns.ring { continue }
            looks &-= 1
            let words = returns.words(ring)
            // Looked at before it is locked: most rings of others are empty or in use.
            if returns.entry(ring, words.taken.load()) == nil { continue }
            if !words.lock.compareExchange(expected: 0, desired: 1).exchanged { continue }  // [H5]
            count &+= takeLocked(wanted &- count, from: ring, into: list + count)
        }
        look.store(UInt32(truncatingIfNeeded: ring))
        return (count, tries)
    }

    /// Takes up to `wanted` groups of ring `ring`, whose lock the caller took, and unlocks it.
    @inline(__always)
    private func takeLocked(
        _ wanted: Int, from ring: Int, into list: UnsafeMutablePointer<UInt16>
    ) -> Int {
        let words = returns.words(ring)
        let start = words.taken.load()
        let limit = start &+ UInt64(wanted &+ ReturnRing.maximumSkips)
        var position = start
        var count = 0
        while count < wanted && position != limit, let group = returns.entry(ring, position) {
            if group >= UInt32(truncatingIfNeeded: returns.groupCount) {
                markBroken(at: position)
                break
            }
            position &+= 1
            if returns.accept(group, from: ring) {
                list[count] = UInt16(truncatingIfNeeded: group)
                count &+= 1
            }
        }
        let taken = position &- start
        #if ModelCheck
        if SeededBug.unlockTooEarly.isOn { words.lock.storeRelease(0) }  // [H5]
        #endif
        words.taken.store(position)
        if taken != UInt64(count) {
            words.duplicates.store(words.duplicates.load() &+ taken &- UInt64(count))
        }
        let own = returns.words(returns.ring)
        own.accepted.store(own.accepted.load() &+ UInt64(count))
        // For observation, where RQs share the ring.
        if returns.isShared { reportedHead.store(UInt32(truncatingIfNeeded: position)) }
        words.lock.storeRelease(0)  // [H5 release -> the next taker]
        return count
    }

    /// The worker has written its slots and is about to report them. The driver may post those
    /// groups from now on of which it gets the last slot.
    @inline(__always)
    func report(_ list: UnsafePointer<UInt16>, _ claim: Claim) {
        let out = UInt16(truncatingIfNeeded: returns.ring) | ReturnRing.Owner.out
        let end = (Int(claim.first) &+ claim.count) &>> Int(returns.groupShift)
        var index = 0
        while index < end {
            // [H6 release -> whoever takes it next: the slots' bytes]
            returns.owner(UInt32(list[index])).storeRelease(out)
            index &+= 1
        }
    }
}

// control path

extension ReturnRing {
    /// No group is any RQ's.
    func disown() {
        for group in 0..<UInt32(groupCount) { owner(group).store(Owner.nobody) }
    }

    /// Nothing was taken and no group begun. Only while nobody claims; what was claimed since
    /// creation is forgotten.
    func reset() {
        for ring in 0..<ringCount {
            let words = words(ring)
            words.taken.store(0)
            words.accepted.store(0)
            words.next.store(0)
            words.resumed.store(0)
        }
        disown()
    }

    /// The device's words of a ring, in guest memory.
    private func positions(_ ring: Int) -> (taken: SharedWord32, begun: SharedWord32) {
        let words = entries + ring * ringStride - HeaderQueueLayout.groupRingWordsByteCount
        return (SharedWord32(words), SharedWord32(words + 4))
    }

    /// Writes where each ring goes on. Only while nobody claims.
    func storePositions() {
        for ring in 0..<ringCount {
            let words = words(ring)
            let positions = positions(ring)
            positions.taken.store(UInt32(truncatingIfNeeded: words.taken.load()))
            let next = words.next.load()
            positions.begun.store(next == 0 ? 0 : words.group.load() & 0xffff | next << 16)
        }
    }

    /// Goes on where the rings' words say that another device stopped. A driver may have written
    /// there: a group that cannot be the one begun is left alone, and its slots stay with nobody.
    func resume() {
        for ring in 0..<ringCount {
            let words = words(ring)
            let positions = positions(ring)
            // A lap is 15 bits of a position, so the upper half of a position means nothing.
            words.taken.store(UInt64(positions.taken.load()))
            let begun = positions.begun.load()
            let (group, next) = (begun & 0xffff, begun >> 16)
            guard next > 0, Int(next) < groupSize, Int(group) < groupCount,
                owner(group).load() == Owner.nobody
            else { continue }
            owner(group).store(UInt16(ring))
            words.group.store(group)
            words.next.store(next)
            // What the other device claimed of it.
            words.resumed.store(next)
        }
    }

    var duplicateCount: UInt64 {
        (0..<ringCount).reduce(0) { $0 &+ words($1).duplicates.load() }
    }

    /// Slots claimed since creation or reset.
    var claimedCount: UInt64 {
        (0..<ringCount).reduce(0) { sum, ring in
            let words = words(ring)
            let (next, resumed) = (UInt64(words.next.load()), UInt64(words.resumed.load()))
            let rest = next == 0 ? 0 : UInt64(groupSize) &- next
            let begun = resumed == 0 ? 0 : UInt64(groupSize) &- resumed
            return sum &+ words.accepted.load() &* UInt64(groupSize) &+ begun &- rest
        }
    }

    /// Slots that RQs may claim: of groups begun, and of those that the driver has posted and the
    /// next claims will keep. A snapshot. Entries that will be skipped do not count; one that names
    /// no group ends a ring's count, and breaks nothing.
    var freeCount: Int {
        var count = 0
        var seen = Set<UInt32>()
        for ring in 0..<ringCount {
            let words = words(ring)
            let next = Int(words.next.load())
            if next != 0 { count += groupSize - next }
            let start = words.taken.load()
            for offset in 0..<UInt64(groupCount) {
                guard let group = entry(ring, start &+ offset), group < groupCount else { break }
                // [H6 acquire <- the worker that wrote the slots last]
                let found = owner(group).loadAcquire()
                if found == Owner.nobody || found == UInt16(ring) | Owner.out,
                    seen.insert(group).inserted
                {
                    count += groupSize
                }
            }
        }
        return count
    }
}
