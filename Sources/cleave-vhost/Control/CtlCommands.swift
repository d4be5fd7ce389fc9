import ArgumentParser
import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch

struct StatsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Prints all counters, since the start or since --clear.",
        usage: "cleave-vhost ctl stats [--clear] [options]",
        discussion: """
            Example: cleave-vhost ctl stats --watch 1 --control /tmp/c.sock

            'in' is into the switch, what a guest sent; 'out' is out of it, what a guest received.
            """)

    @OptionGroup var options: ControlOptions

    @Flag(help: "Counts start at 0 after this answer, for stats, queues and headers.")
    var clear = false

    func run() throws {
        try options.show("stats", clear ? ["clear": true] : [:]) { answer, before, style in
            let now = try Self.statistics(answer)
            guard let before else { return StatisticsText.text(now, style: style) }
            let difference = now.since(try Self.statistics(before))
            let seconds = Double(difference.nanoseconds) / 1e9
            return "in \((seconds * 10).rounded() / 10) s:\n"
                + StatisticsText.text(difference, style: style)
        }
    }

    static func statistics(_ answer: JSONValue) throws(Failure) -> SwitchStatistics {
        guard let value = answer["statistics"],
            let statistics = try? value.decoded(as: SwitchStatistics.self)
        else { throw .run("ctl stats: the answer has a form that this program does not know") }
        return statistics
    }
}

struct PortsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ports", abstract: "Prints each port: what it is and who is there.",
        discussion: "Example: cleave-vhost ctl ports --control /tmp/c.sock")

    @OptionGroup var options: ControlOptions

    func run() throws {
        try options.show("ports") { answer, _, style in
            AnswerTable.text(
                answer["ports"]?.elements ?? [], style, none: "no port",
                columns: [
                    AnswerTable.ports("name"),
                    AnswerTable.column("type", "type", alignment: .left),
                    AnswerTable.column("isConnected", "there"),
                    AnswerTable.column("queues", "queues", "all"),
                    AnswerTable.column("openQueues", "queues", "open"),
                    AnswerTable.column("threads", "threads", rank: 2),
                    AnswerTable.column("addresses", "MACs"),
                    AnswerTable.column("hasHeaderQueue", "header", "queue", rank: 1),
                ])
        }
    }
}

struct QueuesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queues",
        abstract: "Prints each queue: its thread, CPU, node and memory, and what it costs.",
        usage: "cleave-vhost ctl queues [--port <name>] [options]",
        discussion: """
            Example: cleave-vhost ctl queues --watch 5 --control /tmp/c.sock

            'busy' is the share of the thread's time in which it moved packets that came in there, \
            since the start or since 'ctl stats --clear'; with --watch, of the time between.
            """)

    @OptionGroup var options: ControlOptions
    @Option(help: .example("Only queues of this port.", "--port port0", "name"))
    var port: String?

    func run() throws {
        let arguments: [String: JSONValue] = port.map { ["port": .string($0)] } ?? [:]
        try options.show("queues", arguments) { answer, before, style in
            let earlier = before?["queues"]?.elements ?? []
            return AnswerTable.text(
                answer["queues"]?.elements ?? [], style, none: "no queue",
                columns: [
                    AnswerTable.ports(),
                    AnswerTable.column("queue", "queue"), AnswerTable.column("thread", "thread"),
                    AnswerTable.column("cpu", "CPU"), AnswerTable.column("node", "node", "CPU's"),
                    AnswerTable.column("pageNode", "node", "pages'"),
                    AnswerTable.column("isOpen", "open", rank: 1),
                    (
                        .init("in", "packets"),
                        { Self.difference($0, earlier, "packetsIn") }
                    ),
                    (
                        .init("out", "packets"),
                        { Self.difference($0, earlier, "packetsOut") }
                    ),
                    (.init("busy", "%"), { Self.busy($0, earlier) }),
                ])
        }
    }

    /// The same queue's row of an earlier answer.
    private static func same(_ row: JSONValue, _ earlier: [JSONValue]) -> JSONValue? {
        earlier.first { $0["port"] == row["port"] && $0["queue"] == row["queue"] }
    }

    private static func count(
        _ row: JSONValue, _ earlier: [JSONValue], _ key: String
    ) -> Int64 {
        let (now, before) = (row[key]?.integer ?? 0, same(row, earlier)?[key]?.integer ?? 0)
        return now >= before ? now - before : now
    }

    private static func difference(
        _ row: JSONValue, _ earlier: [JSONValue], _ key: String
    ) -> String { "\(count(row, earlier, key))" }

    private static func busy(_ row: JSONValue, _ earlier: [JSONValue]) -> String {
        let cycles = count(row, earlier, "threadCycles")
        if cycles == 0 { return "-" }
        let share = Double(count(row, earlier, "busyCycles")) / Double(cycles)
        return "\((min(share, 1) * 1000).rounded() / 10)"
    }
}

