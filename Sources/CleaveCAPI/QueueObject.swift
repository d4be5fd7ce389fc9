import CCleave
import CleaveVirtioNet

/// What an RQ and a TXQ on their callers' threads have in common: it ends once, and says once that
/// the driver broke it.
class QueueObject: HandleObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell uses the words at `state`.

    private struct State {
        var isStopped = false
        var reportedFault = false
    }

    private let context: ContextObject
    private let state: UnsafeMutablePointer<State>

    init(_ memory: MemoryObject, otherParents: [HandleObject] = []) {
        context = memory.context
        state = .allocate(capacity: 1)
        state.initialize(to: State())
        super.init(parents: [memory] + otherParents)
    }

    deinit { state.deallocate() }

    /// What the log calls it.
    class var name: String { "queue" }
    /// Why the driver's virtqueue is broken.
    var fault: QueueFault { .none }
    /// Checks that nothing is under way.
    /// - Returns: where the virtqueue is resumed.
    func end() throws(Refusal) -> UInt16 { 0 }

    /// It is not used any more. Read while its cell is held.
    final var isStopped: Bool { state.pointee.isStopped }

    @inline(__always)
    final func checkRunning() throws(Refusal) {
        if state.pointee.isStopped { throw Refusal(Refusal.stopped, "the queue was stopped") }
    }

    /// Ends the use of the virtqueue.
    final func stop() throws(Refusal) -> UInt16 {
        try checkRunning()
        let base = try end()
        state.pointee.isStopped = true
        return base
    }

    /// After a burst that fell short: tells the caller, and the log at the first time, if the
    /// virtqueue is broken.
    final func reportFault(_ events: inout UInt32) {
        let fault = fault
        if fault == .none { return }
        events |= CLEAVE_EVENT_BROKEN.rawValue
        if state.pointee.reportedFault { return }
        state.pointee.reportedFault = true
        context.log(.error, "the driver broke its \(Self.name) queue: \(fault.name)")
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
