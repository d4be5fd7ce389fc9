import CCleaveHost
import Glibc

/// Something that the processor or the kernel counts, by its name in reports.
public enum PerfEvent: String, CaseIterable, Sendable {
    case cycles
    case instructions
    /// Misses of the last-level cache.
    case llcMisses
    /// Loads whose page was in no data TLB.
    case dtlbMisses
    case branchMisses
    /// Nanoseconds on a CPU. The kernel counts it, so it exists wherever perf does.
    case taskClock

    /// Whether it needs a counter of the processor.
    public var isHardware: Bool { self != .taskClock }

    /// `type` and `config` of perf_event_attr.
    var code: (type: UInt32, config: UInt64) {
        // Numbers of linux/perf_event.h, which are the kernel's ABI.
        switch self {
        case .cycles: (0, 0)
        case .instructions: (0, 1)
        case .llcMisses: (0, 3)
        case .branchMisses: (0, 5)
        // Cache 3 (data TLB), operation 0 (read), result 1 (miss).
        case .dtlbMisses: (3, 3 | 0 << 8 | 1 << 16)
        case .taskClock: (1, 1)
        }
    }

    /// Why the kernel returned `code` instead of a counter.
    static func reason(_ code: Int32, probe: HostProbe) -> String {
        switch code {
        case ENOENT, ENODEV, EOPNOTSUPP:
            return "the processor, or the machine that it is virtual on, has no such counter"
        case EACCES, EPERM:
            guard let level = probe.number(paranoidPath) else {
                return "perf_event_open is forbidden here: \(HostError.words(of: code))"
            }
            return level > 2
                ? "kernel.perf_event_paranoid is \(level): set it to 2, or run with CAP_PERFMON"
                : "perf_event_open is forbidden here though kernel.perf_event_paranoid is \(level)"
        case ENOSYS: return "the kernel has no perf_event_open"
        default: return "perf_event_open: \(HostError.words(of: code)) (errno \(code))"
        }
    }

    static let paranoidPath = "/proc/sys/kernel/perf_event_paranoid"
}

/// A counter's value, or why there is none.
public enum PerfReading: Equatable, Sendable {
    /// Extrapolated if the counter had to be shared with others for part of the time.
    case count(Double)
    case unavailable(String)

    /// The value, if there is one.
    public var value: Double? {
        if case .count(let value) = self { return value }
        return nil
    }
}
