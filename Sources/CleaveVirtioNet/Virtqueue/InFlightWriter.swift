import CleaveRings

/// Writes the in-flight region of a packed queue, in the layout of vhost-user ("Inflight I/O
/// tracking"): which lists were taken and not yet used, and where the ring's next used descriptor
/// goes.
///
/// Publishing a burst overwrites the heads of its lists before the driver sees that any is used, so
/// a device that dies within leaves descriptors of which the ring shows nothing any more. The
/// region still has them. A split ring keeps what is in flight by itself: nothing overwrites its
/// available ring.
///
/// The region is never read: the front-end may write it. What the device needs of it is kept in
/// host memory. Its words are written in an order such that a device that stops between any two of
/// them has left a region to resume from (`InFlightRecord`).
struct InFlightWriter: BitwiseCopyable {
    static var headerByteCount: Int { 32 }
    static var entryByteCount: Int { 32 }
    static var version: UInt64 { 1 }

    /// Host words of a writer.
    struct State {
        /// First entry of the free list; `size` if it is empty.
        var free = 0
        /// The same without the lists that the next publish gives back.
        var oldFree = 0
        /// Where the ring is used up to.
        var used: PackedCursor
        /// Number of the next list.
        var counter: UInt64 = 0
        /// Lists that the next publish gives back.
        var batchCount = 0
    }

    let region: UnsafeMutableRawPointer
    /// Descriptors in the ring, and entries in the region.
    let size: Int
    let state: UnsafeMutablePointer<State>
    /// The entry after each entry of a list, or of the free list.
    let next: UnsafeMutablePointer<UInt16>
    /// First entry of the list whose head is at this place of the ring.
    let heads: UnsafeMutablePointer<UInt16>
    /// First entries of the lists that the next publish gives back.
    let batch: UnsafeMutablePointer<UInt16>

    @inline(__always)
    private func word(_ entry: Int, _ number: Int) -> SharedWord64 {
        let offset = entry &* Self.entryByteCount &+ 8 &* number
        return SharedWord64(region + (Self.headerByteCount &+ offset))
    }

    /// version 16 | entries 16 | free 16 | free before the next publish 16
    private var freeWord: UInt64 {
        Self.word(
            UInt64(size) &<< 16 | Self.version, state.pointee.free, state.pointee.oldFree)
    }

    /// A word with two numbers above its lower half.
    @inline(__always)
    private static func word(_ lower: UInt64, _ third: Int, _ fourth: Int) -> UInt64 {
        let upper = UInt64(third) | UInt64(fourth) &<< 16
        return lower | upper &<< 32
    }

    /// used 16 | used before the last publish 16 | their wrap counters, 8 each | 0
    static func usedWord(_ used: PackedCursor, old: PackedCursor) -> UInt64 {
        let lower = UInt64(used.offset) | UInt64(old.offset) &<< 16
        return word(lower, (used.wrap ? 1 : 0) | (old.wrap ? 0x100 : 0), 0)
    }

    /// The list of `count` descriptors at place `place` of `ring` is in flight.
    func take(_ ring: UnsafeMutableRawPointer, at place: Int, _ count: Int) {
        let head = state.pointee.free
        var (entry, last, offset) = (head, head, place)
        for _ in 0..<count {
            // What the driver makes of it meanwhile is checked when it is read again.
            let descriptor = ring + offset &* PackedLayout.descriptorByteCount
            let rest = SharedWord64(descriptor + PackedLayout.restOffset).load()
            // Ring: len 32 | id 16 | flags 16. Region: id 16 | flags 16 | len 32.
            word(entry, 2).store(rest &>> 32 | rest &<< 32)
            word(entry, 3).store(SharedWord64(descriptor).load())
            last = entry
            entry = Int(next[entry])
            offset &+= 1
            if offset == size { offset = 0 }
        }
        word(head, 1).store(state.pointee.counter)
        // [F1 release -> the device that resumes: the list's descriptors]
        word(head, 0).storeRelease(
            Self.word(UInt64(next[head]) &<< 16 | 1, last, count))
        state.pointee.counter &+= 1
        (state.pointee.free, state.pointee.oldFree) = (entry, entry)
        // [F1 release -> the device that resumes] Until now the list's entries were free, and what
        // they say did not count.
        SharedWord64(region + 8).storeRelease(freeWord)
        heads[place] = UInt16(truncatingIfNeeded: head)
    }

    /// The list of `count` descriptors whose head is at `place` is given back by the next publish.
    func use(_ place: Int, _ count: Int) {
        let head = Int(heads[place])
        var last = head
        for _ in 1..<count { last = Int(next[last]) }
        next[last] = UInt16(truncatingIfNeeded: state.pointee.free)
        let link = UInt64(next[last]) &<< 16
        // It is still in flight, and told to be so until it is published.
        word(last, 0).store(
            last == head ? Self.word(link | 1, last, count) : link)
        state.pointee.free = head
        batch[state.pointee.batchCount] = UInt16(truncatingIfNeeded: head)
        state.pointee.batchCount &+= 1
    }

    /// The publish that follows gives back all lists up to `end`.
    func begin(_ end: PackedCursor) {
        // [F1 release -> the device that resumes: it finds the free list's links]
        SharedWord64(region + 8).storeRelease(freeWord)
        // [F1 release -> the device that resumes] Sequential: the ring is written after it.
        SharedWord64(region + 16).storeSequential(Self.usedWord(end, old: state.pointee.used))
        state.pointee.used = end
    }

    /// The publish is done.
    func commit() {
        for index in 0..<state.pointee.batchCount {
            let head = Int(batch[index])
            // [F1 release -> the device that resumes: the ring shows that it is used]
            word(head, 0).storeRelease(UInt64(next[head]) &<< 16)
        }
        state.pointee.batchCount = 0
        state.pointee.oldFree = state.pointee.free
        let used = state.pointee.used
        SharedWord64(region + 8).storeRelease(freeWord)  // [F1]
        SharedWord64(region + 16).storeRelease(Self.usedWord(used, old: used))  // [F1]
    }
}
