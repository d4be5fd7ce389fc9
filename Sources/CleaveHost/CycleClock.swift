import CCleaveHost
import Glibc

/// The machine's constant-rate cycle counter: TSC on x86-64, the virtual counter on arm64,
/// nanoseconds of CLOCK_MONOTONIC elsewhere.
public enum CycleClock {
    /// The counter now. Costs one instruction; not ordered against memory accesses.
    @inlinable
    @inline(__always)
    public static func now() -> UInt64 { cleave_cycles() }

    /// Cycles that a reading adds to the interval that it ends: the least difference of two
    /// readings back to back. Measured once, at first use, in a few microseconds.
    public static let readingCost: UInt64 = (0..<4096).reduce(UInt64.max) { least, _ in
        let start = now()
        return min(least, now() &- start)
    }

    /// Counts per second. Measured once, at first use, in about 40 ms.
    public static let hertz: Double = {
        let stated = cleave_counter_stated_hertz()
        if stated > 0 { return Double(stated) }
        if source == "clock_monotonic" { return 1e9 }
        return calibrate(sampleCount: 5, nanoseconds: 8_000_000)
    }()

    /// `tsc`, `cntvct` or `clock_monotonic`.
    public static var source: String {
        #if arch(x86_64)
        "tsc"
        #elseif arch(arm64)
        "cntvct"
        #else
        "clock_monotonic"
        #endif
    }

    /// Whether the counter runs at one rate whatever the core's frequency and power state.
    public static var isInvariant: Bool { cleave_counter_is_invariant() != 0 }

    /// Median of several measurements against CLOCK_MONOTONIC_RAW, in counts per second.
    static func calibrate(sampleCount: Int, nanoseconds: UInt64) -> Double {
        let rates = (0..<max(1, sampleCount)).map { _ in
            let start = pairedReading()
            // Busy waiting: a sleeping core may stop a counter that is not invariant.
            while rawNanoseconds() - start.nanoseconds < nanoseconds { cleave_pause() }
            let end = pairedReading()
            let elapsed = Double(end.nanoseconds - start.nanoseconds)
            return Double(end.cycles &- start.cycles) * 1e9 / elapsed
        }
        return rates.sorted()[rates.count / 2]
    }

    /// Both clocks at one instant: the tightest of eight brackets.
    private static func pairedReading() -> (cycles: UInt64, nanoseconds: UInt64) {
        var best = (cycles: UInt64(0), nanoseconds: UInt64(0))
        var bestWidth = UInt64.max
        for _ in 0..<8 {
            let before = now()
            let nanoseconds = rawNanoseconds()
            let width = now() &- before
            if width < bestWidth {
                bestWidth = width
                best = (before &+ width / 2, nanoseconds)
            }
        }
        return best
    }

    private static func rawNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC_RAW, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
