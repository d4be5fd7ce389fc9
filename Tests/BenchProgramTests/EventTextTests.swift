import CleaveBench
import CleaveHost
import Testing

@testable import cleave_bench

@Suite("Counted events in reports")
struct EventTextTests {
    /// - Parameter value: of each event; nil for none.
    private func figures(_ value: (PerfEvent) -> Double?) -> Named<RunRecord.Counter> {
        Named(
            PerfEvent.allCases.map { event in
                let counted = value(event).map { RunRecord.Counter.perPacket(Samples.spread($0)) }
                return (event.rawValue, counted ?? .unavailable("no such counter"))
            })
    }

    @Test("Nothing is said where nothing was to be counted")
    func unasked() {
        #expect(EventText.lines(Samples.runs([Samples.result()])).isEmpty)
        let json = ResultJSON.line(RunRecord(Samples.result()))
        #expect(json.contains("\"counters\": null"))
    }

    @Test("Figures per packet, a line for each case")
    func figures() {
        let result = Samples.result("64") {
            $0.events = figures { $0 == .llcMisses ? 0.0125 : 120 }
        }
        let lines = EventText.lines(Samples.runs([result, result]))
        #expect(lines.count == 2)
        #expect(
            lines[0].hasSuffix(
                ": per packet, all sides: 120.0 core cycles, 120.0 instructions, "
                    + "0.013 LLC misses, 120.0 dTLB misses, 120.0 branch misses, "
                    + "120.0 ns on a CPU"), "\(lines[0])")
    }

    @Test("What a machine does not count is one line, with the reason")
    func missing() {
        let result = Samples.result("64") {
            $0.events = figures { $0.isHardware ? nil : 30 }
        }
        let lines = EventText.lines(Samples.runs([result, result]))
        #expect(lines.count == 3)
        #expect(
            lines.last
                == "hardware counters: not available on this machine (no such counter)")
        let one = Samples.result("64") {
            $0.events = figures { $0 == .dtlbMisses ? nil : 30 }
        }
        #expect(
            EventText.lines(Samples.runs([one])).last
                == "dtlbMisses: not available on this machine (no such counter)")
        let json = ResultJSON.line(RunRecord(one).counters)
        #expect(json.contains("\"unavailable\": \"no such counter\""))
        #expect(json.contains("\"cycles\": {\"median\": 30"))
    }
}
