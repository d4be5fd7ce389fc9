// Commands of `ctl` that change what is joined.

import ArgumentParser
import CleaveControl
import CleaveProgramSupport

/// Options of every command that changes something: once.
struct ChangeOptions: ParsableArguments {
    @OptionGroup var socket: ControlSocketOptions

    @Flag(help: "Prints the answer as JSON.")
    var json = false

    /// Asks, and prints the answer.
    func ask(
        _ command: String, _ arguments: [String: JSONValue] = [:],
        text: (_ answer: JSONValue) -> String
    ) throws {
        let answer = try socket.client().answer(command, arguments)
        let words = text(answer)
        try Stream.output.write(json ? answer.pretty + "\n" : words)
    }
}

struct PortCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "port", abstract: "Adds a port, or removes one, while traffic runs.",
        subcommands: [Add.self, Remove.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Adds a port; others are untouched.",
            discussion: """
                Examples:
                  cleave-vhost ctl port add type=vhost-user,path=/tmp/c.sock,name=c
                  cleave-vhost ctl port add type=tap,interface=tap1 --control /tmp/c.sock

                Keys are those of --port. Relative paths start where the program was started.
                """)

        @OptionGroup var options: ChangeOptions
        @Argument(help: "Keys and values: type=vhost-user,path=FILE,...")
        var settings: String

        func run() throws {
            try options.ask("port.add", ["settings": .string(settings)]) { answer in
                "port \(AnswerTable.cell(answer["port"])) added\n"
            }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove", abstract: "Removes a port; others are untouched.",
            discussion: "Example: cleave-vhost ctl port remove c --control /tmp/c.sock")

        @OptionGroup var options: ChangeOptions
        @Argument(help: "The name of the port.")
        var port: String

        func run() throws {
            try options.ask("port.remove", ["port": .string(port)]) { answer in
                func count(_ key: String) -> String { AnswerTable.cell(answer[key]) }
                return "port \(port) removed: \(count("packetsIn")) packets in, "
                    + "\(count("packetsOut")) out; dropped \(count("droppedIn")) in, "
                    + "\(count("droppedOut")) out\n"
            }
        }
    }
}

struct RqCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rq", abstract: "Gives queues of ports to other switch threads.",
        subcommands: [Move.self])

    struct Move: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "move",
            abstract: "Gives a port's queue, both directions of it, to another switch thread.",
            usage: "cleave-vhost ctl rq move <port> <queue> <thread> [options]",
            discussion: """
                Example: cleave-vhost ctl rq move port0 1 2 --control /tmp/c.sock

                'ctl queues' shows which thread each queue has, and how busy it is with it.
                """)

        @OptionGroup var options: ChangeOptions
        @Argument(help: "The name of the port.")
        var port: String
        @Argument(help: "The queue's number at the port, from 0.")
        var queue: Int
        @Argument(help: "The number of the switch thread, from 0.")
        var thread: Int

        func run() throws {
            let arguments: [String: JSONValue] = [
                "port": .string(port), "queue": .integer(Int64(queue)),
                "thread": .integer(Int64(thread)),
            ]
            try options.ask("rq.move", arguments) { _ in
                "port \(port): queue \(queue) is switch thread \(thread)'s now\n"
            }
        }
    }
}

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Has the program read its configuration anew, as SIGHUP does.",
        discussion: "Example: cleave-vhost ctl reload --control /tmp/c.sock")

    @OptionGroup var options: ChangeOptions

    func run() throws {
        var isDone = true
        try options.ask("reload") { answer in
            let notDone = (answer["notDone"]?.elements ?? []).map {
                "not done: \(AnswerTable.cell($0))\n"
            }
            isDone = notDone.isEmpty
            return AnswerTable.cell(answer["summary"]) + "\n" + notDone.joined()
        }
        // What was not done is told above.
        if !isDone { throw Failure.reported(exitCode: 1) }
    }
}
