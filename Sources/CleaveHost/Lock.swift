import Glibc

/// A mutex for the control path.
public final class Lock: @unchecked Sendable {
    // SAFETY: a pthread mutex needs a stable address, and memory allocated for it has one.
    private let cell = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    public init() {
        cell.initialize(to: pthread_mutex_t())
        pthread_mutex_init(cell, nil)
    }

    deinit {
        pthread_mutex_destroy(cell)
        cell.deinitialize(count: 1)
        cell.deallocate()
    }

    /// Runs `body` while no other thread does so under this lock.
    public func withLock<Value, Failure: Error>(
        _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        pthread_mutex_lock(cell)
        defer { pthread_mutex_unlock(cell) }
        return try body()
    }
}
