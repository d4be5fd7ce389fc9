import CCleave
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet

/// What an RQ and a TXQ on their callers' threads have in common: it ends once, and says once that
/// the driver broke it.
class QueueObject: HandleObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell uses the words at `state`.

    private struct State {
        var isStopped = false
        var reportedFault = false
        /// A `cleave_vhost` ends it, not the program.
        var isOfDevice = false
    }

    private let context: ContextObject
    /// Of the device that it belongs to; nil if it is the program's.
    private let logLimit: LogLimit?
    private let state: UnsafeMutablePointer<State>
    /// Guest memory that the library has mapped stays so as long as this object; nil if it is the
    /// program's.
    private let mappings: MappedMemory?

    /// - Parameter mappings: of a queue of a `cleave_vhost`, which is then among the parents.
    init(_ context: ContextObject, parents: [HandleObject], mappings: MappedMemory?) {
        self.context = context
        self.mappings = mappings
        logLimit = parents.lazy.compactMap { $0 as? VhostObject }.first?.logLimit
        state = .allocate(capacity: 1)
        state.initialize(to: State(isOfDevice: mappings != nil))
        super.init(parents: parents)
    }

    deinit { state.deallocate() }

    /// What the log calls it.
    class var name: String { "queue" }
    /// Why the driver's virtqueue is broken.
    var fault: QueueFault { .none }
    /// Where the virtqueue is resumed, if nothing is under way.
    var position: UInt16 { 0 }
    /// Refuses while something is out that ends with the queue.
    func checkNothingIsOut() throws(Refusal) {}
    /// The virtqueue is not used any more.
    func wasStopped() {}
    /// Gives back what is out.
    func giveAllBack() {}

    /// It is not used any more. Read while its cell is held.
    final var isStopped: Bool { state.pointee.isStopped }

    @inline(__always)
    final func checkRunning() throws(Refusal) {
        if state.pointee.isStopped { throw Refusal(Refusal.stopped, "the queue was stopped") }
    }

    /// Ends the use of the virtqueue.
    final func stop() throws(Refusal) -> UInt16 {
        try checkRunning()
        try checkNothingIsOut()
        state.pointee.isStopped = true
        wasStopped()
        return position
    }

    /// Ends the use of the virtqueue although packets are out, on behalf of the device that the
    /// queue belongs to. It is the program's from now on: what was out stays readable until it is
    /// destroyed.
    final func abandon() -> UInt16 {
        giveAllBack()
        state.pointee.isStopped = true
        wasStopped()
        state.pointee.isOfDevice = false
        return position
    }

    /// Refuses to be destroyed by the program where that is a device's to do.
    final func checkIsProgram() throws(Refusal) {
        if state.pointee.isOfDevice {
            throw Refusal(Refusal.busy, "the queue belongs to a vhost device, which ends it")
        }
    }

    final func log(_ level: ContextObject.Level, _ line: @autoclosure () -> String) {
        context.log(level, limit: logLimit, line())
    }

    /// After a burst that fell short: tells the caller, and the log at the first time, if the
    /// virtqueue is broken.
    final func reportFault(_ events: inout UInt32) {
        let fault = fault
        if fault == .none { return }
        events |= CLEAVE_EVENT_BROKEN.rawValue
        if state.pointee.reportedFault { return }
        state.pointee.reportedFault = true
        log(.error, "the driver broke its \(Self.name) queue: \(fault.name)")
    }
}

/// A stop call.
func stop<Queue: QueueObject>(
    _ handle: OpaquePointer?, as _: Queue.Type, _ base: UnsafeMutablePointer<UInt16>?
) -> Int32 {
    exclusive(handle, as: Queue.self) { object throws(Refusal) in
        let stopped = try object.stop()
        base?.pointee = stopped
        return 0
    }
}
