import CCleaveHost
import CleaveRings

/// A worker's handle on a header queue: claims the slots of a burst in one bounded operation.
///
/// A value of constants, free to copy; the `HeaderQueue` it came from must outlive it.
///
/// By the tail, claimed ranges are disjoint because they are cut from one 64-bit cursor in host
/// memory (which never wraps), and slots of a burst are contiguous modulo slotCount.
struct HeaderClaimer: BitwiseCopyable {
    let slots: UnsafeMutableRawPointer
    /// Guest word, written by the driver.
    let driverTail: SharedWord32
    /// Guest word, written by the device: a copy of `claimedHead`.
    let reportedHead: SharedWord32
    /// Guest word, written by the device: not 0 once the queue is broken.
    let reportedStatus: SharedWord32
    /// Host word: the next slot to claim, free-running; from the queue's base on. Unused by queues
    /// whose slots come back out of order.
    let claimedHead: SharedWord64
    /// Host word: not 0 once the tail was found where it cannot be.
    let brokenWord: SharedWord32
    let slotShift: UInt32
    let slotCount: UInt32
    /// Used in place of `driverTail` by queues whose slots come back out of order.
    var returns: ReturnRing

    /// A claimer that never finds a slot, for queues that do not split.
    /// - Parameter memory: zeroed bytes that stay untouched.
    static func none(_ memory: UnsafeMutableRawPointer) -> HeaderClaimer {
        HeaderClaimer(
            slots: memory, driverTail: SharedWord32(memory), reportedHead: SharedWord32(memory),
            reportedStatus: SharedWord32(memory), claimedHead: SharedWord64(memory),
            brokenWord: SharedWord32(memory), slotShift: 0,
            slotCount: 0, returns: .none(memory))
    }

    /// Attempts before a worker gives up and goes unsplit for this burst: a bound on what other
    /// claimers and a tail that moves at full speed can cost.
    static let maximumTries = 8

    struct Claim: BitwiseCopyable {
        /// Free-running number of the first slot; of a return ring, counted from the start of the
        /// claim's first group.
        var first: UInt32
        /// How many slots, 0 to what was asked.
        var count: Int
        /// Compare-and-swaps that another claimer won.
        var retries: Int
    }

    @inline(__always) var isBroken: Bool { brokenWord.load() != 0 }

    /// Claims up to `wanted` slots: as many as are free.
    @inline(__always)
    func claim(_ wanted: Int) -> Claim {
        if wanted == 0 || isBroken { return Claim(first: 0, count: 0, retries: 0) }
        // [H2 acquire <- another claimer] After it the tail is no older than what that one saw.
        var start = claimedHead.loadAcquire()
        var retries = 0
        while retries < Self.maximumTries {
            // [H1 acquire <- the driver's release of tail: it has done with the slots below]
            let free = driverTail.loadAcquire() &- UInt32(truncatingIfNeeded: start)
            if free > slotCount {
                // A stale `start` looks the same as a tail that lies; only with the head unmoved
                // is it the tail.
                let now = claimedHead.loadAcquire()  // [H2]
                if now == start {
                    markBroken(at: start)
                    break
                }
                start = now
                retries &+= 1
                continue
            }
            let count = Self.cut(wanted, to: free)
            if count == 0 {
                cleave_probe_header_queue_empty(slots, UInt64(truncatingIfNeeded: wanted))
                break
            }
            // [H2 both ways: claims are ordered among workers]
            let attempt = claimedHead.compareExchange(
                expected: start, desired: start &+ UInt64(count))
            if attempt.exchanged {
                assert(count > 0 && count <= Int(slotCount) && count <= wanted)
                let first = UInt32(truncatingIfNeeded: start)
                // For observation: two workers may store out of order, so it can lag.
                reportedHead.store(first &+ UInt32(truncatingIfNeeded: count))
                probeClaim(wanted, count, free: Int(free))
                return Claim(first: first, count: count, retries: retries)
            }
            start = attempt.original
            retries &+= 1
        }
        return Claim(first: 0, count: 0, retries: retries)
    }

    /// Breaks the queue: nothing is claimed until a reset, and the driver can read that.
    @inline(never)
    func markBroken(at position: UInt64) {
        // Neither needs release order, since neither tells of anything before it. Another worker
        // that does not see it yet claims what it might have claimed earlier. A driver gets no slot
        // by it: what was split comes by its used ring [V2], and slots are given anew after a
        // reset, which is told by a release [H8].
        brokenWord.store(1)
        reportedStatus.store(HeaderQueueStatus.broken)
        cleave_probe_header_queue_broken(slots, position)
    }

    @inline(__always)
    func probeClaim(_ wanted: Int, _ count: Int, free: Int) {
        cleave_probe_claim(
            slots, UInt64(truncatingIfNeeded: wanted), UInt64(truncatingIfNeeded: count),
            UInt64(truncatingIfNeeded: free))
    }

    @inline(__always)
    private static func cut(_ wanted: Int, to free: UInt32) -> Int {
        #if ModelCheck
        if SeededBug.claimWithoutBound.isOn { return wanted }
        #endif
        return Int(free) < wanted ? Int(free) : wanted
    }

    @inline(__always) var slotSize: Int { 1 &<< Int(slotShift) }
}
