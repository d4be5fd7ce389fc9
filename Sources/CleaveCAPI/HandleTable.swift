// Handles: what a C caller holds instead of pointers.
//
//   bits 0-13   cell      a cache line of a table at a constant address
//   bits 14-17  type      never 0
//   bit  18     0         1 in the key of a cell that is being closed
//   bits 19-63  generation of the cell, from 1
//
// A cell: +0 key, the handle that is alive in it, or 0; +8 busy, not 0 while a call that is alone
// on its handle is under way; +16 the object; +24 the generation used last; +32 closing, whether
// somebody wants to hold or to destroy it; +40 users, other calls under way; +48 the next free
// cell.
//
// While a cell is being closed its key differs from every handle in one bit, so that a call on a
// packet path learns from one word that its handle is alive and that nobody wants it.
//
// A call on a packet path takes `busy`, one compare-and-swap. Every other one counts itself among
// the users, under one lock. A destroy waits for both, a bounded time and outside the lock, so that
// nobody uses an object, or what it was made from, once its destroy has returned 0.

import CCleave
import CleaveHost
import CleaveRings
import Glibc

/// What a handle refers to; part of its bits.
enum HandleType: UInt64 {
    case context = 1
    case memory, headerQueue, rq, engine, lane, txq, vhost

    @inline(__always)
    static func bits(of handle: UInt64) -> UInt64 { handle >> UInt64(CLEAVE_SLOT_BITS) & 31 }

    /// The bit above the type, set in the key of a cell that is being closed.
    static let closingBit: UInt64 = 1 << UInt64(CLEAVE_SLOT_BITS + 4)
}

/// One cell of the table.
struct HandleCell {
    let memory: UnsafeMutableRawPointer

    @inline(__always)
    init(_ handle: UInt64) { memory = cleave_slot(handle) }

    @inline(__always) var key: SharedWord64 { SharedWord64(memory) }
    @inline(__always) var busy: SharedWord64 { SharedWord64(memory + 8) }

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

    /// Under the table's lock: whether somebody wants to hold or to destroy the handle.
    var closing: Closing {
        get { memory.load(fromByteOffset: 32, as: Closing.self) }
        nonmutating set {
            memory.storeBytes(of: newValue, toByteOffset: 32, as: Closing.self)
            // Relaxed: who closes takes `busy` next, and a call looks at the key once more after it
            // has taken it.
            let alive = key.load() & ~HandleType.closingBit
            key.store(newValue == .no ? alive : alive | HandleType.closingBit)
        }
    }

    /// Under the table's lock: the handle that is alive in the cell, being closed or not.
    var handle: UInt64 { key.load() & ~HandleType.closingBit }

    /// Under the table's lock: calls under way that are not alone on the handle.
    var userCount: UInt64 {
        get { memory.load(fromByteOffset: 40, as: UInt64.self) }
        nonmutating set { memory.storeBytes(of: newValue, toByteOffset: 40, as: UInt64.self) }
    }

    /// Under the table's lock: the number of the next free cell, plus 1.
    var nextFree: UInt64 {
        get { memory.load(fromByteOffset: 48, as: UInt64.self) }
        nonmutating set { memory.storeBytes(of: newValue, toByteOffset: 48, as: UInt64.self) }
    }

    /// Takes the cell for a call on `handle`.
    /// - Returns: 0, or why not, negated.
    @inline(__always)
    func enter(_ handle: UInt64) -> Int32 {
        // [C1 acquire <- insert's release of the key: the object was made before]
        if key.loadAcquire() != handle { return refusal(of: handle) }
        // [C2 acquire <- leave: what an earlier call, on whatever thread, did]
        if !busy.compareExchange(expected: 0, desired: 1).exchanged { return Refusal.busy }
        if key.load() == handle { return 0 }
        // It was closed in between.
        leave()
        return refusal(of: handle)
    }

    /// Why a key is not the handle.
    @inline(never)
    private func refusal(of handle: UInt64) -> Int32 {
        key.load() & ~HandleType.closingBit == handle ? Refusal.busy : Refusal.stale
    }

    /// How a handle is being closed.
    enum Closing: UInt8 {
        /// Not: calls may come. So it is in a cell of zeroes.
        case no = 0
        /// Calls that are alone on the handle are refused.
        case held
        /// All calls are.
        case ending
    }

    /// Takes the cell of a handle that is being closed, if no call is under way.
    func tryEnterToClose() -> Bool {
        // [C2 acquire <- leave]
        busy.compareExchange(expected: 0, desired: 1).exchanged
    }

    /// Ends the call.
    @inline(__always)
    func leave() {
        // [C2 release -> the next enter]
        busy.storeRelease(0)
    }
}

/// Makes, finds and ends handles; every operation under one lock, none on a packet path.
///
/// There is one table in a process, for handles of all contexts. It lies in zeroed memory and needs
/// no set-up, which a fork could catch half done.
enum HandleTable {
    /// Under the lock.
    private static var supply: cleave_slot_supply {
        get { cleave_slots_supply().pointee }
        set { cleave_slots_supply().pointee = newValue }
    }

