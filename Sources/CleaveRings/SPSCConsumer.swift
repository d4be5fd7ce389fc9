/// The reading end of an `SPSCRing`: peek, read, release.
///
/// One thread at a time. Peeking has no effect: what is not released stays.
@frozen
public struct SPSCConsumer<Element: BitwiseCopyable>: ~Copyable, @unchecked Sendable {
    // SAFETY: one thread at a time holds this value (it cannot be copied); what it shares with
    // the producer goes through shared words with explicit ordering, and the memory outlives it.
    @usableFromInline let ring: SPSCRing<Element>
    @usableFromInline var head: UInt32
    /// The tail as last seen: stale on the safe side, so the producer's line is read only when
    /// the ring looks too empty.
    @usableFromInline var cachedTail: UInt32

    init(_ ring: SPSCRing<Element>) {
        self.ring = ring
        head = ring.head.load()
        // [R1 acquire <- release in SPSCProducer.commit]
        cachedTail = ring.tail.loadAcquire()
    }

    /// How many of `count` elements can be read now, 0 to `count`.
    @inlinable
    public mutating func peek(_ count: Int) -> Int {
        var ready = Int(cachedTail &- head)
        if ready < count {
            // [R1 acquire <- release in SPSCProducer.commit]
            cachedTail = ring.tail.loadAcquire()
            ready = Int(cachedTail &- head)
        }
        return ready < count ? ready : count
    }

    /// The readable element `offset` (below the count that `peek` gave).
    @inlinable
    public subscript(offset: Int) -> Element {
        ring.elements[ring.index(head &+ UInt32(truncatingIfNeeded: offset))]
    }

    /// Copies elements out from `offset` on, all of them below the count that `peek` gave. They
    /// stay in the ring until `release`.
    @inlinable
    public func read(into elements: UnsafeMutablePointer<Element>, count: Int, at offset: Int) {
        assert(offset + count <= Int(cachedTail &- head), "I3: none that is the producer's")
        let start = ring.index(head &+ UInt32(truncatingIfNeeded: offset))
        let untilEnd = ring.capacity &- start
        let first = count < untilEnd ? count : untilEnd
        elements.update(from: ring.elements + start, count: first)
        if first < count { (elements + first).update(from: ring.elements, count: count &- first) }
    }

    /// Gives the first `count` readable elements back to the producer.
    @inlinable
    public mutating func release(_ count: Int) {
        assert(count >= 0 && count <= Int(cachedTail &- head), "I1: no more than there are")
        head = head &+ UInt32(truncatingIfNeeded: count)
        // [R2 release -> acquire in SPSCProducer.reserve]
        ring.head.storeRelease(head)
    }

    /// Copies up to `count` elements out and releases them.
    /// - Returns: how many there were.
    @inlinable
    public mutating func pop(into elements: UnsafeMutablePointer<Element>, count: Int) -> Int {
        let ready = copy(into: elements, count: count)
        if ready > 0 { release(ready) }
        return ready
    }

    /// Copies up to `count` elements out and leaves them in the ring until `release`.
    /// - Returns: how many there were.
    @inlinable
    public mutating func copy(into elements: UnsafeMutablePointer<Element>, count: Int) -> Int {
        let ready = peek(count)
        read(into: elements, count: ready, at: 0)
        return ready
    }
}
