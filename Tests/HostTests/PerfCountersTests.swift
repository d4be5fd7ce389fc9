import Glibc
import Testing

@testable import CleaveHost

@Suite("Performance counters")
struct PerfCountersTests {
    private func probe(paranoid: String?) -> HostProbe {
        var probe = HostProbe.live
        probe.readText = { $0 == PerfEvent.paranoidPath ? paranoid : nil }
        return probe
    }

    /// Keeps a CPU busy for at least `nanoseconds`.
    private static func spin(nanoseconds: Double) {
        let end = CycleClock.now() &+ UInt64(nanoseconds * CycleClock.hertz / 1e9)
        while CycleClock.now() < end {}
    }

    @Test("The kernel's clock counts this thread and threads that it starts, from 0 each time")
    func taskClock() throws {
        let counters = PerfCounters([.taskClock])
        counters.start()
        Self.spin(nanoseconds: 20e6)
        let first = counters.stop()
        guard let alone = first[0].value else {
            // If even this is refused, there is a reason instead.
            #expect(
                first.allSatisfy {
                    if case .unavailable(let why) = $0 { !why.isEmpty } else { false }
                })
            return
        }
        #expect(alone >= 1e6)
        Self.spin(nanoseconds: 60e6)
        counters.start()
        let stopped = try #require(counters.stop()[0].value)
        #expect(stopped < alone, "nothing is counted before start, and it begins at 0")
        counters.start()
        let thread = try PinnedThread(name: "counted", cpu: nil) { Self.spin(nanoseconds: 40e6) }
        thread.join()
        // Its share of a busy CPU may be small, but this thread was asleep meanwhile.
        #expect(try #require(counters.stop()[0].value) > 2 * stopped)
    }

    @Test("Each event is read or has a reason, in the order of asking")
    func everyEvent() {
        let counters = PerfCounters()
        counters.start()
        Self.spin(nanoseconds: 1e6)
        let readings = counters.stop()
        #expect(readings.count == PerfEvent.allCases.count)
        for (event, reading) in zip(PerfEvent.allCases, readings) {
            switch reading {
            case .count(let value): #expect(value >= 0, "\(event)")
            case .unavailable(let why): #expect(!why.isEmpty, "\(event)")
            }
        }
    }

    @Test("Refusals say why, and what to do about it")
    func reasons() {
        func reading(_ code: Int32, paranoid: String?) -> PerfReading {
            PerfCounters([.cycles], probe: probe(paranoid: paranoid)) { _ in -code }.stop()[0]
        }
        func expect(_ code: Int32, _ paranoid: String?, _ words: String) {
            guard case .unavailable(let why) = reading(code, paranoid: paranoid) else {
                Issue.record("\(code) gave a count")
                return
            }
            #expect(why.contains(words), "\(why)")
        }
        expect(ENOENT, "2", "no such counter")
        expect(EOPNOTSUPP, "2", "no such counter")
        expect(EACCES, "4", "perf_event_paranoid is 4: set it to 2")
        expect(EPERM, "1", "forbidden here though kernel.perf_event_paranoid is 1")
        expect(EPERM, nil, "perf_event_open is forbidden here")
        expect(ENOSYS, nil, "no perf_event_open")
        expect(EMFILE, nil, "errno \(EMFILE)")
    }

    @Test("A counter that was shared is extrapolated; one that never ran is not")
    func shared() {
        #expect(PerfCounters.reading(100, enabled: 10, running: 10) == .count(100))
        #expect(PerfCounters.reading(100, enabled: 30, running: 10) == .count(300))
        #expect(PerfCounters.reading(0, enabled: 0, running: 0) == .count(0))
        guard case .unavailable = PerfCounters.reading(0, enabled: 30, running: 0) else {
            Issue.record("an event that never had a counter was read")
            return
        }
    }
}
