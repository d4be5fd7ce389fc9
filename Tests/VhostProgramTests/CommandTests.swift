import ArgumentParser
import CleaveProgramSupport
import Foundation
import Testing

@testable import cleave_vhost

@Suite("Commands of cleave-vhost")
struct CommandTests {
    @Test(
        "A word that is no command is named, with the command that was meant",
        arguments: [
            ("check-confg x.yaml", "unknown command \"check-confg\"; did you mean check-config?"),
            ("print-qemu-arg port0", "unknown command \"print-qemu-arg\"; did you mean print-qemu"),
            ("ctl stat", "unknown command \"stat\"; did you mean stats?"),
            ("two-guests.yaml", "unknown command \"two-guests.yaml\" (known here: run, check-c"),
        ])
    func unknown(line: String, expected: String) throws {
        let words = line.split(separator: " ").map(String.init)
        let message = try #require(ProgramRun.unknownCommand(VhostProgram.self, words))
        #expect(message.hasPrefix(expected), "\(message)")
    }

    @Test(
        "A wrong line points to the help of its command",
        arguments: [
            (["--bad"], "cleave-vhost"), (["ctl", "ports", "--bad"], "cleave-vhost ctl ports"),
            (["ctl", "port", "add"], "cleave-vhost ctl port add"),
            (["ctl", "bad"], "cleave-vhost ctl"),
        ])
    func pointer(arguments: [String], command: String) throws {
        let outcome = try Tool.run(Tool.vhost, arguments)
        #expect(outcome.code == 2)
        #expect(outcome.error.hasSuffix(" (see '\(command) --help')\n"), "\(outcome.error)")
    }

    @Test(
        "Commands, their arguments and options are no unknown commands",
        arguments: [
            "check-config x.yaml", "ctl features port0", "print-qemu-args port", "help run",
            "--port x", "",
        ])
    func known(line: String) {
        let words = line.split(separator: " ").map(String.init)
        #expect(ProgramRun.unknownCommand(VhostProgram.self, words) == nil)
    }

    @Test("Every command that asks a running program has an example in its help")
    func examples() {
        func leaves(_ command: any ParsableCommand.Type) -> [any ParsableCommand.Type] {
            let below = command.configuration.subcommands
            return below.isEmpty ? [command] : below.flatMap(leaves)
        }
        let all = leaves(CtlCommand.self)
        #expect(all.count == 13)
        for command in all {
            let help = VhostProgram.helpMessage(for: command, columns: 80)
            #expect(help.contains(#/Examples?:\s+cleave-vhost ctl /#), "\(help)")
            #expect(help.contains("--control"), "\(help)")
            // What shows something is asked again and again; what changes something is not. These
            // two have an output of their own.
            let isStream = command is CaptureCommand.Type || command is ServeCommand.Type
            let isChange =
                help.contains("ctl port ") || help.contains("ctl rq ")
                || command is ReloadCommand.Type
            #expect(help.contains("--json") == !isStream, "\(help)")
            #expect(help.contains("--watch") == !(isStream || isChange), "\(help)")
        }
        #expect(VhostProgram.helpMessage(for: CtlCommand.self).contains("cleave-vhost ctl stats"))
    }

    @Test("No line of any command's help is wider than 80 columns")
    func helpWidth() {
        func all(_ command: any ParsableCommand.Type) -> [any ParsableCommand.Type] {
            [command] + command.configuration.subcommands.flatMap(all)
        }
        let commands = all(VhostProgram.self)
        #expect(commands.count == 22)
        for command in commands {
            let help = VhostProgram.helpMessage(for: command, columns: 80)
            #expect(help.contains("USAGE: cleave-vhost"))
            for line in help.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        }
    }

