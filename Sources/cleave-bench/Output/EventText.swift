import CleaveBench
import CleaveHost

/// What the processor counted, as text and for programs.
enum EventText {
    /// One line for each case with its figures, and one for what this machine does not count.
    static func lines(_ results: [BenchResult]) -> [String] {
        var lines: [String] = []
        for result in results {
            guard let events = result.events else { continue }
            let parts = events.compactMap { event in
                event.perPacket.map { "\(text($0.median)) \(unit(event.event))" }
            }
            if parts.isEmpty { continue }
            lines.append(
                "\(result.benchCase.displayName): per packet, all sides: "
                    + parts.joined(separator: ", "))
        }
        return lines + missing(results)
    }

    /// Counters that gave nothing in any case, by reason.
    private static func missing(_ results: [BenchResult]) -> [String] {
        let counted = results.compactMap(\.events)
        guard !counted.isEmpty else { return [] }
        var events: [String: [PerfEvent]] = [:]
        for event in PerfEvent.allCases {
            let figures = counted.joined().filter { $0.event == event }
            guard figures.allSatisfy({ $0.perPacket == nil }), let first = figures.first else {
                continue
            }
            events[first.reason, default: []].append(event)
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

    /// An object of per-packet figures or reasons, by event; null if nothing was to be counted.
    static func json(_ events: [EventFigure]?) -> JSONValue {
        guard let events else { return .null }
        return .object(
            events.map { event in
                guard let perPacket = event.perPacket else {
                    return (
                        event.event.rawValue, .object([("unavailable", .string(event.reason))])
                    )
                }
                return (event.event.rawValue, ReportJSON.spread(perPacket))
            })
    }
}
