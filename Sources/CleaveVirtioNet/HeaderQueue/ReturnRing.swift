// The out-of-order return: slots come back by index through a ring in guest memory, so that one
// that is held holds up no other.
//
//   driver             guest memory               host memory
//   appends --[H1]--> | return ring | --refill--> | free list: checked slots | --claim, one CAS
//                      lap | slot     one worker    each at most once           --> worker
//                                     at a time     owned flags <-- report ---------/
//
// Exclusivity must not rest on the ring, which a driver may fill with one slot twice. It rests on
// the owned flags: a slot is owned from its refill until the worker that claimed it has written it.
// An index that is owned already is skipped and counted. One worker at a time refills, so an owned
// flag is tested and set without a read-modify-write. A refill begins while half the slots are
// still in the free list, so that the others do not miss them; a worker that finds too few all the
// same looks eight times.

import CCleaveHost
import CleaveRings

/// The device's end of a return ring: constants, free to copy with the claimer.
struct ReturnRing: BitwiseCopyable {
    /// Guest memory: le32 entries, slot index in the lower half, lap number in the upper.
    let entries: UnsafeMutableRawPointer
    /// Host memory: slots that may be claimed, 16 bits each, `slotCount` of them, used in a circle.
    let freeList: UnsafeMutableRawPointer
    /// Host memory: 16 bits for each slot, not 0 while it is the device's.
    let ownedFlags: UnsafeMutableRawPointer
    /// Host word: slots put into the free list since creation.
    let ready: SharedWord64
    /// Host word: not 0 while a worker refills.
    let lock: SharedWord64
    /// Host word: ring entries taken since creation; the lock's holder writes it.
    let taken: SharedWord64
    /// Host word: entries that named a slot which the device had already.
    let duplicates: SharedWord64

    /// Ring entries that one refill reads at most: a bound on the cost of a poll.
    static let maximumRefill = 256

    /// Host bytes for a queue of `slotCount` slots: words, free list and owned flags.
    static func hostByteCount(slotCount: Int) -> Int {
        3 * CacheLine.byteCount + 2 * CacheLine.roundedUp(2 * slotCount)
    }

    /// - Parameters:
    ///   - entries: `4 * slotCount` bytes of guest memory.
    ///   - memory: `hostByteCount(slotCount:)` zeroed bytes on a cache line.
    init(
        entries: UnsafeMutableRawPointer, slotCount: Int, memory: UnsafeMutableRawPointer
    ) {
        self.entries = entries
        ready = SharedWord64(memory)
        lock = SharedWord64(memory + CacheLine.byteCount)
        taken = SharedWord64(memory + 2 * CacheLine.byteCount)
        duplicates = SharedWord64(memory + 2 * CacheLine.byteCount + 8)
        freeList = memory + 3 * CacheLine.byteCount
        ownedFlags = freeList + CacheLine.roundedUp(2 * slotCount)
    }

    /// For a queue whose slots come back by the tail: never used.
    static func none(_ memory: UnsafeMutableRawPointer) -> ReturnRing {
        ReturnRing(entries: memory, slotCount: 0, memory: memory)
    }

    /// What the entry at `position` (free-running) holds in its upper half once it is written: it
    /// differs from lap to lap, and always from the zeroes of a ring that is fresh or being reset.
    @inline(__always)
    static func lap(_ position: UInt64, slotShift: UInt32) -> UInt32 {
        UInt32(truncatingIfNeeded: position &>> UInt64(slotShift)) & 0x7fff | 0x8000
    }

    @inline(__always)
    func owned(_ slot: UInt32) -> SharedWord16 { SharedWord16(ownedFlags + Int(slot) &* 2) }

    @inline(__always)
    func listed(_ position: UInt64, _ mask: UInt64) -> SharedWord16 {
        SharedWord16(freeList + Int(position & mask) &* 2)
    }
}

extension HeaderClaimer {
    /// Claims up to `wanted` slots of a queue with a return ring: as many as are in the free list.
    ///
    /// One read-modify-write, and one more if this worker fills the free list.
    /// - Parameter list: where the slots' indices go; room for `wanted`.
    /// - Returns: the claim; its slots are the first of `list`, and `first` is 0.
    @inline(__always)
    func claim(_ wanted: Int, into list: UnsafeMutablePointer<UInt16>) -> Claim {
        if wanted == 0 || isBroken { return Claim(first: 0, count: 0, retries: 0) }
        // Refilled from half on, so that others find free slots while this worker refills.
        let least = wanted < Int(slotCount &>> 1) ? Int(slotCount &>> 1) : wanted
        var start = claimedHead.loadAcquire()  // [H2 acquire <- another claimer]
        var refill = Refill.wanted
        var retries = 0
        while retries < Self.maximumTries {
            var free = freeCount(from: start)
            if free < least && refill == .wanted {
                refill = refillFreeList()
                free = freeCount(from: start)
            }
            if free < wanted && refill == .busy {
                // The worker that refills will have some in a moment.
                cleave_pause()
                refill = .wanted
                retries &+= 1
                if retries < Self.maximumTries { continue }
            }
            let count = free < wanted ? free : wanted
            if count == 0 {
                cleave_probe_header_queue_empty(slots, UInt64(truncatingIfNeeded: wanted))
                break
            }
            // Before the exchange: while the head is at `start`, refill cannot come round to these
            // places, as the free list never holds more than there are slots. If it has moved, what
            // was read here is void.
            readFreeList(from: start, count, into: list)
            // [H2 both ways: claims are ordered among workers]
            let attempt = claimedHead.compareExchange(
                expected: start, desired: start &+ UInt64(count))
            if attempt.exchanged {
                probeClaim(wanted, count, free: free)
                return Claim(first: 0, count: count, retries: retries)
            }
            start = attempt.original
            retries &+= 1
        }
        return Claim(first: 0, count: 0, retries: retries)
    }

