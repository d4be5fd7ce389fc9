import CleaveControl
import CleaveHost
import CleaveProgramSupport

/// An activity as a table, a row for each port and, below it, one for each of its queues.
enum ActivityText {
    /// A column that rows can be sorted by. The raw value is what the screen calls it.
    enum Order: String, CaseIterable {
        case name, packetsIn = "in", packetsOut = "out", busy, drops, whole

        /// What is larger comes first; names as they were configured.
        fileprivate func value(_ row: Activity.Row) -> Double {
            switch self {
            case .name: 0
            case .packetsIn: row.in.packetsPerSecond
            case .packetsOut: row.out.packetsPerSecond
            case .busy: row.busyShare
            case .drops: row.in.droppedPerSecond + row.out.droppedPerSecond
            case .whole: row.fallbacks.values.reduce(0, +)
            }
        }
    }

    /// How the table looks.
    struct View: Equatable {
        var order = Order.name
        var isReversed = false
        /// Sums since the counters were cleared in place of rates.
        var showsTotals = false
        var showsQueues = true
        /// The port that is marked; nil for none.
        var selected: String?
    }

    /// Ports in the order of a view.
    static func ports(_ activity: Activity, _ view: View) -> [Activity.Row] {
        // Those that are equal keep the order of the configuration.
        let sorted = activity.ports.enumerated().sorted { left, right in
            let (one, other) = (view.order.value(left.element), view.order.value(right.element))
            return one == other ? left.offset < right.offset : one > other
        }.map(\.element)
        return view.isReversed ? sorted.reversed() : sorted
    }

    static func table(_ activity: Activity, _ view: View) -> TextTable {
        var table = TextTable(columns: view.showsTotals ? totalColumns : rateColumns)
        for port in ports(activity, view) {
            let mark = view.selected == nil ? "" : view.selected == port.port ? "> " : "  "
            append(port, named: mark + PathText.printable(port.port), to: &table, view)
            let queues = activity.queues.filter { $0.port == port.port }
            // One queue says what its port says, but for its thread.
            if !view.showsQueues || queues.count < 2 { continue }
            for queue in queues {
                append(queue, named: mark + "  queue \(queue.queue ?? 0)", to: &table, view)
            }
        }
        return table
    }

    private static let rateColumns: [TextTable.Column] = [
        .init("port", alignment: .left, hasNames: true), .init("in", "pps"),
        .init("", "bit/s", rank: 1),
        .init("", "fill", rank: 6), .init("out", "pps"), .init("", "bit/s", rank: 2),
        .init("", "fill", rank: 8), .init("busy", "%"), .init("cycles", "/packet", rank: 3),
        .init("split", "%", rank: 4), .init("whole", "/s", rank: 5),
        .init("drops in", "/s", rank: 1),
        .init("out", "/s", rank: 1), .init("slots", "free", rank: 7),
        .init("thread", rank: 9),
    ]

    private static let totalColumns: [TextTable.Column] = [
        .init("port", alignment: .left, hasNames: true), .init("in", "packets"),
        .init("", "bytes", rank: 2),
        .init("out", "packets"), .init("", "bytes", rank: 2), .init("drops in", "packets"),
        .init("out", "packets"), .init("split", "packets", rank: 1),
        .init("whole", "packets", rank: 1),
    ]

    private static func append(
        _ row: Activity.Row, named name: String, to table: inout TextTable, _ view: View
    ) {
        let isBad = row.in.droppedPerSecond + row.out.droppedPerSecond > 0
        if view.showsTotals {
            table.append(
                [
                    name, "\(row.in.packets)", "\(row.in.bytes)", "\(row.out.packets)",
                    "\(row.out.bytes)", "\(row.in.dropped)", "\(row.out.dropped)", "\(row.split)",
                    "\(row.whole)",
                ], isBad: isBad)
            return
        }
        let slots = row.headerQueue.map {
            $0.isBroken ? "broken" : "\($0.free)/\($0.slots)"
        }
        table.append(
            [
                row.isOpen ? name : name + " (closed)",
                short(row.in.packetsPerSecond), short(row.in.bitsPerSecond),
                row.in.burstFill.map { fixed($0, 1) } ?? "-",
                short(row.out.packetsPerSecond), short(row.out.bitsPerSecond),
                row.out.burstFill.map { fixed($0, 1) } ?? "-",
                percent(row.busyShare), row.cyclesPerPacket.map { fixed($0, 0) } ?? "-",
                row.splitShare.map(percent) ?? "-", short(row.fallbacks.values.reduce(0, +)),
                short(row.in.droppedPerSecond), short(row.out.droppedPerSecond), slots ?? "-",
                row.thread.map { "\($0)" } ?? "",
            ], isBad: isBad)
    }

    /// What the threads do, and what was dropped or went whole, by reason.
    static func remarks(_ activity: Activity, _ view: View) -> [String] {
        let threads = activity.threads.map { thread in
            let place = thread.cpu.map { " on CPU \($0)" } ?? ""
            let each = thread.cyclesPerPacket.map { ", \(fixed($0, 0)) cycles/packet" } ?? ""
            return "thread \(thread.number)\(place): \(short(thread.packetsPerSecond)) pps, busy "
                + "\(percent(thread.busyShare)) %, idle \(percent(1 - thread.busyShare)) %\(each), "
                + "\(short(thread.parksPerSecond)) sleeps/s"
        }
        let reasons = ports(activity, view).flatMap { port in
            [("drops in", port.in.drops), ("drops out", port.out.drops), ("whole", port.fallbacks)]
                .filter { !$0.1.isEmpty }.map { what, rates in
                    let sorted = rates.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
                    return "\(PathText.printable(port.port)): \(what): "
                        + sorted.map { "\($0.key) \(short($0.value))/s" }.joined(separator: ", ")
                }
        }
        return threads + reasons
    }

    // MARK: Numbers

    /// Three or four digits and a prefix of 1000: `0`, `7.3`, `812`, `1.23M`, `14.9G`.
    static func short(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        var value = value
        var prefixes = ["", "k", "M", "G", "T"][...]
        while abs(value) >= 999.5 && prefixes.count > 1 {
            value /= 1000
            prefixes.removeFirst()
        }
        let prefix = prefixes.first ?? ""
        if prefix.isEmpty && value == value.rounded() { return fixed(value, 0) }
        return fixed(value, value < 9.995 ? prefix.isEmpty ? 1 : 2 : value < 99.95 ? 1 : 0) + prefix
    }

    static func percent(_ share: Double) -> String {
        let percent = 100 * min(max(share, 0), 1)
        return percent > 0 && percent < 0.05 ? "<0.1" : fixed(percent, percent < 9.95 ? 1 : 0)
    }

    static func fixed(_ value: Double, _ decimals: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        var scale = 1
        for _ in 0..<decimals { scale *= 10 }
        let whole = Int((abs(value) * Double(scale)).rounded())
        let sign = value < 0 && whole > 0 ? "-" : ""
        if decimals == 0 { return "\(sign)\(whole)" }
        let rest = "\(whole % scale)"
        return "\(sign)\(whole / scale)."
            + String(repeating: "0", count: decimals - rest.count) + rest
    }
}
