// control path

import CCleaveHost
import CleaveHost
import CleaveRings

/// The device's half of a header queue, shared by every RQ that is linked to it.
///
/// Any number of worker threads claim from it at the same time through `HeaderClaimer` values.
/// Bounds come from the private head and the geometry alone; of the guest's words only `tail` is
/// read, and judged by its distance from the head.
public final class HeaderQueue: @unchecked Sendable {
    // SAFETY: all stored properties are constants; what they point to is reached through shared
    // words with explicit ordering.

    public let layout: HeaderQueueLayout
    /// The table that addresses were translated with; kept, and its mappings with it, although RQs
    /// of the same guest may have another by now.
    package let memory: GuestMemory
    private let privateWords: PrivateWords
    let claimer: HeaderClaimer
    /// The private head at the last reset, and the slots claimed before it.
    private let origin: SharedWord64
    private let claimedEarlier: SharedWord64
    private let reportedEarlier: SharedWord64

    /// Checks the geometry against `memory` and starts at head 0, or where another queue over the
    /// same slots stopped.
    ///
    /// The driver gives slots by moving `tail`; all of them at first, by storing `slotCount`.
    ///
    /// **Resuming.** What the driver has said stays said: it notices nothing. Slots before the base
    /// are the driver's, whether they were reported to it or not, and are claimed again only after
    /// it gave them again. Slots that the driver has given from there on are free. With a base that
    /// is not where the other queue stopped the two sides disagree: ahead of the tail, or more than
    /// `slotCount` before it, breaks the queue at the first claim.
    ///
    /// **After a crash** nobody knows the base: the head word may lag behind what was claimed.
    /// By the tail: resume at the tail, which leaves no slot free, and have the driver retire at
    /// once each slot of which it holds no packet and that it has not retired. By the return ring:
    /// have the driver zero the ring, start without a base, and have the driver post, from entry 0
    /// on, each slot of which it holds no packet, and the others later.
    /// - Parameters:
    ///   - layout: where its memory is, as the driver gave it.
    ///   - memory: of the driver's guest.
    ///   - base: the `base` of a queue that was stopped; nil for slots that nobody has claimed, and
    ///     a return ring of zeroes or of entries in lap 0.
    ///   - node: NUMA node of the device's own words; nil for any.
    public convenience init(
        _ layout: HeaderQueueLayout, memory: GuestMemory, base: UInt32? = nil, node: Int? = nil
    ) throws(SetupError) {
        try self.init(layout, memory: memory, base: base, node: node, isBroken: false)
    }

    /// - Parameter isBroken: it replaces one that its driver broke, and no look at its status may
    ///   find that it works.
    init(
        _ layout: HeaderQueueLayout, memory: GuestMemory, base: UInt32?, node: Int?, isBroken: Bool
    ) throws(SetupError) {
        let parts = try layout.map(in: memory)
        self.layout = layout
        self.memory = memory
        let ring = try layout.mapReturnRing(in: memory)
        let ownByteCount = 2 * CacheLine.byteCount
        let words = try PrivateWords(
            byteCount: ownByteCount
                + (ring == nil ? 0 : ReturnRing.hostByteCount(layout)),
            node: node)
        privateWords = words
        origin = SharedWord64(words.base + CacheLine.byteCount + 8)
        claimedEarlier = SharedWord64(words.base + CacheLine.byteCount + 16)
        reportedEarlier = SharedWord64(words.base + CacheLine.byteCount + 24)
        claimer = HeaderClaimer(
            slots: parts.slots,
            driverTail: SharedWord32(parts.control + HeaderQueueLayout.tailOffset),
            reportedHead: SharedWord32(parts.control + HeaderQueueLayout.headOffset),
            reportedStatus: SharedWord32(parts.control + HeaderQueueLayout.statusOffset),
            claimedHead: SharedWord64(words.base),
            brokenWord: SharedWord32(words.base + CacheLine.byteCount),
            slotShift: UInt32(layout.slotSize.trailingZeroBitCount),
            slotCount: UInt32(layout.slotCount),
            returns: ring.map {
                ReturnRing(
                    layout, entries: $0 + layout.firstEntryOffset,
                    memory: words.base + ownByteCount, ring: 0)
            } ?? .none(words.base))
        let start = base ?? 0
        switch layout.slotReturn {
        case .tail:
            claimer.claimedHead.store(UInt64(start))
            origin.store(UInt64(start))
        case .ring:
            // A lap is 15 bits of a position, so the upper half of a position means nothing.
            claimer.returns.words(0).taken.store(UInt64(start))
            claimer.returns.disown()
        case .groups:
            claimer.returns.disown()
            if start != 0 { claimer.returns.resume() }
        }
        claimer.reportedHead.store(start)
        claimer.brokenWord.store(isBroken ? 1 : 0)
        // [H8 release -> the driver, who may wait for it]
        claimer.reportedStatus.storeRelease(
            isBroken ? HeaderQueueStatus.broken : HeaderQueueStatus.working)
    }

    /// Where another queue over the same slots resumes. Read it while every RQ that is linked to
    /// this queue is at a poll boundary, and claim no more: each claimed slot is reported by then.
    ///
    /// By the tail it is the head. By the ring it is how many entries were taken. In groups it is
    /// 1, for a queue that goes on: `storePositions` says in the rings' own words where.
    public var base: UInt32 {
        switch layout.slotReturn {
        case .tail: UInt32(truncatingIfNeeded: claimer.claimedHead.loadAcquire())  // [H2]
        case .ring: UInt32(truncatingIfNeeded: claimer.returns.words(0).taken.load())
        case .groups: 1
        }
    }