    private static func locked<Value, Failure: Error>(
        _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        cleave_slots_lock()
        defer { cleave_slots_unlock() }
        return try body()
    }

    // MARK: Making

    /// Gives `object` a handle; its parents may not be destroyed before it.
    static func insert(_ object: HandleObject) throws(Refusal) -> OpaquePointer {
        try insert([object])[0]
    }

    /// Gives objects handles in one step, all or none; parents come before their children.
    static func insert(_ objects: [HandleObject]) throws(Refusal) -> [OpaquePointer] {
        try locked { () throws(Refusal) -> [OpaquePointer] in
            for parent in objects.flatMap(\.parents)
            where !objects.contains(where: { $0 === parent }) {
                if !parent.isLive { throw Refusal(Refusal.stale, "it was destroyed meanwhile") }
                if parent.isHeld {
                    throw Refusal(Refusal.busy, "what it is made from is being reset or destroyed")
                }
            }
            guard hasSlots(objects.count) else {
                throw Refusal(Refusal.noSlots, "all \(CLEAVE_SLOT_COUNT) handles are in use")
            }
            return objects.compactMap(give)
        }
    }

    /// Under the lock: whether so many cells may be given out.
    private static func hasSlots(_ wanted: Int) -> Bool {
        var count = Int(CLEAVE_SLOT_COUNT) - Int(supply.unused)
        var next = supply.free
        while next != 0 && count < wanted {
            count += 1
            next = HandleCell(next - 1).nextFree
        }
        return count >= wanted
    }

    /// Under the lock, with a cell left.
    private static func give(_ object: HandleObject) -> OpaquePointer? {
        let number: UInt64
        if supply.free != 0 {
            number = supply.free - 1
            supply.free = HandleCell(number).nextFree
        } else {
            number = supply.unused
            supply.unused += 1
        }
        let slot = HandleCell(number)
        slot.generation += 1
        // An object that is given a handle has a type.
        let type = Swift.type(of: object).type?.rawValue ?? 0
        let handle =
            number | type << UInt64(CLEAVE_SLOT_BITS)
            | slot.generation << UInt64(CLEAVE_SLOT_BITS + 5)
        slot.object = Unmanaged.passRetained(object).toOpaque()
        object.isLive = true
        for parent in object.parents { parent.childCount += 1 }
        slot.key.storeRelease(handle)  // [C1 release -> enter]
        return OpaquePointer(bitPattern: UInt(handle))
    }

    // MARK: Using

    /// What a call that is not alone on its handle finds.
    enum Use {
        /// Must be ended by `endUse`; the object stays until then. No reference is counted: one
        /// that outlived the call would be the last one of an object that is gone for its caller.
        case object(Unmanaged<HandleObject>)
        case refused(Int32)
    }

    /// Counts the caller among the users of a handle.
    static func use(_ handle: OpaquePointer?, _ type: HandleType?) -> Use {
        let bits = UInt64(UInt(bitPattern: handle))
        if bits == 0 { return .refused(Refusal.invalid) }
        if let type, HandleType.bits(of: bits) != type.rawValue { return .refused(Refusal.stale) }
        return locked {
            let slot = HandleCell(bits)
            // Keys change under the lock alone.
            guard slot.handle == bits, let object = slot.object else {
                return .refused(Refusal.stale)
            }
            if slot.closing == .ending { return .refused(Refusal.busy) }
            slot.userCount += 1
            return .object(Unmanaged.fromOpaque(object))
        }
    }

    static func endUse(_ handle: OpaquePointer?) {
        locked { HandleCell(UInt64(UInt(bitPattern: handle))).userCount -= 1 }
    }

    /// Keeps with a handle why a call on it was refused at once.
    @inline(never)
    static func noteBusy(_ handle: UInt64) {
        locked {
            let slot = HandleCell(handle)
            if slot.handle != handle { return }
            object(in: slot)?._withUnsafeGuaranteedRef {
                _ = $0.note(Refusal(Refusal.busy, "another call on it is under way"))
            }
        }
    }

    /// Under the lock, or with the cell taken.
    private static func object(in slot: HandleCell) -> Unmanaged<HandleObject>? {
        slot.object.map { Unmanaged<HandleObject>.fromOpaque($0) }
    }

    // MARK: Ending

    /// How long a destroy or hold waits for the end of calls under way, in nanoseconds. Most take
    /// far less; if one takes longer, the caller is told to try again.
    static let patience: UInt64 = 20_000_000