    @Test(
        "A number that cannot be is named, and what is wrong with it",
        arguments: [
            ("ctl rq move a -1 5", "-1: is negative"), ("ctl rq move a 0 -1", "-1: is negative"),
            ("ctl rq move a x 5", "<queue>: \"x\" is not a number"),
            ("ctl rq move a 1.5 5", "<queue>: \"1.5\" is not a whole number"),
            ("ctl rq move a 99999999999999999999 5", "<queue>: \"99999999999999999999\" is more"),
            ("ctl capture -w - --queue -1", "--queue -1: is negative"),
            ("ctl capture -w - --count -7", "--count -7: is negative"),
            ("ctl capture -w - --snaplen x", "--snaplen <bytes>: \"x\" is not a number"),
            ("top --interval -1", "--interval -1: is negative"),
            ("top --interval x", "--interval <seconds>: \"x\" is not a number"),
            ("ctl stats --watch -0.5", "--watch -0.5: is negative"),
            ("ctl serve --port 70000", "--port <number>: \"70000\" is more than fits there"),
            ("ctl serve --port -1", "--port -1: is negative"),
            ("run --fd x", "--fd <number>: \"x\" is not a number"),
            // What is no number's fault is told as before.
            ("ctl rq move a 1", "Missing expected argument '<thread>'"),
            ("ctl stats -x", "Unknown option '-x'"),
            ("run --log-format x", "The value 'x' is invalid for '--log-format <format>'"),
        ])
    func numbers(_ line: String, _ expected: String) {
        let words = line.split(separator: " ").map(String.init)
        do {
            _ = try VhostProgram.parseAsRoot(words)
            Issue.record("accepted")
        } catch {
            let message = VhostProgram.message(for: error)
            let problem = ProgramRun.usageProblem(VhostProgram.self, message, words)
            #expect(problem.hasPrefix(expected), "\(problem)")
        }
    }

    @Test("Programs end with the codes that their help and their page name")
    func exitCodes() throws {
        let help = VhostProgram.helpMessage(for: VhostProgram.self, columns: 1000)
        let page = try String(
            contentsOfFile: packageRoot + "/Sources/CleaveEngine/Cleave.docc/RunningOnAHost.md",
            encoding: .utf8)
        let scratch = try Scratch()
        let none = scratch.path + "/none"
        let cases: [([String], Int32)] = [
            (["--help"], 0), (["--version"], 0), ([], 0), (["check-config", "--schema"], 0),
            (["ctl", "stats", "--control", none], 1),
            (["--port", "type=vhost-user,path=\(none)/a"], 1),
            (["--bogus"], 2), (["bogus"], 2), (["ctl", "rq", "move", "a", "-1", "0"], 2),
            (["--port", "type=x"], 2), (["check-config", none], 2), (["top"], 2),
        ]
        for (words, code) in cases {
            let ran = try Tool.run(Tool.vhost, words)
            #expect(ran.code == code, "\(words): \(ran.error)")
            #expect(help.contains("\(code) ") && page.contains("| \(code) |"))
        }
        for signal in [SIGTERM, SIGINT] {
            let program = try Background(
                Tool.vhost, ["--port", "type=vhost-user,path=\(scratch.path)/a"], in: scratch,
                name: "signal\(signal)")
            try eventually("ready") { program.output.contains("ready\n") }
            kill(program.process.processIdentifier, signal)
            program.process.waitUntilExit()
            #expect(program.process.terminationStatus == 0)
            #expect(program.process.terminationReason == .exit)
        }
        #expect(help.contains("0 done, also when SIGTERM or SIGINT ended it"))
    }

    @Test("The control socket is a path of the command line's or the file's folder, or `auto`")
    func controlPath() throws {
        func path(_ control: String) throws -> String? {
            let text = "control: \(control)\nports:\n  - {type: tap, interface: t}\n"
            let file = try YAMLFile([UInt8](text.utf8), name: "x.yaml", directory: "configs")
            return try VhostConfiguration.read(file).controlPath
        }
        #expect(try path("c.sock") == "configs/c.sock")
        #expect(try path("/run/c.sock") == "/run/c.sock")
        #expect(try path("auto") == "auto")
        #expect(ControlPlace.path("x/y") == "x/y")
        #expect(ControlPlace.path("auto") == ControlPlace.usual)
        #expect(throws: Failure.usage("x.yaml:1:1: control: has no value")) { try path("") }
    }
}
