import CCleaveHost
import Glibc

/// Counters for the calling thread and the threads that it starts later, without the kernel's part.
/// A counter that the machine refuses reports the reason; nothing here throws.
///
/// `start` and `stop` make a system call per counter: use them around a pass, not around a burst.
/// Call them on the thread that made the object, and `stop` after the counted threads have ended.
public final class PerfCounters {
    private struct Counter {
        let event: PerfEvent
        /// A descriptor, or a negated errno.
        let handle: Int32
    }

    private let counters: [Counter]
    private let probe: HostProbe

    /// Opens a counter for each event, stopped.
    public convenience init(_ events: [PerfEvent] = PerfEvent.allCases) {
        self.init(events, probe: .live) { cleave_perf_open($0.type, $0.config) }
    }

    /// - Parameter open: a descriptor for a `code`, or a negated errno.
    init(
        _ events: [PerfEvent], probe: HostProbe,
        open: ((type: UInt32, config: UInt64)) -> Int32
    ) {
        self.probe = probe
        counters = events.map { Counter(event: $0, handle: open($0.code)) }
    }

    deinit {
        for counter in counters where counter.handle >= 0 { close(counter.handle) }
    }

    /// Starts all counters from 0.
    public func start() {
        for counter in counters where counter.handle >= 0 { cleave_perf_start(counter.handle) }
    }

    /// Stops counting.
    /// - Returns: a reading for each event, in the order in which they were asked for.
    public func stop() -> [PerfReading] {
        // All are stopped before the first is read.
        for counter in counters where counter.handle >= 0 { cleave_perf_stop(counter.handle) }
        return counters.map { read($0) }
    }

    private func read(_ counter: Counter) -> PerfReading {
        if counter.handle < 0 {
            return .unavailable(PerfEvent.reason(-counter.handle, probe: probe))
        }
        var words = cleave_perf_reading()
        let result = cleave_perf_read(counter.handle, &words)
        if result != 0 { return .unavailable(PerfEvent.reason(-result, probe: probe)) }
        return Self.reading(words.value, enabled: words.enabled, running: words.running)
    }

    /// - Parameters:
    ///   - enabled: nanoseconds between start and stop.
    ///   - running: nanoseconds of them in which the event had a counter of the processor.
    static func reading(_ value: UInt64, enabled: UInt64, running: UInt64) -> PerfReading {
        if running == 0 {
            return enabled == 0
                ? .count(Double(value)) : .unavailable("others use all counters of the processor")
        }
        return .count(Double(value) * max(1, Double(enabled) / Double(running)))
    }
}
