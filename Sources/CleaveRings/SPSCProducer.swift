/// The writing end of an `SPSCRing`: reserve, write, commit.
///
/// One thread at a time. A reservation is only a count: not committing cancels it.
@frozen
public struct SPSCProducer<Element: BitwiseCopyable>: ~Copyable, @unchecked Sendable {
    // SAFETY: one thread at a time holds this value (it cannot be copied); what it shares with
    // the consumer goes through shared words with explicit ordering, and the memory outlives it.
    @usableFromInline let ring: SPSCRing<Element>
    @usableFromInline var tail: UInt32
    /// The head as last seen: stale on the safe side, so the consumer's line is read only when
    /// the ring looks too full.
    @usableFromInline var cachedHead: UInt32

    init(_ ring: SPSCRing<Element>) {
        self.ring = ring
        tail = ring.tail.load()
        // [R2 acquire <- release in SPSCConsumer.release]
        cachedHead = ring.head.loadAcquire()
    }

    /// How many of `count` elements may be written now, 0 to `count`.
    @inlinable
    public mutating func reserve(_ count: Int) -> Int {
        var free = ring.capacity &- Int(tail &- cachedHead)
        if free < count {
            // [R2 acquire <- release in SPSCConsumer.release]
            cachedHead = ring.head.loadAcquire()
            free = ring.capacity &- Int(tail &- cachedHead)
        }
        return free < count ? free : count
    }

    /// The reserved element `offset` (below the count that `reserve` gave).
    @inlinable
    public subscript(offset: Int) -> Element {
        get { ring.elements[ring.index(tail &+ UInt32(truncatingIfNeeded: offset))] }
        nonmutating set {
            ring.elements[ring.index(tail &+ UInt32(truncatingIfNeeded: offset))] = newValue
        }
    }

    /// Copies elements into the reserved ones from `offset` on, all of them below the count that
    /// `reserve` gave. Nobody sees them before `commit`.
    @inlinable
    public func write(_ elements: UnsafePointer<Element>, count: Int, at offset: Int) {
        let start = ring.index(tail &+ UInt32(truncatingIfNeeded: offset))
        let untilEnd = ring.capacity &- start
        let first = count < untilEnd ? count : untilEnd
        (ring.elements + start).update(from: elements, count: first)
        if first < count { ring.elements.update(from: elements + first, count: count &- first) }
    }

    /// Hands the first `count` reserved elements to the consumer.
    @inlinable
    public mutating func commit(_ count: Int) {
        assert(count >= 0 && count <= ring.capacity &- Int(tail &- cachedHead), "I1: none to spare")
        tail = tail &+ UInt32(truncatingIfNeeded: count)
        // [R1 release -> acquire in SPSCConsumer.peek]
        ring.tail.storeRelease(tail)
    }

    /// Copies as many of `count` elements as fit and commits them.
    /// - Returns: how many were taken.
    @inlinable
    public mutating func push(_ elements: UnsafePointer<Element>, count: Int) -> Int {
        let taken = reserve(count)
        if taken == 0 { return 0 }
        write(elements, count: taken, at: 0)
        commit(taken)
        return taken
    }
}
