import ArgumentParser
import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch
import Glibc

/// Shows what a running switch does, again and again.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Shows what a running switch does: rates, busy shares, drops by reason.",
        usage: "cleave-vhost top [--once] [--json] [options]",
        discussion: """
            A row for each port and each of its queues. "in" is into the switch: what a guest \
            sent. On a terminal, keys sort, pause, clear and go back in time; '?' lists them.

            Examples:
              cleave-vhost top
              cleave-vhost top --once --interval 5
              cleave-vhost top --json --interval 10 >> activity.jsonl
            """)

    @OptionGroup var socket: ControlSocketOptions

    @Option(
        help: .example(
            "Seconds between two samples, 0.1 to 3600.", "--interval 0.5", "seconds"))
    var interval = 1.0

    @Flag(help: "Prints the sample of one interval, and ends.")
    var once = false

    @Flag(help: "Prints each sample as a line of JSON.")
    var json = false

    func validate() throws {
        guard (0.1...3600).contains(interval) else {
            throw ValidationError("--interval: expected 0.1 to 3600 seconds, not \(interval)")
        }
    }

    func run() throws {
        if once || json { return try print() }
        try watch(Terminal())
    }

    // MARK: Without a terminal

    private func print() throws(Failure) {
        let source = try ActivitySource(socket.client())
        var before = try source.statistics()
        while true {
            guard wait(UInt64(interval * 1e9)) else { return }
            let now = try source.statistics()
            let activity = Activity(now, since: before, cleared: nil)
            before = now
            if json {
                try Stream.output.write(try source.line(activity) + "\n")
            } else {
                let style = Style(stream: .output, isAllowed: true)
                let view = ActivityText.View()
                try Stream.output.write(ActivityText.table(activity, view).text(style: style))
                for remark in ActivityText.remarks(activity, view) {
                    let lines = TextWrap.lines(remark, width: style.width, indentation: 2)
                    try Stream.output.write(lines.joined(separator: "\n") + "\n")
                }
            }
            if once { return }
        }
    }

    /// - Returns: false if a signal asked for the end.
    private func wait(_ nanoseconds: UInt64) -> Bool {
        let end = SystemClock.monotonic + nanoseconds
        while SystemClock.monotonic < end {
            if StopSignal.received != nil { return false }
            let left = end - min(end, SystemClock.monotonic)
            usleep(UInt32(min(left, 50_000_000) / 1000))
        }
        return StopSignal.received == nil
    }

    // MARK: On a terminal

    private func watch(_ terminal: Terminal) throws(Failure) {
        defer { terminal.leave() }
        var source: ActivitySource? = try ActivitySource(socket.client())
        var model = TopModel()
        model.hasBlocks = Terminal.showsUnicode
        let style = Style(stream: .output, isAllowed: true)
        let step = UInt64(interval * 1e9)
        var next = SystemClock.monotonic
        while StopSignal.received == nil {
            let now = SystemClock.monotonic
            if now >= next {
                // Samples that a pause of the program missed are not made up for.
                next = max(next + step, now)
                sample(&source, &model)
            }
            let size = terminal.size
            try terminal.show(model.lines(rows: size.rows, columns: size.columns, style: style))
            let left = next - min(next, SystemClock.monotonic)
            // Not longer than a signal may take to be seen.
            let milliseconds = Int32(min(left / 1_000_000 + 1, 200))
            guard let keys = try terminal.keys(milliseconds: milliseconds) else { return }
            for key in keys where !model.press(key) { return }
        }
    }

    /// A switch that ends may come again: the screen stays and says so.
    private func sample(_ source: inout ActivitySource?, _ model: inout TopModel) {
        do throws(Failure) {
            if source == nil {
                source = try ActivitySource(socket.client())
                model.restart()
            }
            if let statistics = try source?.statistics() { model.take(statistics) }
        } catch {
            source = nil
            model.problem = error.description
        }
    }
}

/// Snapshots of a switch, over its control socket.
final class ActivitySource {
    private let client: ControlClient

    init(_ client: ControlClient) { self.client = client }

    /// Everything that was counted since the switch was started.
    func statistics() throws(Failure) -> SwitchStatistics {
        do {
            let answer = try client.ask("stats", ["whole": true])
            guard let statistics = answer["statistics"] else {
                throw Failure.run("\(client.path): the answer has no statistics")
            }
            return try statistics.decoded(as: SwitchStatistics.self)
        } catch let failure as Failure {
            throw failure
        } catch { throw .run("\(error)") }
    }

    /// A value as a line of JSON.
    func line(_ value: some Encodable) throws(Failure) -> String {
        do { return try JSONValue(value).line } catch { throw .run("\(error)") }
    }
}