struct HeadersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "headers",
        abstract: "Prints each header queue: its slots, and how often none was free.",
        discussion: """
            Example: cleave-vhost ctl headers --control /tmp/c.sock

            'held' are slots that the driver has; 'stalls' are packets that went whole since no \
            slot was free.
            """)

    @OptionGroup var options: ControlOptions

    func run() throws {
        try options.show("headers") { answer, _, style in
            AnswerTable.text(
                answer["headerQueues"]?.elements ?? [], style, none: "no header queue",
                columns: [
                    AnswerTable.ports(),
                    AnswerTable.column("slots", "slots"),
                    AnswerTable.column("slotSize", "size", "bytes"),
                    AnswerTable.column("slotReturn", "return", alignment: .left, rank: 2),
                    AnswerTable.column("queues", "queues", rank: 3),
                    AnswerTable.column("free", "free"),
                    AnswerTable.column("claimed", "claimed"),
                    AnswerTable.column("held", "held"),
                    AnswerTable.column("heldByQueue", "held", "by queue", rank: 1),
                    AnswerTable.column("stalls", "stalls"),
                    AnswerTable.column("isBroken", "broken", rank: 4),
                ])
        }
    }
}

struct FeaturesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "features",
        abstract: "Prints what a port offers its driver, and what the driver agreed to.",
        usage: "cleave-vhost ctl features <port> [options]",
        discussion: "Example: cleave-vhost ctl features port0 --control /tmp/c.sock")

    @OptionGroup var options: ControlOptions
    @Argument(help: "The name of the port.")
    var port: String

    func run() throws {
        try options.show("features", ["port": .string(port)]) { answer, _, style in
            func line(_ what: String, _ key: String) -> String {
                let names = (answer[key + "Names"]?.elements ?? []).compactMap(\.text)
                let bits = answer[key]?.text ?? "not agreed"
                return TextWrap.text(
                    "\(what) \(bits)" + (names.isEmpty ? "" : ": ")
                        + names.joined(separator: " "),
                    width: style.width, indentation: 2) + "\n"
            }
            return line("offered", "offered") + line("negotiated", "negotiated")
        }
    }
}

struct MACTableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mac-table",
        abstract: "Prints the Ethernet addresses that are known, and their ports.",
        usage: "cleave-vhost ctl mac-table [--port <name>] [options]",
        discussion: "Example: cleave-vhost ctl mac-table --port port0 --control /tmp/c.sock")

    @OptionGroup var options: ControlOptions
    @Option(help: .example("Only addresses at this port.", "--port port0", "name"))
    var port: String?

    func run() throws {
        let arguments: [String: JSONValue] = port.map { ["port": .string($0)] } ?? [:]
        try options.show("mac-table", arguments) { answer, _, style in
            AnswerTable.text(
                answer["addresses"]?.elements ?? [], style, none: "no address",
                columns: [
                    AnswerTable.ports(),
                    AnswerTable.column("address", "address", alignment: .left),
                ])
        }
    }
}

struct LogLevelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log-level", abstract: "Prints the level of the log, or sets it.",
        usage: "cleave-vhost ctl log-level [<level>] [options]",
        discussion: "Example: cleave-vhost ctl log-level info --control /tmp/c.sock")

    @OptionGroup var options: ControlOptions
    @Argument(help: "The new level; without it, the level is printed.")
    var level: String?

    func run() throws {
        let arguments: [String: JSONValue] = level.map { ["level": .string($0)] } ?? [:]
        try options.show("log-level", arguments) { answer, _, _ in
            AnswerTable.cell(answer["level"]) + "\n"
        }
    }
}
