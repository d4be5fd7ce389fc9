import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch

/// The counters of a switch as text, a line for each port and one for each kind of loss. All of
/// them come from the registry.
enum StatisticsText {
    /// In place of a port's name: those that were removed, together.
    static let removedName = "(removed)"

    typealias Label = CounterDescription.Label

    static func text(_ statistics: SwitchStatistics, style: Style) -> String {
        let reading = CounterReading(statistics)
        var table = TextTable(columns: [
            .init("port", alignment: .left, hasNames: true), .init("in", "packets"),
            .init("in", "bytes"),
            .init("out", "packets"), .init("out", "bytes"), .init("dropped", "in"),
            .init("dropped", "out"),
        ])
        var details: [String] = []
        for port in statistics.ports {
            func total(_ name: String, _ direction: String) -> UInt64 {
                reading.total(name, [.port: port.name, .direction: direction])
            }
            let dropped = ["in", "out"].map {
                total("queue_dropped", $0) + total("port_dropped", $0)
            }
            var cells = [port.name]
            for direction in ["in", "out"] {
                cells.append("\(total("queue_packets", direction))")
                cells.append("\(total("queue_bytes", direction))")
            }
            table.append(
                cells + dropped.map { "\($0)" }, isBad: dropped.contains { $0 > 0 })
            details += self.details(of: port, reading)
        }
        if reading.total("removed_ports") > 0 {
            // Totals do not shrink when a port goes.
            let counts = ["in", "out"].map { direction in
                ["packets", "bytes", "dropped"].map {
                    reading.total("removed_\($0)", [.direction: direction])
                }
            }
            table.append(
                [removedName] + counts.flatMap { $0[..<2] }.map { "\($0)" }
                    + counts.map { "\($0[2])" }, isBad: counts.contains { $0[2] > 0 })
        }
        details += statistics.threads.map { self.text($0, reading, of: statistics.threads.count) }
        return table.text(style: style)
            + details.flatMap { TextWrap.lines($0, width: style.width, indentation: 2) }
            .map { $0 + "\n" }.joined()
    }

    /// Counters that have a place of their own in the text.
    private static let placed: Set<String> = ["queue_packets", "queue_bytes"]

    /// All else that occurred at a port.
    private static func details(of port: PortStatistics, _ reading: CounterReading) -> [String] {
        func line(_ what: String, _ counts: [(String, UInt64)]) -> String? {
            let counts = counts.filter { $0.1 > 0 }.sorted { ($1.1, $0.0) < ($0.1, $1.0) }
            if counts.isEmpty { return nil }
            return "\(port.name): \(what): "
                + counts.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
        }
        func reasons(_ names: [String], _ direction: String) -> [(String, UInt64)] {
            names.flatMap {
                reading.totals($0, by: [.reason], [.port: port.name, .direction: direction])
            }.map { ($0.key[0], $0.value) }
        }
        let drops = ["queue_dropped", "port_dropped"]
        var lines = [
            line("dropped in", reasons(drops, "in")), line("dropped out", reasons(drops, "out")),
            line("placed whole", reasons(["queue_fallback"], "out")),
        ]
        let shown = placed.union(drops).union(["queue_fallback"])
        var others: [(String, UInt64)] = []
        for counter in CounterRegistry.all
        where counter.kind == .counter && counter.labels.contains(.port)
            && !shown.contains(counter.name)
        {
            let keys = counter.labels.filter { $0 == .direction || $0 == .reason || $0 == .event }
            for (key, value) in reading.totals(counter.name, by: keys, [.port: port.name]) {
                others.append((Self.words(counter, key), value))
            }
        }
        lines.append(line("counters", others))
        return lines.compactMap { $0 }
    }

    /// A counter's name for people: `split out`, `connects`.
    private static func words(_ counter: CounterDescription, _ key: [String]) -> String {
        if counter.labels.last == .event { return key[key.count - 1] }
        let name = counter.name.split(separator: "_").drop { $0 == "queue" || $0 == "port" }
        return (name.map(String.init) + key).joined(separator: " ")
    }

    private static func text(
        _ thread: ThreadStatistics, _ reading: CounterReading, of count: Int
    ) -> String {
        func total(_ name: String) -> UInt64 {
            reading.total(name, [.thread: "\(thread.number)"])
        }
        let (busy, idle) = (total("thread_busy_cycles"), total("thread_idle_cycles"))
        let packets = total("thread_packets")
        let share = busy + idle == 0 ? 0 : busy * 100 / (busy + idle)
        let each = packets == 0 ? 0 : busy / packets
        let place = thread.cpu.map { " on CPU \($0)" } ?? ""
        return (count == 1 ? "switch thread: " : "switch thread \(thread.number)\(place): ")
            + "\(packets) packets, \(each) cycles each while busy, "
            + "busy \(share) %, slept \(total("thread_parks")) times"
    }
}
