// Commands that talk to a running program at its control socket.

import ArgumentParser
import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch
import Glibc

struct CtlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "Asks a running cleave-vhost, over its control socket.",
        discussion: """
            The program has a control socket if it was started with --control FILE. Example:

              cleave-vhost --config two-guests.yaml \\
                  --control /run/cleave-vhost/control.sock
              cleave-vhost ctl stats --control /run/cleave-vhost/control.sock
            """,
        subcommands: [
            StatsCommand.self, PortsCommand.self, QueuesCommand.self, HeadersCommand.self,
            FeaturesCommand.self, MACTableCommand.self, LogLevelCommand.self, PortCommand.self,
            RqCommand.self, ReloadCommand.self, CaptureCommand.self, ServeCommand.self,
        ])
}

/// Where the program is asked.
struct ControlSocketOptions: ParsableArguments {
    @Option(
        help: .example(
            "The control socket: the file that the program was started with, or auto for "
                + "cleave-vhost.sock in $XDG_RUNTIME_DIR, or else "
                + "/run/cleave-vhost/control.sock.",
            "--control /tmp/c.sock", "file"))
    var control = ControlPlace.usualWord

    /// Connects.
    func client() throws(Failure) -> ControlClient {
        do { return try ControlClient(path: ControlPlace.path(control)) } catch {
            throw .run("\(error)")
        }
    }
}

extension ControlClient {
    /// Asks; an error says which command it was.
    func answer(
        _ command: String, _ arguments: [String: JSONValue], descriptors: [Int32] = []
    ) throws(Failure) -> JSONValue {
        do { return try ask(command, arguments, descriptors: descriptors) } catch {
            let words = "\(error)"
            throw .run(
                words.hasPrefix("\(command): ") ? "ctl \(words)" : "ctl \(command): \(words)")
        }
    }
}

/// Options of every command that asks.
struct ControlOptions: ParsableArguments {
    @OptionGroup var socket: ControlSocketOptions

    @Flag(help: "Prints the answer as JSON, with --watch one line for each.")
    var json = false

    @Option(
        help: .example(
            "Asks again and again until it is stopped; counts are those of the time between.",
            "--watch 1", "seconds"))
    var watch: Double?

    func validate() throws {
        if let watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch \(watch): need 0.1 to 86400 seconds")
        }
    }

    /// Asks once, or again and again, and prints the answers.
    /// - Parameter text: of an answer, and of the one before it if there was one.
    func show(
        _ command: String, _ arguments: [String: JSONValue] = [:],
        text: (_ answer: JSONValue, _ before: JSONValue?, _ style: Style) throws -> String
    ) throws {
        let client = try socket.client()
        let style = Style(stream: .output, isAllowed: true)
        var before: JSONValue?
        while true {
            let answer = try client.answer(command, arguments)
            if json {
                try Stream.output.write((watch == nil ? answer.pretty : answer.line) + "\n")
            } else {
                try Stream.output.write(try text(answer, before, style))
            }
            guard let watch else { return }
            before = answer
            guard Self.sleep(watch) else { return }
            if !json { try Stream.output.write("\n") }
        }
    }

    /// - Returns: false if a signal asked for the end meanwhile, which is how a watch ends.
    private static func sleep(_ seconds: Double) -> Bool {
        let end = SystemClock.monotonic + UInt64(seconds * 1e9)
        while SystemClock.monotonic < end {
            if StopSignal.received != nil { return false }
            usleep(20_000)
        }
        return true
    }
}

/// A command that prints rows.
enum AnswerTable {
    /// The rows of an answer as a table.
    /// - Parameter columns: the heading, and what a row has there.
    static func text(
        _ rows: [JSONValue], _ style: Style, none: String,
        columns: [(column: TextTable.Column, cell: (JSONValue) -> String)]
    ) -> String {
        if rows.isEmpty { return none + "\n" }
        var table = TextTable(columns: columns.map(\.column))
        for row in rows { table.append(columns.map { $0.cell(row) }) }
        return table.text(style: style)
    }

    /// A value for people: `-` for none.
    static func cell(_ value: JSONValue?) -> String {
        switch value {
        case nil, .null: "-"
        case .bool(let value): value ? "yes" : "no"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): value
        case .array(let values):
            values.isEmpty ? "-" : values.map { cell($0) }.joined(separator: ",")
        case .object: "{}"
        }
    }

    static func column(
        _ key: String, _ name: String, _ unit: String = "",
        alignment: TextTable.Alignment = .right, rank: Int = 0
    ) -> (column: TextTable.Column, cell: (JSONValue) -> String) {
        (.init(name, unit, alignment: alignment, rank: rank), { cell($0[key]) })
    }

    /// The first column: names of ports.
    static func ports(
        _ key: String = "port"
    ) -> (column: TextTable.Column, cell: (JSONValue) -> String) {
        (.init("port", alignment: .left, hasNames: true), { cell($0[key]) })
    }
}
