// Handles: what a C caller holds instead of pointers.
//
//   bits 0-13   slot      a cache line of a table at a constant address
//   bits 14-17  type      never 0
//   bits 18-63  generation of the slot, from 1
//
// A slot: +0 key, the handle that is alive in it, or 0; +8 busy, not 0 while a call is under way;
// +16 the object; +24 the generation used last; +32 closing, not 0 while somebody wants to destroy.
//
// A call on a packet path takes `busy`, one compare-and-swap. Everything else finds the object
// under one lock and keeps it alive by a reference.

import CCleave
import Host
import Rings

/// What a handle refers to; part of its bits.
enum HandleType: UInt64 {
    case context = 1
    case memory, headerQueue, rq, engine, lane, txq
}

/// One slot of the table.
struct HandleSlot {
    let memory: UnsafeMutableRawPointer

    @inline(__always)
    init(_ handle: UInt64) { memory = cleave_slot(handle) }

    @inline(__always) var key: SharedWord64 { SharedWord64(memory) }
    @inline(__always) var busy: SharedWord64 { SharedWord64(memory + 8) }

    @inline(__always) var closing: SharedWord64 { SharedWord64(memory + 32) }

    /// Meaningful while `busy` is held, or under the table's lock.
    @inline(__always)
    var object: UnsafeMutableRawPointer? {
        get { memory.load(fromByteOffset: 16, as: UnsafeMutableRawPointer?.self) }
        nonmutating set {
            memory.storeBytes(
                of: newValue, toByteOffset: 16, as: UnsafeMutableRawPointer?.self)
        }
    }

    /// Under the table's lock.
    var generation: UInt64 {
        get { memory.load(fromByteOffset: 24, as: UInt64.self) }
        nonmutating set { memory.storeBytes(of: newValue, toByteOffset: 24, as: UInt64.self) }
    }

    /// Takes the slot for a call on `handle`.
    /// - Returns: 0, or why not, negated.
    @inline(__always)
    func enter(_ handle: UInt64) -> Int32 {
        // [C1 acquire <- insert's release of the key: the object was made before]
        if key.loadAcquire() != handle { return Refusal.stale }
        if closing.load() != 0 { return Refusal.busy }
        // [C2 acquire <- leave: what an earlier call, on whatever thread, did]
        if !busy.compareExchange(expected: 0, desired: 1).exchanged { return Refusal.busy }
        if key.load() == handle { return 0 }
        // It was destroyed in between.
        leave()
        return Refusal.stale
    }

    /// Takes the slot of a live handle to destroy it: a call under way is waited for a moment, new
    /// ones are turned away meanwhile, so that it does end.
    func enterToClose() -> Bool {
        closing.store(1)
        defer { closing.store(0) }
        for _ in 0..<Self.maximumYields {
            // [C2 acquire <- leave]
            if busy.compareExchange(expected: 0, desired: 1).exchanged { return true }
            PinnedThread.yield()
        }
        return false
    }

    /// How often a destroyer lets other threads run before it gives up.
    private static let maximumYields = 10_000

    /// Ends the call.
    @inline(__always)
    func leave() {
        // [C2 release -> the next enter]
        busy.storeRelease(0)
    }
}

/// Makes, finds and ends handles; every operation under one lock, none on a packet path.
final class HandleTable: @unchecked Sendable {
    // SAFETY: all stored properties are guarded by `lock`.

    /// Of the process: handles of all instances are told apart by it.
    static let shared = HandleTable()

    private let lock = Lock()
    private var freeSlots: [UInt64] = []
    private var unusedSlot: UInt64 = 0

    /// Gives `object` a handle; its parents may not be destroyed before it.
    func insert(_ object: HandleObject) throws(Refusal) -> OpaquePointer {
        try insert([object])[0]
    }

    /// Gives objects handles at one moment, all or none; parents come before their children.
    func insert(_ objects: [HandleObject]) throws(Refusal) -> [OpaquePointer] {
        try lock.withLock { () throws(Refusal) -> [OpaquePointer] in
            if objects.contains(where: { $0.parents.contains(where: \.isHeld) }) {
                throw Refusal(Refusal.busy, "what it is made from is being reset or destroyed")
            }
            if objects.count > freeSlots.count + Int(CLEAVE_SLOT_COUNT) - Int(unusedSlot) {
                throw Refusal(Refusal.noSlots, "all \(CLEAVE_SLOT_COUNT) handles are in use")
            }
            return objects.compactMap(give)
        }
    }

