import Glibc

/// The kernel's clocks, in nanoseconds. For the control path, and once per burst.
public enum SystemClock {
    /// Since some moment before the process began; never set back.
    public static var monotonic: UInt64 { read(CLOCK_MONOTONIC) }

    /// Since 1970; the operator may set it.
    public static var realTime: UInt64 { read(CLOCK_REALTIME) }

    /// That the calling thread has run, in the kernel as well.
    public static var threadTime: UInt64 { read(CLOCK_THREAD_CPUTIME_ID) }

    /// The date and time of day, UTC, by ISO 8601: `2026-01-02T03:04:05Z`.
    package static var timestamp: String {
        var seconds = time(nil)
        var parts = tm()
        var text = [CChar](repeating: 0, count: 32)
        gmtime_r(&seconds, &parts)
        strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
