import CleaveHost

/// Work that other threads ask a switch's control thread for. It is done while the switch is
/// served, between two looks at the ports.
public final class SwitchRequests: @unchecked Sendable {
    // SAFETY: everything that changes is guarded by `lock`.

    private let lock = Lock()
    private var waiting: [@Sendable (Switch) -> Void] = []
    private var isClosed = false
    private let event: EventDescriptor

    init() throws(HostError) { event = try EventDescriptor() }

    /// Has `body` run on the control thread. It must be short: guests' requests wait. Any thread.
    /// - Returns: false if the switch is closed; `body` never runs then.
    @discardableResult
    public func add(_ body: @escaping @Sendable (Switch) -> Void) -> Bool {
        let isTaken = lock.withLock {
            if !isClosed { waiting.append(body) }
            return !isClosed
        }
        if isTaken { event.signal() }
        return isTaken
    }

    /// Has `body` run on the control thread and waits for what it gives. Not on that thread itself.
    /// - Returns: nil if there is no answer in time, or the switch is closed.
    public func ask<Value: Sendable>(
        milliseconds: Int = 5000, _ body: @escaping @Sendable (Switch) -> Value
    ) -> Value? {
        guard let answer = try? Answer<Value>() else { return nil }
        let isTaken = add { answer.give(body($0)) }
        return isTaken ? answer.wait(milliseconds: milliseconds) : nil
    }

    private final class Answer<Value: Sendable>: @unchecked Sendable {
        // SAFETY: `value` is guarded by `lock`.
        private let lock = Lock()
        private var value: Value?
        private let event: EventDescriptor

        init() throws(HostError) { event = try EventDescriptor() }

        func give(_ value: Value) {
            lock.withLock { self.value = value }
            event.signal()
        }

        func wait(milliseconds: Int) -> Value? {
            event.wait(nanoseconds: UInt64(milliseconds) * 1_000_000)
            return lock.withLock { value }
        }
    }

    // MARK: The control thread

    /// Readable when there is something to do.
    var fileDescriptor: Int32 { event.fileDescriptor }

    /// Requests that are served between two looks at the ports.
    private static let batch = 4

    /// Does some of what has been asked for by now; the rest after the next look at the ports.
    func perform(_ joined: Switch) {
        if !event.drain() { return }
        let (bodies, isMore) = lock.withLock {
            let some = waiting.prefix(Self.batch)
            waiting.removeFirst(some.count)
            return (some, !waiting.isEmpty)
        }
        if isMore { event.signal() }
        for body in bodies { body(joined) }
    }

    /// From now on nothing is done any more.
    func close() {
        lock.withLock {
            isClosed = true
            waiting = []
        }
    }
}
