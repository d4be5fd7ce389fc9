// control path
//
// The other side of the seam: shared words of a build that checks interleavings (package trait
// ModelCheck). Each access asks a `ModelMemory`, which may let other threads run first and chooses
// what a load sees, so the production code above is explored unchanged. No other build contains any
// of this.
//
// SAFETY: with a `ModelMemory` set, it lets one thread run at a time; without one, one thread
// uses the words (set-up and inspection).
#if ModelCheck

/// What an access orders.
public enum ModelOrder: Sendable {
    case relaxed, acquire, release, acquireRelease, sequential
}

/// Decides what accesses to shared words do. One thread at a time calls it.
public protocol ModelMemory: AnyObject {
    /// A load of the word at `address`.
    /// - Returns: what it sees: the newest value, or an older one that the order allows.
    func read(_ address: UnsafeMutableRawPointer, bits: Int, _ order: ModelOrder) -> UInt64
    func write(
        _ value: UInt64, to address: UnsafeMutableRawPointer, bits: Int, _ order: ModelOrder)
    /// A read-modify-write: always of the newest value.
    /// - Parameter new: what to store for the value found; nil stores nothing, and the access was
    ///   an acquire load.
    /// - Returns: the value found.
    func change(
        _ address: UnsafeMutableRawPointer, bits: Int, _ order: ModelOrder,
        _ new: (UInt64) -> UInt64?
    ) -> UInt64
}

/// Where the scheduler of interleavings is installed.
public enum ModelSeam {
    /// Set while modelled threads run.
    nonisolated(unsafe) public static var memory: (any ModelMemory)?
    /// Bugs switched on.
    nonisolated(unsafe) public static var bugs: Set<SeededBug> = []
}

/// Bugs that can be switched on, to see that the tests find them.
public enum SeededBug: Sendable, CaseIterable {
    /// A claim takes what is wanted, however few slots are free.
    case claimWithoutBound
    /// The tail moves past any complete group, the oldest or not.
    case retireOutOfOrder
    /// The tail moves before the group's word is reset.
    case tailBeforeReset
    /// A group that is out counts in whichever ring it stands.
    case acceptOfAnyRing
    /// A group that nobody has had is taken by a plain store.
    case takeNobodysByStore
    /// A return ring's lock is given back before the entries taken are counted.
    case unlockTooEarly
    /// A group is posted before its word is reset.
    case postBeforeReset
    /// An acknowledgement of any earlier pause counts as one of the last.
    case acknowledgeWithoutNumber

    public var isOn: Bool { ModelSeam.bugs.contains(self) }
}

/// A shared word whose accesses go through `ModelSeam.memory`.
@frozen
public struct ModelWord<Value: FixedWidthInteger & UnsignedInteger>: @unchecked Sendable {
    let cell: UnsafeMutablePointer<Value>
    private var address: UnsafeMutableRawPointer { cellAddress }
    /// Where the word lies, to look at it without an access.
    public var cellAddress: UnsafeMutableRawPointer { UnsafeMutableRawPointer(cell) }

    /// Refers to the word at `address`, which must be aligned to its size and outlive this value.
    public init(_ address: UnsafeMutableRawPointer) {
        cell = address.assumingMemoryBound(to: Value.self)
    }

    /// Frees a word whose address came from `allocate`.
    public func deallocate() { cell.deallocate() }

    private func read(_ order: ModelOrder) -> Value {
        guard let memory = ModelSeam.memory else { return address.load(as: Value.self) }
        return Value(truncatingIfNeeded: memory.read(address, bits: Value.bitWidth, order))
    }

    private func write(_ value: Value, _ order: ModelOrder) {
        guard let memory = ModelSeam.memory else {
            return address.storeBytes(of: value, as: Value.self)
        }
        memory.write(UInt64(value), to: address, bits: Value.bitWidth, order)
    }

    private func change(_ order: ModelOrder, _ new: (Value) -> Value?) -> Value {
        guard let memory = ModelSeam.memory else {
            let old = address.load(as: Value.self)
            if let value = new(old) { address.storeBytes(of: value, as: Value.self) }
            return old
        }
        let old = memory.change(address, bits: Value.bitWidth, order) { found in
            new(Value(truncatingIfNeeded: found)).map { UInt64($0) }
        }
        return Value(truncatingIfNeeded: old)
    }

    public func load() -> Value { read(.relaxed) }
    public func loadAcquire() -> Value { read(.acquire) }
    public func loadSequential() -> Value { read(.sequential) }
    public func store(_ value: Value) { write(value, .relaxed) }
    public func storeRelease(_ value: Value) { write(value, .release) }
    public func storeSequential(_ value: Value) { write(value, .sequential) }

    public func addSingleWriter(_ amount: Value) { store(load() &+ amount) }

    public func compareExchange(
        expected: Value, desired: Value
    ) -> (exchanged: Bool, original: Value) {
        let original = change(.acquireRelease) { $0 == expected ? desired : nil }
        return (original == expected, original)
    }

    public func fetchAdd(_ amount: Value) { _ = change(.relaxed) { $0 &+ amount } }
    public func fetchAddOrdered(_ amount: Value) -> Value {
        change(.acquireRelease) { $0 &+ amount }
    }
    public func fetchOr(_ bits: Value) -> Value { change(.acquireRelease) { $0 | bits } }
}

public typealias SharedWord16 = ModelWord<UInt16>
public typealias SharedWord32 = ModelWord<UInt32>
public typealias SharedWord64 = ModelWord<UInt64>

#endif
