// A single-producer single-consumer ring in memory that the caller provides.
//
//   +0    published tail   (written by the producer only)
//   +128  published head   (written by the consumer only)
//   +256  element 0, element 1, ... element capacity-1
//
// Invariants (free-running 32-bit cursors):
//   I1  0 <= tail - head <= capacity
//   I2  only the producer moves tail, only the consumer moves head, and neither goes back
//   I3  elements in [head, tail) belong to the consumer, all others to the producer
//   I4  an element's bytes are written before the tail that covers it is released, and read after
//       that tail was acquired [R1]; they are read before the head that frees them is released,
//       and overwritten after that head was acquired [R2]
//
// SAFETY: a ring is two constants; its memory is reached through shared words and through one
// producer and one consumer, and whoever provided it keeps it alive.

/// The shared part of a ring: where it lies and how large it is.
///
/// Make it once over a block of memory, then make one producer and one consumer from it and hand
/// each to its thread. The memory must outlive both.
@frozen
public struct SPSCRing<Element: BitwiseCopyable>: @unchecked Sendable {
    @inlinable static var elementsOffset: Int { 2 * CacheLine.byteCount }

    @usableFromInline let base: UnsafeMutableRawPointer
    /// Elements that the ring holds, a power of two.
    public let capacity: Int

    /// Bytes of memory a ring of `capacity` elements needs.
    public static func byteCount(capacity: Int) -> Int {
        elementsOffset + CacheLine.roundedUp(capacity * MemoryLayout<Element>.stride)
    }

    /// Lays an empty ring over `memory`.
    /// - Parameters:
    ///   - memory: `byteCount(capacity:)` bytes, aligned to `CacheLine.byteCount`.
    ///   - capacity: a power of two, 1 to 2^30 elements; anything else is a caller error and traps.
    public init(memory: UnsafeMutableRawPointer, capacity: Int) {
        precondition(
            capacity > 0 && capacity <= 1 << 30 && capacity & (capacity - 1) == 0,
            "an SPSC ring has a capacity that is a power of two, 1 to 2^30, not \(capacity)")
        precondition(CacheLine.isAligned(memory), "an SPSC ring starts on a cache line")
        base = memory
        self.capacity = capacity
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.elementsOffset)
    }

    // Both ends reach the ring through these: additions of constants to one pointer.
    @inlinable var tail: SharedWord32 { SharedWord32(base) }
    @inlinable var head: SharedWord32 { SharedWord32(base + CacheLine.byteCount) }
    @inlinable var elements: UnsafeMutablePointer<Element> {
        (base + Self.elementsOffset).assumingMemoryBound(to: Element.self)
    }
    /// The number of the element at a cursor.
    @inlinable
    func index(_ cursor: UInt32) -> Int {
        Int(cursor & UInt32(truncatingIfNeeded: capacity &- 1))
    }

    /// The writing end. Only one may be in use at a time.
    public func makeProducer() -> SPSCProducer<Element> { SPSCProducer(self) }

    /// The reading end. Only one may be in use at a time.
    public func makeConsumer() -> SPSCConsumer<Element> { SPSCConsumer(self) }

    /// Elements between head and tail as a third thread may see them: a statistic, not a promise,
    /// except that 0 means that the consumer has released all it was given [R2].
    public var approximateCount: Int {
        // [R1] [R2] Acquired, so that whoever sees 0 also sees what the consumer did before.
        Int(tail.loadAcquire() &- head.loadAcquire()) & (2 * capacity - 1)
    }
}