    @inline(__always)
    private func freeCount(from start: UInt64) -> Int {
        // [H4 acquire <- refill: the free list below it, and that earlier writers are done]
        Int(truncatingIfNeeded: returns.ready.loadAcquire() &- start)
    }

    @inline(__always)
    private func readFreeList(
        from start: UInt64, _ count: Int, into list: UnsafeMutablePointer<UInt16>
    ) {
        let mask = UInt64(slotCount &- 1)
        var index = 0
        while index < count {
            list[index] = returns.listed(start &+ UInt64(index), mask).load()
            index &+= 1
        }
    }

    /// How far a claim has come with filling the free list.
    private enum Refill { case wanted, done, busy }

    /// Moves what the driver has posted into the free list, unless another worker is doing so.
    @inline(never)
    private func refillFreeList() -> Refill {
        // This check costs no read-modify-write; a worker that refills moves `taken` on.
        if posted(returns.taken.load()) == nil { return .done }
        // [H5 both ways: refills one after the other]
        if !returns.lock.compareExchange(expected: 0, desired: 1).exchanged { return .busy }
        var position = returns.taken.load()
        var ready = returns.ready.load()
        let end = position &+ UInt64(ReturnRing.maximumRefill)
        while position < end, let slot = posted(position) {
            position &+= 1
            if keep(slot, at: ready) { ready &+= 1 }
            // In portions, for the workers that wait.
            if position & 31 == 0 { returns.ready.storeRelease(ready) }  // [H4]
        }
        returns.taken.store(position)
        publicHead.store(UInt32(truncatingIfNeeded: position))
        returns.ready.storeRelease(ready)  // [H4 release -> claim]
        returns.lock.storeRelease(0)  // [H5 release -> the next refill]
        return .done
    }

    /// Puts a posted slot at place `position` of the free list, unless the device has it already.
    @inline(__always)
    private func keep(_ slot: UInt32, at position: UInt64) -> Bool {
        // [H6 acquire <- the worker that wrote the slot last]
        if returns.owned(slot).loadAcquire() != 0 {
            returns.duplicates.fetchAdd(1)
            return false
        }
        returns.owned(slot).store(1)
        returns.listed(position, UInt64(slotCount &- 1)).store(UInt16(truncatingIfNeeded: slot))
        return true
    }

    /// The slot that the driver posted at `position`; nil if it posted none, or an invalid index.
    @inline(__always)
    private func posted(_ position: UInt64) -> UInt32? {
        guard let slot = entry(position) else { return nil }
        if slot < slotCount { return slot }
        markBroken(at: position)
        return nil
    }

    /// The slot in the entry at `position`, unchecked; nil if the driver has not written it yet.
    @inline(__always)
    private func entry(_ position: UInt64) -> UInt32? {
        let place = Int(position & UInt64(slotCount &- 1))
        // [H1 acquire <- the driver's release of the entry: it has done with the slot]
        let entry = SharedWord32(returns.entries + place &* 4).loadAcquire()
        let lap = ReturnRing.lap(position, slotShift: UInt32(slotCount.trailingZeroBitCount))
        return entry &>> 16 == lap ? entry & 0xffff : nil
    }

    /// The worker has written its slots and is about to report them: from now on the driver may
    /// post them again.
    @inline(__always)
    func report(_ list: UnsafePointer<UInt16>, _ count: Int) {
        var index = 0
        while index < count {
            // [H6 release -> refill: the slot's bytes]
            returns.owned(UInt32(list[index])).storeRelease(0)
            index &+= 1
        }
    }

    // control path
    /// Slots that the driver has posted and the next refills will keep: a snapshot. Entries that
    /// name a slot which the device has already, or that was counted, do not count; one that names
    /// no slot ends the count, and breaks nothing.
    func postedCount() -> Int {
        let start = returns.taken.load()
        var seen = Set<UInt32>()
        for offset in 0..<UInt64(slotCount) {
            guard let slot = entry(start &+ offset), slot < slotCount else { break }
            // [H6 acquire <- the worker that wrote the slot last]
            if returns.owned(slot).loadAcquire() == 0 { seen.insert(slot) }
        }
        return seen.count
    }
}