    /// Under the lock, with a slot left.
    private func give(_ object: HandleObject) -> OpaquePointer? {
        let number = freeSlots.popLast() ?? unusedSlot
        if number == unusedSlot { unusedSlot += 1 }
        let slot = HandleSlot(number)
        slot.generation += 1
        let type = Swift.type(of: object).type.rawValue
        let handle =
            number | type << UInt64(CLEAVE_SLOT_BITS)
            | slot.generation << UInt64(CLEAVE_SLOT_BITS + 4)
        slot.object = Unmanaged.passRetained(object).toOpaque()
        for parent in object.parents { parent.childCount += 1 }
        slot.key.storeRelease(handle)  // [C1 release -> enter, find]
        return OpaquePointer(bitPattern: UInt(handle))
    }

    /// The object behind a handle, kept alive by the reference.
    func find(_ handle: OpaquePointer?) -> HandleObject? {
        guard let handle else { return nil }
        let bits = UInt64(UInt(bitPattern: handle))
        return lock.withLock {
            let slot = HandleSlot(bits)
            // [C1 acquire <- insert's release of the key]
            return slot.key.loadAcquire() == bits ? object(in: slot) : nil
        }
    }

    /// Under the lock.
    private func object(in slot: HandleSlot) -> HandleObject? {
        slot.object.map { Unmanaged<HandleObject>.fromOpaque($0).takeUnretainedValue() }
    }

    /// A slot that was taken, and what is in it.
    private typealias Held = (slot: HandleSlot, object: HandleObject)

    /// Runs `body` alone with all that was made from `object`, by whatever steps: as by a destroy,
    /// calls under way are waited for, later ones refused, and nothing more is made from it. The
    /// caller has taken the slot of `object` itself.
    func hold(
        allMadeFrom object: HandleObject, _ body: ([HandleObject]) -> Void
    ) throws(Refusal) {
        let held = try lock.withLock { () throws(Refusal) -> [Held] in
            let held = live { $0.descends(from: object) }
            try take(held, of: "an object made from it")
            object.isHeld = true
            return held
        }
        // Not under the lock, which is everybody's: it may wait for threads.
        body(held.map(\.object))
        for (slot, _) in held { slot.leave() }
        lock.withLock { object.isHeld = false }
    }

    /// Under the lock: the live objects for which `isWanted` holds.
    private func live(where isWanted: (HandleObject) -> Bool) -> [Held] {
        (0..<unusedSlot).compactMap { number in
            let slot = HandleSlot(number)
            guard let object = object(in: slot), isWanted(object) else { return nil }
            return (slot, object)
        }
    }

    /// Under the lock: takes slots to destroy or to hold what is in them, all or none.
    private func take(_ wanted: [Held], of whose: String) throws(Refusal) {
        for (count, place) in wanted.enumerated() where !place.slot.enterToClose() {
            for (slot, _) in wanted.prefix(count) { slot.leave() }
            throw Refusal(Refusal.busy, "another call on \(whose) is under way")
        }
    }

    /// Ends a handle, and with it those of its children named in `children`: all or none.
    /// - Parameter finally: runs, alone with them, before they are gone: what is not in the table
    ///   is at rest.
    func remove(
        _ handle: OpaquePointer, children: [OpaquePointer] = [], finally: () -> Void = {}
    ) throws(Refusal) {
        let held = try lock.withLock { () throws(Refusal) -> [Held] in
            var held: [Held] = []
            for handle in [handle] + children {
                let bits = UInt64(UInt(bitPattern: handle))
                let slot = HandleSlot(bits)
                // Keys change under the lock alone.
                guard slot.key.load() == bits, let object = object(in: slot) else {
                    throw Refusal(Refusal.stale, "destroyed meanwhile")
                }
                held.append((slot, object))
            }
            let first = held[0].object
            guard first.childCount == children.count else {
                throw Refusal(Refusal.busy, "\(first.childCount) objects made from it are left")
            }
            try take(held, of: "it")
            first.isHeld = true
            return held
        }
        finally()
        // Objects end outside the lock: that may call the program's allocator.
        withExtendedLifetime(held) {
            lock.withLock { for (slot, object) in held { free(slot, object) } }
        }
    }

    /// Under the lock, with the slot taken.
    private func free(_ slot: HandleSlot, _ object: HandleObject) {
        slot.key.store(0)
        slot.object = nil
        for parent in object.parents { parent.childCount -= 1 }
        freeSlots.append(
            UInt64(UInt(bitPattern: slot.memory - cleave_slot(0))) / UInt64(CLEAVE_SLOT_BYTES))
        slot.leave()
        Unmanaged.passUnretained(object).release()
    }
}
