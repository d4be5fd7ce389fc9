// The one seam for atomics: every word that two threads (or a guest and this process) share is
// reached through one of these types. It is the only file that imports Synchronization, so a
// scheduler of interleavings can replace the words here and nowhere else: ModelWord.swift does, in
// a build with the trait ModelCheck.
//
// Each type is a pointer to a naturally aligned word that somebody else owns: a ring's index
// line, or guest memory. The names say the ordering on the access; there are no fences, which
// ThreadSanitizer could not follow.
//
// SAFETY: `Atomic<UIntN>` has the size, stride and layout of UIntN (asserted in RingsTests), and
// an atomic access through a pointer to it compiles to the plain instruction of that ordering.
// The caller guarantees that the word outlives the value and is aligned to its size.
//
// Three types and not one generic: Synchronization has a `load` and a `store` for each width and no
// protocol over them, so a generic would need a witness of each operation for each width.
#if !ModelCheck
import Synchronization

/// A shared 16-bit word, such as `avail.idx`.
@frozen
public struct SharedWord16: @unchecked Sendable {
    @usableFromInline let cell: UnsafeMutablePointer<Atomic<UInt16>>

    /// Refers to the word at `address`, which must be aligned to 2 bytes and outlive this value.
    @inlinable
    public init(_ address: UnsafeMutableRawPointer) {
        cell = address.assumingMemoryBound(to: Atomic<UInt16>.self)
    }

    @inlinable public func load() -> UInt16 { cell.pointee.load(ordering: .relaxed) }
    @inlinable public func loadAcquire() -> UInt16 { cell.pointee.load(ordering: .acquiring) }
    @inlinable public func store(_ value: UInt16) { cell.pointee.store(value, ordering: .relaxed) }
    @inlinable public func storeRelease(_ value: UInt16) {
        cell.pointee.store(value, ordering: .releasing)
    }

    /// Acquires, and is not reordered before an earlier `storeSequential` of this thread.
    @inlinable public func loadSequential() -> UInt16 {
        cell.pointee.load(ordering: .sequentiallyConsistent)
    }
    /// Releases, and is visible to all before a later `loadSequential` of this thread reads.
    @inlinable public func storeSequential(_ value: UInt16) {
        cell.pointee.store(value, ordering: .sequentiallyConsistent)
    }

    /// Replaces `expected` by `desired`; orders both ways on success, nothing on failure.
    /// - Returns: whether it was replaced, and the value found.
    @inlinable
    public func compareExchange(
        expected: UInt16, desired: UInt16
    ) -> (exchanged: Bool, original: UInt16) {
        cell.pointee.compareExchange(
            expected: expected, desired: desired, successOrdering: .acquiringAndReleasing,
            failureOrdering: .acquiring)
    }
}

/// A shared 32-bit word, such as a ring index or the tail of a header queue.
@frozen
public struct SharedWord32: @unchecked Sendable {
    @usableFromInline let cell: UnsafeMutablePointer<Atomic<UInt32>>

    /// Refers to the word at `address`, which must be aligned to 4 bytes and outlive this value.
    @inlinable
    public init(_ address: UnsafeMutableRawPointer) {
        cell = address.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Frees a word whose address came from `allocate`.
    public func deallocate() { cell.deallocate() }

    @inlinable public func load() -> UInt32 { cell.pointee.load(ordering: .relaxed) }
    @inlinable public func loadAcquire() -> UInt32 { cell.pointee.load(ordering: .acquiring) }
    @inlinable public func store(_ value: UInt32) { cell.pointee.store(value, ordering: .relaxed) }
    @inlinable public func storeRelease(_ value: UInt32) {
        cell.pointee.store(value, ordering: .releasing)
    }

    /// Acquires, and is not reordered before an earlier `storeSequential` of this thread.
    @inlinable public func loadSequential() -> UInt32 {
        cell.pointee.load(ordering: .sequentiallyConsistent)
    }
    /// Releases, and is visible to all before a later `loadSequential` of this thread reads.
    @inlinable public func storeSequential(_ value: UInt32) {
        cell.pointee.store(value, ordering: .sequentiallyConsistent)
    }
}

/// A shared 64-bit word, such as a descriptor's half, a claim cursor or a retire bitmap.
@frozen
public struct SharedWord64: @unchecked Sendable {
    @usableFromInline let cell: UnsafeMutablePointer<Atomic<UInt64>>

    /// Refers to the word at `address`, which must be aligned to 8 bytes and outlive this value.
    @inlinable
    public init(_ address: UnsafeMutableRawPointer) {
        cell = address.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// Frees a word whose address came from `allocate`.
    public func deallocate() { cell.deallocate() }

    @inlinable public func load() -> UInt64 { cell.pointee.load(ordering: .relaxed) }
    @inlinable public func loadAcquire() -> UInt64 { cell.pointee.load(ordering: .acquiring) }
    @inlinable public func store(_ value: UInt64) { cell.pointee.store(value, ordering: .relaxed) }
    @inlinable public func storeRelease(_ value: UInt64) {
        cell.pointee.store(value, ordering: .releasing)
    }

    /// Releases, and is visible to all before a later `loadSequential` of this thread reads.
    @inlinable public func storeSequential(_ value: UInt64) {
        cell.pointee.store(value, ordering: .sequentiallyConsistent)
    }

    /// Acquires, and is not reordered before an earlier `storeSequential` of this thread.
    @inlinable public func loadSequential() -> UInt64 {
        cell.pointee.load(ordering: .sequentiallyConsistent)
    }

    /// Adds to a word that only this thread writes: no read-modify-write instruction is needed,
    /// readers may lag.
    @inlinable
    public func addSingleWriter(_ amount: UInt64) {
        cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// Replaces `expected` by `desired`; orders both ways on success, nothing on failure.
    /// - Returns: whether it was replaced, and the value found.
    @inlinable
    public func compareExchange(
        expected: UInt64, desired: UInt64
    ) -> (exchanged: Bool, original: UInt64) {
        cell.pointee.compareExchange(
            expected: expected, desired: desired, successOrdering: .acquiringAndReleasing,
            failureOrdering: .acquiring)
    }

    /// Adds, in any thread; orders nothing. For statistics off the packet path.
    @inlinable
    public func fetchAdd(_ amount: UInt64) {
        cell.pointee.wrappingAdd(amount, ordering: .relaxed)
    }

    /// Adds, in any thread; orders both ways.
    /// - Returns: the value before.
    @inlinable
    public func fetchAddOrdered(_ amount: UInt64) -> UInt64 {
        cell.pointee.wrappingAdd(amount, ordering: .acquiringAndReleasing).oldValue
    }

    /// Sets bits; orders both ways.
    /// - Returns: the value before.
    @inlinable
    public func fetchOr(_ bits: UInt64) -> UInt64 {
        cell.pointee.bitwiseOr(bits, ordering: .acquiringAndReleasing).oldValue
    }
}

#endif
