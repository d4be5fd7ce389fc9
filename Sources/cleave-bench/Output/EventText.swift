import CleaveBench
import CleaveHost

/// The processor's counts, in lines.
enum EventText {
    /// One line for each case with its figures, and one for what this machine does not count.
    static func lines(_ runs: [RunRecord]) -> [String] {
        var lines: [String] = []
        for run in runs {
            let parts = PerfEvent.allCases.compactMap { event -> String? in
                guard case .perPacket(let spread)? = run.counters?[event.rawValue] else {
                    return nil
                }
                return "\(text(spread.median)) \(unit(event))"
            }
            if parts.isEmpty { continue }
            lines.append("\(run.name): per packet, all sides: " + parts.joined(separator: ", "))
        }
        return lines + missing(runs.compactMap(\.counters))
    }

    /// Counters that have a value in no case, by reason.
    private static func missing(_ counters: [Named<RunRecord.Counter>]) -> [String] {
        var events: [String: [PerfEvent]] = [:]
        for event in PerfEvent.allCases {
            let reasons = counters.map { one -> String? in
                guard case .unavailable(let reason)? = one[event.rawValue] else { return nil }
                return reason
            }
            guard let first = reasons.first, let first, !reasons.contains(nil) else { continue }
            events[first, default: []].append(event)
        }
        let hardware = PerfEvent.allCases.filter(\.isHardware)
        return events.sorted { $0.key < $1.key }.map { reason, events in
            let what =
                events == hardware
                ? "hardware counters" : events.map(\.rawValue).joined(separator: ", ")
            return "\(what): not available on this machine (\(reason))"
        }
    }

    private static func text(_ value: Double) -> String {
        Numbers.fixed(value, value < 10 ? 3 : 1)
    }

    private static func unit(_ event: PerfEvent) -> String {
        switch event {
        case .cycles: "core cycles"
        case .instructions: "instructions"
        case .llcMisses: "LLC misses"
        case .dtlbMisses: "dTLB misses"
        case .branchMisses: "branch misses"
        case .taskClock: "ns on a CPU"
        }
    }
}
