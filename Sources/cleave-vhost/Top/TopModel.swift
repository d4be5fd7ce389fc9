// What `top` knows and shows, without a terminal: samples come in, keys change what is seen of
// them, and lines of text come out.

import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch

/// A key of `top`.
enum TopKey: Equatable {
    case up, down, left, right
    case character(Character)
}

struct TopModel {
    /// Samples that are kept to go back to: ten minutes of the usual interval.
    static let historyLimit = 600

    private(set) var history: [Activity] = []
    /// How many samples back the one is that is shown; 0 for the newest.
    private(set) var back = 0
    private(set) var isPaused = false
    private(set) var showsHistory = false
    private(set) var showsHelp = false
    private(set) var view = ActivityText.View()
    private var before: SwitchStatistics?
    private var cleared: SwitchStatistics?
    /// What is wrong with the connection now.
    var problem: String?
    /// Whether the terminal shows more than ASCII.
    var hasBlocks = true

    /// Takes the next snapshot in.
    mutating func take(_ statistics: SwitchStatistics) {
        defer { before = statistics }
        problem = nil
        // A switch that was started anew counts from 0, and so does its clock's sum.
        guard let before, statistics.nanoseconds > before.nanoseconds else { return }
        history.append(Activity(statistics, since: before, cleared: cleared))
        // What is shown while all stands still stays the same sample.
        if isPaused { back += 1 }
        if history.count > Self.historyLimit {
            history.removeFirst()
            back = min(back, history.count - 1)
        }
    }

    /// The program at the other end is another one: nothing that was counted goes on.
    mutating func restart() { (before, cleared) = (nil, nil) }

    /// The sample that is shown; nil before there is one.
    var shown: Activity? {
        history.isEmpty ? nil : history[history.count - 1 - min(back, history.count - 1)]
    }

    /// - Returns: false to end.
    mutating func press(_ key: TopKey) -> Bool {
        switch key {
        case .character("q"), .character("\u{3}"), .character("\u{4}"): return false
        case .character("p"), .character(" "):
            isPaused.toggle()
            if !isPaused { back = 0 }
        case .character("c"): cleared = before
        case .character("s"): step(1)
        case .character("S"): step(-1)
        case .character("r"): view.isReversed.toggle()
        case .character("t"): view.showsTotals.toggle()
        case .character("u"): view.showsQueues.toggle()
        case .character("h"): showsHistory.toggle()
        case .character("?"): showsHelp.toggle()
        case .left where !history.isEmpty:
            isPaused = true
            back = min(back + 1, history.count - 1)
        case .right:
            back = max(0, back - 1)
        case .up: select(-1)
        case .down: select(1)
        default: break
        }
        return true
    }

    private mutating func step(_ count: Int) {
        let all = ActivityText.Order.allCases
        let index = all.firstIndex(of: view.order) ?? 0
        view.order = all[(index + count + all.count) % all.count]
    }

    private mutating func select(_ count: Int) {
        let names = shown.map { ActivityText.ports($0, view).map(\.port) } ?? []
        guard !names.isEmpty else { return }
        let index = view.selected.flatMap(names.firstIndex(of:))
        let next = index.map { $0 + count } ?? (count > 0 ? 0 : names.count - 1)
        view.selected = names[min(max(next, 0), names.count - 1)]
    }

    // MARK: Lines

    /// Exactly `rows` lines of at most `columns` characters, colours not counted.
    func lines(rows: Int, columns: Int, style: Style) -> [String] {
        let style = style.limited(to: max(20, columns))
        var lines = [style.bold(cut(title, columns))]
        if let problem { lines += wrap(problem, columns).map(style.red) }
        lines.append("")
        if showsHelp {
            lines += Self.help.flatMap { wrap($0, columns) }
        } else if let shown {
            lines += body(shown, room: rows - lines.count - 1, columns, style)
        } else {
            lines.append("waiting for a first sample")
        }
        lines = Array(lines.prefix(max(0, rows - 1)))
        lines += Array(repeating: "", count: max(0, rows - 1 - lines.count))
        let keys = columns < 100 ? Self.shortKeys : Self.keys
        return Array((lines + [cut(keys, columns)]).prefix(rows))
    }

