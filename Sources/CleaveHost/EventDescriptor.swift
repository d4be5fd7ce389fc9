import CCleaveHost
import Glibc

/// An eventfd: a wake-up that another thread or process can wait for with poll.
///
/// Non-blocking and close-on-exec; closed exactly once, when the value ends. `signal` and `drain`
/// may be called from any thread.
public struct EventDescriptor: ~Copyable, Sendable {
    /// The descriptor, for poll and for passing to a peer; owned by this value.
    public let fileDescriptor: Int32

    /// Creates an event that is not signalled.
    public init() throws(HostError) {
        let result = cleave_eventfd()
        if result < 0 {
            throw HostError("eventfd", code: -result, "cannot create an event descriptor")
        }
        fileDescriptor = result
    }

    deinit { close(fileDescriptor) }

    /// Makes the descriptor readable. Signals that nobody drained add up to one.
    public func signal() {
        var one: UInt64 = 1
        // EAGAIN means that the counter is full, that is: signalled already.
        while write(fileDescriptor, &one, 8) < 0 && cleave_errno() == EINTR {}
    }

    /// Waits for a signal, here or at another descriptor, and leaves it pending.
    /// - Parameters:
    ///   - other: a descriptor beside this one; negative for none.
    ///   - nanoseconds: how long at most; the kernel's timer slack comes on top.
    /// - Returns: whether one is pending.
    @discardableResult
    public func wait(orAt other: Int32 = -1, nanoseconds: UInt64) -> Bool {
        cleave_event_wait(fileDescriptor, other, nanoseconds) != 0
    }

    /// Clears all pending signals.
    /// - Returns: whether there was one.
    @discardableResult
    public func drain() -> Bool {
        var count: UInt64 = 0
        while true {
            let result = read(fileDescriptor, &count, 8)
            if result < 0 && cleave_errno() == EINTR { continue }
            return result == 8 && count > 0
        }
    }
}