    /// Writes in guest memory where the rings of groups go on; for others there is nothing to do.
    /// Before another queue resumes, and when `base` may be read.
    public func storePositions() {
        if layout.slotReturn == .groups { claimer.returns.storePositions() }
    }

    /// What RQ claims by that has return ring `ring`, or 0 if RQs share one.
    func claimer(ring: Int) -> HeaderClaimer {
        precondition(ring == 0 || ring < layout.groupRingCount)
        var claimer = claimer
        claimer.returns.ring = ring
        return claimer
    }

    /// Refuses an RQ's return ring that the queue does not have.
    func check(hasRing ring: Int) throws(SetupError) {
        guard (0..<layout.returnRingCount).contains(ring) else {
            throw SetupError(
                "return ring \(ring) is not one of the header queue's \(layout.returnRingCount)")
        }
    }

    /// Resets the queue: no slot is free, nothing is broken. The driver stopped retiring, and
    /// zeroed its return ring, before it asked for this, and gives all slots when it is done. Only
    /// while every RQ that is linked to the queue is at a poll boundary.
    public func reset() {
        claimedEarlier.store(claimedCount)
        if layout.slotReturn != .tail { claimer.returns.reset() }
        cleave_probe_reset(claimer.slots, claimedEarlier.load())
        // The head goes to the tail, not the tail to the head: RQs that are not paused yet would
        // see a tail stored here, and it could give them slots. [H1 acquire <- the driver]
        let tail = layout.slotReturn == .tail ? claimer.driverTail.loadAcquire() : 0
        // Up to the next number with these low bits: no cursor value ever comes again.
        let start = ((claimer.claimedHead.load() | 0xffff_ffff) &+ 1) | UInt64(tail)
        origin.store(start)
        claimer.reportedHead.store(tail)
        claimer.brokenWord.store(0)
        claimer.claimedHead.store(start)
        // Last: a driver that asked for the reset gives its slots when it sees this.
        // [H8 release -> the driver]
        claimer.reportedStatus.storeRelease(HeaderQueueStatus.working)
    }

    /// Return-ring entries that named a slot or group which the driver did not have, or had of
    /// another RQ: 0 with a driver that works.
    public var duplicateCount: UInt64 {
        layout.slotReturn == .tail ? 0 : claimer.returns.duplicateCount
    }

    /// Asks the kernel where the device's own words lie; nil if no node was named for them.
    package func residence(_ name: String) -> PageResidence? { privateWords.residence(name) }

    /// A queue belongs to one guest: its slots are written on behalf of nobody else.
    /// Tables may differ.
    func check(belongsTo guest: GuestMemory) throws(SetupError) {
        guard guest.guest === memory.guest else {
            throw SetupError(
                "the header queue belongs to another guest: its memory is not the RQ's guest's")
        }
    }

    /// Slots claimed since creation, by all RQs together.
    public var claimedCount: UInt64 {
        let claimed =
            layout.slotReturn == .tail
            ? claimer.claimedHead.load() &- origin.load() : claimer.returns.claimedCount
        return claimedEarlier.load() &+ claimed
    }

    /// Slots that were reported by RQs which are gone. Kept beside the claims, so that a queue that
    /// replaces this one owes nothing.
    package var reportedByOthers: UInt64 { reportedEarlier.load() }
    /// Adds what an RQ had reported that is gone, or was reset.
    package func noteReported(_ count: UInt64) { reportedEarlier.fetchAdd(count) }

    /// For each return ring the slots of groups that were reported through it and are not back: a
    /// snapshot, empty unless slots come back in groups.
    package var heldCounts: [Int] {
        guard layout.slotReturn == .groups else { return [] }
        var counts = [Int](repeating: 0, count: layout.groupRingCount)
        for group in 0..<UInt32(layout.groupCount) {
            let owner = claimer.returns.owner(group).load()
            let ring = Int(owner & ~ReturnRing.Owner.out)
            if owner != ReturnRing.Owner.nobody && owner & ReturnRing.Owner.out != 0,
                counts.indices.contains(ring)
            {
                counts[ring] += layout.groupSize
            }
        }
        return counts
    }

    /// Whether the driver moved the tail to where it cannot be; packets go whole until a reset.
    public var isBroken: Bool { claimer.isBroken }
    /// Slots the device may claim now: a snapshot that other threads may change at once.
    public var freeCount: Int {
        // Groups that other threads move between the reads may be counted twice.
        if layout.slotReturn != .tail {
            return min(claimer.returns.freeCount, layout.slotCount)
        }
        // [H1 acquire <- the driver's release of tail]
        let tail = claimer.driverTail.loadAcquire()
        let free = tail &- UInt32(truncatingIfNeeded: claimer.claimedHead.load())
        return free > claimer.slotCount ? 0 : Int(free)
    }
}

/// Zeroed words of the device's own, on a node if one was named.
private final class PrivateWords: Sendable {
    // SAFETY: a constant; what it points to is reached through shared words.
    nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let arena: MemoryArena?

    init(byteCount: Int, node: Int?) throws(SetupError) {
        guard let node else {
            // Without a node malloc does: an arena is whole pages, and there may be many queues.
            base = .allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
            base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
            arena = nil
            return
        }
        do {
            let arena = try MemoryArena(byteCount: byteCount, node: node, pages: .small)
            base = try arena.allocate(byteCount: byteCount)
            self.arena = arena
        } catch { throw SetupError("header queue words: \(error)") }
    }

    deinit {
        if arena == nil { base.deallocate() }
    }

    func residence(_ name: String) -> PageResidence? {
        arena?.residence(name, node: arena?.node)
    }
}