    private var title: String {
        var parts = ["cleave-vhost top"]
        // What a narrow terminal cuts off is last.
        if isPaused {
            parts.append(back > 0 ? "paused, \(secondsBack) s ago" : "paused")
        }
        if view.showsTotals { parts.append(cleared == nil ? "totals" : "totals since c") }
        parts.append("by \(view.order.rawValue)" + (view.isReversed ? ", reversed" : ""))
        if let shown {
            func sum(_ value: (Activity.Row) -> Double) -> String {
                ActivityText.short(shown.ports.map(value).reduce(0, +))
            }
            parts.append("in \(sum { $0.in.packetsPerSecond }) pps")
            parts.append("\(sum { $0.in.bitsPerSecond }) bit/s")
            parts.append("every \(ActivityText.fixed(shown.seconds, 1)) s")
        }
        return parts.joined(separator: "  ")
    }

    private var secondsBack: String {
        guard let shown, let newest = history.last else { return "0" }
        return ActivityText.fixed(newest.time - shown.time, 0)
    }

    private func body(
        _ shown: Activity, room: Int, _ columns: Int, _ style: Style
    ) -> [String] {
        var lower = ActivityText.remarks(shown, view).flatMap { wrap($0, columns) }
        if showsHistory { lower = chart(columns, style) + [""] + lower }
        var table = ActivityText.table(shown, view).text(style: style)
            .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if table.last == "" { table.removeLast() }
        // The table has what the rest leaves it, and a few rows at least.
        let least = min(table.count, 6)
        lower = Array(lower.prefix(max(0, room - least - 1)))
        let space = max(least, room - lower.count - 1)
        if table.count > space { table = scrolled(table, to: space) }
        return table + [""] + lower
    }

    /// The heading, and those rows around the marked one that there is room for.
    private func scrolled(_ table: [String], to room: Int) -> [String] {
        let heading = 2
        let rows = Array(table.dropFirst(heading))
        let space = max(1, room - heading - 1)
        let marked = rows.firstIndex { $0.contains("> ") } ?? 0
        let first = min(max(0, marked - space / 2), max(0, rows.count - space))
        let hidden = rows.count - space
        return table.prefix(heading) + rows[first..<min(rows.count, first + space)]
            + ["(\(hidden) more lines: up and down)"]
    }

    /// Packets each second over the samples, one line in, one out, of the marked port or of all.
    private func chart(_ columns: Int, _ style: Style) -> [String] {
        let name = view.selected.map(PathText.printable) ?? "all ports"
        let end = history.count - min(back, max(0, history.count - 1))
        let label = 22
        let samples = history[..<end].suffix(max(1, columns - label))
        func line(_ title: String, _ value: (Activity.Row) -> Double) -> String {
            let values = samples.map { sample in
                sample.ports.filter { view.selected == nil || $0.port == view.selected }
                    .map(value).reduce(0, +)
            }
            let most = values.max() ?? 0
            let text = "\(title) to \(ActivityText.short(most))"
            return TextTable.pad(text, to: label, .left) + spark(values, most)
        }
        return [style.bold(cut("\(name), \(samples.count) samples", columns))] + [
            line("in pps") { $0.in.packetsPerSecond }, line("out pps") { $0.out.packetsPerSecond },
            line("drops/s") { $0.in.droppedPerSecond + $0.out.droppedPerSecond },
            line("busy %") { 100 * $0.busyShare },
        ]
    }

    private func spark(_ values: [Double], _ most: Double) -> String {
        let steps = Array(hasBlocks ? " ▁▂▃▄▅▆▇█" : " .:-=+*#@")
        return String(
            values.map { value in
                guard most > 0, value > 0 else { return steps[0] }
                return steps[max(1, Int((value / most * Double(steps.count - 1)).rounded()))]
            })
    }

    private func wrap(_ text: String, _ columns: Int) -> [String] {
        TextWrap.lines(text, width: columns, indentation: 2).map { cut($0, columns) }
    }

    private func cut(_ text: String, _ columns: Int) -> String { String(text.prefix(columns)) }

    private static let shortKeys = "q quit  p pause  s sort  c clear  t totals  h history  ? help"
    private static let keys =
        "q quit  p pause  left/right earlier/later  s sort  r reverse  c clear  t totals  "
        + "u queues  h history  up/down mark  ? help"
    private static let help = [
        "q            ends, as Ctrl-C does", "p, space      stands still, and goes on",
        "left, right   goes through the samples that are kept (\(historyLimit))",
        "s, S          sorts by the next column, by the one before", "r             reverses",
        "c             has totals begin now; nothing else sees it",
        "t             shows totals in place of rates", "u             hides queues, shows them",
        "h             shows the last samples of the marked port, or of all",
        "up, down      marks a port", "",
        "in is into the switch: what a guest sent. fill is packets of a burst. busy is the share "
            + "of a thread's time in which it moved packets that came in there. whole is packets "
            + "that were placed whole although there is a header queue.",
    ]
}
