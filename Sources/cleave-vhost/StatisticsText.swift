import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch

/// The counters of a switch as text, a line for each port and one for each kind of loss.
enum StatisticsText {
    static func text(_ joined: Switch) -> String {
        var table = TextTable(columns: [
            .init("port", alignment: .left), .init("in", "packets"), .init("in", "bytes"),
            .init("out", "packets"), .init("out", "bytes"), .init("dropped", "in"),
            .init("dropped", "out"),
        ])
        var details: [String] = []
        for (name, counters) in joined.counters {
            let (droppedIn, droppedOut) = (total(counters.droppedIn), total(counters.droppedOut))
            table.append(
                [
                    name, "\(counters.packetsIn)", "\(counters.bytesIn)",
                    "\(counters.packetsOut)", "\(counters.bytesOut)", "\(droppedIn)",
                    "\(droppedOut)",
                ], isBad: droppedIn + droppedOut > 0)
            for (what, counts) in [
                ("dropped in", counters.droppedIn), ("dropped out", counters.droppedOut),
                ("split", ["packets": counters.splitOut]), ("placed whole", counters.wholeOut),
                ("events", counters.events),
            ] {
                let reasons = counts.filter { $0.value > 0 }
                    .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
                    .map { "\($0.key) \($0.value)" }
                if !reasons.isEmpty {
                    details.append("\(name): \(what): \(reasons.joined(separator: ", "))")
                }
            }
        }
        let threads = joined.work
        for (number, work) in threads.enumerated() {
            let cycles = work.busyCycles + work.idleCycles
            let busy = cycles == 0 ? 0 : work.busyCycles * 100 / cycles
            let each = work.packets == 0 ? 0 : work.busyCycles / work.packets
            let place = work.cpu.map { " on CPU \($0)" } ?? ""
            details.append(
                (threads.count == 1 ? "switch thread: " : "switch thread \(number)\(place): ")
                    + "\(work.packets) packets, \(each) cycles each while busy, "
                    + "busy \(busy) %, slept \(work.parks) times")
        }
        return table.text(style: Style(stream: .error, isAllowed: true))
            + details.map { $0 + "\n" }.joined()
    }

    private static func total(_ counts: [String: UInt64]) -> UInt64 {
        counts.values.reduce(0, &+)
    }
}
