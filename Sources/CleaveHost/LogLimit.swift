// A guest may cause lines of a log without end: it connects, sets its features, breaks a ring, and
// does so again. So each guest may say some lines at once, and one in a second from then on. What
// is left out is counted, and the log is told how much it was.

/// How many lines of a log one guest may cause. Any thread may use it.
package final class LogLimit: @unchecked Sendable {
    // SAFETY: everything that changes is guarded by `lock`.

    /// Lines that may come at once.
    package static let burst: UInt64 = 64
    /// After how many nanoseconds another one may come.
    package static let interval: UInt64 = 1_000_000_000

    /// Whose lines they are, for the log.
    private let name: String
    private let lock = Lock()
    /// Until when the lines so far have used up what may come; the past if one may come that is the
    /// first of a burst.
    private var usedUntil: UInt64 = 0
    private var untold: UInt64 = 0
    private var all: UInt64 = 0

    package init(_ name: String) { self.name = name }

    /// Whether one line more may come, and how many were left out since the last one.
    /// - Parameter now: of the monotonic clock, in nanoseconds.
    /// - Returns: nil if it may not; it is counted as left out.
    package func admit(at now: UInt64 = SystemClock.monotonic) -> UInt64? {
        lock.withLock {
            if take(now) {
                defer { untold = 0 }
                return untold
            }
            untold += 1
            all += 1
            return nil
        }
    }

    /// How many lines were left out that nobody was told of, if a line may come that says so.
    package func tell(at now: UInt64 = SystemClock.monotonic) -> UInt64? {
        lock.withLock {
            if untold == 0 || !take(now) { return nil }
            defer { untold = 0 }
            return untold
        }
    }

    private func take(_ now: UInt64) -> Bool {
        let used = max(usedUntil, now)
        if used - now > (Self.burst - 1) * Self.interval { return false }
        usedUntil = used + Self.interval
        return true
    }

    /// Lines that were left out.
    package var leftOut: UInt64 { lock.withLock { all } }

    /// What the log says of lines that were left out.
    package func words(_ count: UInt64) -> String { "\(name): \(Self.phrase(count))" }

    /// The same for a log that names whose lines they are in its own way.
    package static func phrase(_ count: UInt64) -> String {
        "\(count) line\(count == 1 ? "" : "s") left out, since there were too many"
    }
}
