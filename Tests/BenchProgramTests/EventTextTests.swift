import CleaveBench
import CleaveHost
import Testing

@testable import cleave_bench

@Suite("Counted events in reports")
struct EventTextTests {
    private func figure(_ event: PerfEvent, _ value: Double?) -> EventFigure {
        EventFigure(
            event: event, perPacket: value.map { Samples.spread($0) },
            reason: value == nil ? "no such counter" : "")
    }

    @Test("Nothing is said where nothing was to be counted")
    func unasked() {
        #expect(EventText.lines([Samples.result()]).isEmpty)
        #expect(EventText.json(nil).text == "null")
    }

    @Test("Figures per packet, a line for each case")
    func figures() {
        let result = Samples.result("64") {
            $0.events = PerfEvent.allCases.map { figure($0, $0 == .llcMisses ? 0.0125 : 120) }
        }
        let lines = EventText.lines([result, result])
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
            $0.events = PerfEvent.allCases.map { figure($0, $0.isHardware ? nil : 30) }
        }
        let lines = EventText.lines([result, result])
        #expect(lines.count == 3)
        #expect(
            lines.last
                == "hardware counters: not available on this machine (no such counter)")
        let one = Samples.result("64") {
            $0.events = PerfEvent.allCases.map { figure($0, $0 == .dtlbMisses ? nil : 30) }
        }
        #expect(
            EventText.lines([one]).last
                == "dtlbMisses: not available on this machine (no such counter)")
        let json = EventText.json(one.events).text
        #expect(json.contains("\"unavailable\": \"no such counter\""))
        #expect(json.contains("\"cycles\": {\"median\": 30"))
    }
}
