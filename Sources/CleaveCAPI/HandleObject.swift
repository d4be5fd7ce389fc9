import CCleave
import CleaveHost
import Glibc

/// Why a call was refused: what it returns, and the sentence for `cleave_last_error`.
struct Refusal: Error {
    let code: Int32
    let text: String

    init(_ code: Int32, _ text: String) {
        self.code = code
        self.text = text
    }

    static let invalid = -EINVAL
    static let stale = -EBADF
    static let busy = -EBUSY
    static let stopped = -ESHUTDOWN
    static let unsupported = -ENOTSUP
    static let noSlots = -ENOSPC

    static func invalid(_ text: String) -> Refusal { Refusal(invalid, text) }
    static func null(_ name: String) -> Refusal { Refusal(invalid, "\(name) is NULL") }
    static func unsupported(_ text: String) -> Refusal { Refusal(unsupported, text) }

    /// An error of a lower layer: the system's code for a shortage, otherwise `-EINVAL`.
    init(_ error: some ErrorWithCode, _ subject: String = "") {
        let shortages = [ENOMEM, EMFILE, ENFILE]
        let code = error.code.map { shortages.contains($0) ? -$0 : Self.invalid }
        self.init(code ?? Self.invalid, "\(subject)\(error)")
    }
}

/// The object of a handle.
///
/// Constant but for its error text, which has a lock, and `childCount`, `isLive` and `isHeld`,
/// which the handle table's lock guards.
class HandleObject: @unchecked Sendable {
    // SAFETY: see above; subclasses say how they guard what they add.

    /// Objects that may not be destroyed before this one.
    let parents: [HandleObject]
    /// Live handles that have this object among their parents.
    var childCount = 0
    /// It has a handle.
    var isLive = false
    /// Nothing may be made from it: it is being destroyed, or all that was made from it is held.
    var isHeld = false
    private let errorLock = Lock()
    private var error = ""

    init(parents: [HandleObject]) { self.parents = parents }

    /// Its handles' type; nil for objects of any.
    class var type: HandleType? { nil }

    /// Whether it was made from `object`, or from something that was.
    func descends(from object: HandleObject) -> Bool {
        parents.contains { $0 === object || $0.descends(from: object) }
    }

    /// Sentence of the last failure.
    var lastError: String { errorLock.withLock { error } }

    /// Keeps a failure's sentence and gives its code.
    func note(_ refusal: Refusal) -> Int32 {
        errorLock.withLock { error = refusal.text }
        return refusal.code
    }
}

/// A call that may run beside others on the same handle: finds the object, keeps a failure's
/// sentence.
func control<Object: HandleObject>(
    _ handle: OpaquePointer?, as type: Object.Type,
    _ body: (Object) throws(Refusal) -> Int32
) -> Int32 {
    cleave_call_begin()
    defer { cleave_call_end() }
    switch HandleTable.use(handle, type.type) {
    case .refused(let code): return code
    case .object(let object):
        defer { HandleTable.endUse(handle) }
        return call(object, body)
    }
}

extension HandleObject {
    /// The object of a live handle. It is retained, but may be destroyed meanwhile: then what is
    /// made from it is refused (`HandleTable.insert`).
    static func live(_ handle: OpaquePointer?) -> Self? {
        guard case .object(let object) = HandleTable.use(handle, type) else { return nil }
        defer { HandleTable.endUse(handle) }
        // SAFETY: as in `call`.
        return Unmanaged<Self>.fromOpaque(object.toOpaque()).takeUnretainedValue()
    }
}

/// Runs `body` with the object that a handle of its type was found to have.
private func call<Object: HandleObject>(
    _ object: Unmanaged<HandleObject>, _ body: (Object) throws(Refusal) -> Int32
) -> Int32 {
    // SAFETY: the handle's type is the object's, and the caller ensures that it stays.
    let object = Unmanaged<Object>.fromOpaque(object.toOpaque())
    return object._withUnsafeGuaranteedRef { object in
        do throws(Refusal) { return try body(object) } catch { return object.note(error) }
    }
}