    /// Runs `body` alone with all that was made from `object`, directly or indirectly: calls under
    /// way are waited for, later ones refused, and nothing more is made from it. The caller has
    /// taken the cell of `object` itself.
    static func hold(
        allMadeFrom object: HandleObject, _ body: ([HandleObject]) -> Void
    ) throws(Refusal) {
        let whose = "an object made from it"
        let slots = try locked { () throws(Refusal) -> [HandleCell] in
            let slots = (0..<supply.unused).map { HandleCell($0) }.filter {
                self.object(in: $0)?._withUnsafeGuaranteedRef { $0.descends(from: object) } ?? false
            }
            try close(slots, .held, whose)
            object.isHeld = true
            return slots
        }
        defer {
            locked {
                for slot in slots { slot.closing = .no }
                object.isHeld = false
            }
        }
        try take(slots, whose, users: nil)
        // Its references end before others may destroy.
        body(slots.compactMap { self.object(in: $0)?.takeUnretainedValue() })
        for slot in slots { slot.leave() }
    }

    /// Ends a handle, and with it those of its children named in `children`: all or none. The
    /// caller is among the users of `handle`, and no longer so if this does not throw.
    /// - Parameters:
    ///   - check: runs alone with them, and may refuse.
    ///   - finally: runs before they are gone, and stops what is not in the table.
    static func remove<Object: HandleObject>(
        _ handle: OpaquePointer, _ object: Unmanaged<Object>, children: [OpaquePointer],
        check: (Object) throws(Refusal) -> Void, finally: (Object) -> Void
    ) throws(Refusal) {
        let slots = ([handle] + children).map { HandleCell(UInt64(UInt(bitPattern: $0))) }
        let refusal = object._withUnsafeGuaranteedRef { object -> Refusal? in
            do throws(Refusal) {
                try rest(object, slots, check)
                finally(object)
                return nil
            } catch { return error }
        }
        if let refusal { throw refusal }
        let ended = locked { slots.map(free) }
        // Outside the lock: that may call the program's allocator.
        for object in ended { object.release() }
    }

    /// Takes an object's cells to end it, if nothing was made from it and `check` agrees.
    private static func rest<Object: HandleObject>(
        _ object: Object, _ slots: [HandleCell], _ check: (Object) throws(Refusal) -> Void
    ) throws(Refusal) {
        try locked { () throws(Refusal) in
            guard object.childCount == slots.count - 1 else {
                throw Refusal(
                    Refusal.busy, "\(object.childCount) objects made from it are left")
            }
            try close(slots, .ending, "it")
            object.isHeld = true
        }
        do throws(Refusal) {
            try take(slots, "it", users: 1)
            do throws(Refusal) { try check(object) } catch {
                for slot in slots { slot.leave() }
                throw error
            }
        } catch {
            locked {
                for slot in slots { slot.closing = .no }
                object.isHeld = false
            }
            throw error
        }
    }

    /// Under the lock: refuses later calls on the cells.
    private static func close(
        _ slots: [HandleCell], _ how: HandleCell.Closing, _ whose: String
    ) throws(Refusal) {
        if slots.contains(where: { $0.closing != .no }) {
            throw Refusal(Refusal.busy, "\(whose) is being reset or destroyed")
        }
        for slot in slots { slot.closing = how }
    }

    /// Takes closed cells, all or none: waits for the end of calls under way, outside the lock,
    /// which everybody needs.
    /// - Parameter users: how many of them may be left, the caller being one; nil if they do not
    ///   matter.
    private static func take(
        _ slots: [HandleCell], _ whose: String, users: UInt64?
    ) throws(Refusal) {
        var deadline = Deadline(nanoseconds: patience)
        var taken = 0
        repeat {
            while taken < slots.count && slots[taken].tryEnterToClose() { taken += 1 }
            if taken < slots.count { continue }
            guard let users else { return }
            if locked({ slots.reduce(0) { $0 + $1.userCount } }) == users { return }
        } while deadline.wait()
        for slot in slots.prefix(taken) { slot.leave() }
        throw Refusal(Refusal.busy, "another call on \(whose) is under way")
    }

    /// Under the lock, with the cell taken.
    /// - Returns: the table's reference.
    private static func free(_ slot: HandleCell) -> Unmanaged<HandleObject> {
        // A taken cell has an object.
        let object = Unmanaged<HandleObject>.fromOpaque(slot.object.unsafelyUnwrapped)
        object._withUnsafeGuaranteedRef {
            $0.isLive = false
            for parent in $0.parents { parent.childCount -= 1 }
        }
        slot.key.store(0)
        slot.object = nil
        slot.userCount = 0
        slot.closing = .no
        slot.nextFree = supply.free
        let offset = UInt64(UInt(bitPattern: slot.memory - cleave_slot(0)))
        supply.free = offset / UInt64(CLEAVE_SLOT_BYTES) + 1
        slot.leave()
        return object
    }
}

/// Bounded waiting: yields to other threads, at first without a pause, then in short sleeps.
struct Deadline {
    private let end: UInt64
    private var waits = 0

    init(nanoseconds: UInt64) { end = SystemClock.monotonic + nanoseconds }

    /// - Returns: false, at once, if the time is up.
    mutating func wait() -> Bool {
        if SystemClock.monotonic >= end { return false }
        waits += 1
        if waits < 64 { PinnedThread.yield() } else { usleep(50) }
        return true
    }
}
