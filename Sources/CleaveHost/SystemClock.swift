import Glibc

/// The kernel's clocks, in nanoseconds. For the control path, and once per burst.
public enum SystemClock {
    /// Since some moment before the process began; never set back.
    public static var monotonic: UInt64 { read(CLOCK_MONOTONIC) }

    /// Since 1970; the operator may set it.
    public static var realTime: UInt64 { read(CLOCK_REALTIME) }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