/// A call that is alone on its handle: any other one meanwhile is refused. No lock, no reference
/// counted, so that it costs a packet path next to nothing.
@inline(__always)
func exclusive<Object: HandleObject>(
    _ handle: OpaquePointer?, as type: Object.Type,
    _ body: (borrowing Object) throws(Refusal) -> Int32
) -> Int32 {
    let bits = UInt64(UInt(bitPattern: handle))
    if HandleType.bits(of: bits) != Object.type?.rawValue {
        return bits == 0 ? Refusal.invalid : Refusal.stale
    }
    let slot = HandleCell(bits)
    let entered = slot.enter(bits)
    if entered != 0 {
        if entered == Refusal.busy { HandleTable.noteBusy(bits) }
        return entered
    }
    defer { slot.leave() }
    // SAFETY: the key told type and liveness; a live cell has an object, and it stays while the
    // cell is held.
    let object = Unmanaged<Object>.fromOpaque(slot.object.unsafelyUnwrapped)
    return object._withUnsafeGuaranteedRef { object in
        do throws(Refusal) { return try body(object) } catch { return object.note(error) }
    }
}

/// The same for a call that also tells what happened (`cleave_events`): stored whatever the result,
/// but not if `events` is NULL.
@inline(__always)
func exclusive<Object: HandleObject>(
    _ handle: OpaquePointer?, as type: Object.Type, telling events: UnsafeMutablePointer<UInt32>?,
    _ body: (borrowing Object, inout UInt32) throws(Refusal) -> Int32
) -> Int32 {
    exclusive(handle, as: type) { object throws(Refusal) in
        var happened: UInt32 = 0
        defer { events?.pointee = happened }
        return try body(object, &happened)
    }
}

/// A create call: reads the configuration, makes an object of it and gives that a handle.
/// - Parameters:
///   - zero: a zeroed configuration.
///   - minimum: bytes that the configuration had at first.
///   - target: where the handle goes; `name` is the name of its parameter.
func create<Parent: HandleObject, Configuration: BitwiseCopyable>(
    under parent: OpaquePointer?, as _: Parent.Type, _ config: UnsafePointer<Configuration>?,
    zero: Configuration, minimum: Int = MemoryLayout<Configuration>.size,
    to target: UnsafeMutablePointer<OpaquePointer?>?, named name: String,
    _ make: (Parent, Configuration) throws(Refusal) -> HandleObject
) -> Int32 {
    control(parent, as: Parent.self) { parent throws(Refusal) in
        guard let target else { throw .null(name) }
        let configuration = try readSized(config, minimum: minimum, into: zero, "config")
        target.pointee = try HandleTable.insert(make(parent, configuration))
        return 0
    }
}

/// A call that fills a structure of counters.
func report<Object: HandleObject, Counters: BitwiseCopyable>(
    on handle: OpaquePointer?, as _: Object.Type, to counters: UnsafeMutablePointer<Counters>?,
    _ read: (Object) -> Counters
) -> Int32 {
    control(handle, as: Object.self) { object throws(Refusal) in
        try writeSized(read(object), to: counters, "counters")
        return 0
    }
}

/// A destroy call.
/// - Parameters:
///   - children: handles that end with it.
///   - check: refuses while something is out that would be lost.
///   - finally: stops what is not in the table.
func destroy<Object: HandleObject>(
    _ handle: OpaquePointer?, as type: Object.Type,
    children: (Object) -> [OpaquePointer] = { _ in [] },
    check: (Object) throws(Refusal) -> Void = { _ throws(Refusal) in },
    finally: (Object) -> Void = { _ in }
) -> Int32 {
    guard let handle else { return Refusal.invalid }
    cleave_call_begin()
    defer { cleave_call_end() }
    switch HandleTable.use(handle, type.type) {
    case .refused(let code): return code
    case .object(let object):
        // SAFETY: as in `call`.
        let object = Unmanaged<Object>.fromOpaque(object.toOpaque())
        do throws(Refusal) {
            try HandleTable.remove(
                handle, object, children: object._withUnsafeGuaranteedRef(children), check: check,
                finally: finally)
            return 0
        } catch {
            defer { HandleTable.endUse(handle) }
            return object._withUnsafeGuaranteedRef { $0.note(error) }
        }
    }
}
