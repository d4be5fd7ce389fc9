// Entry point: finds the command that was meant, and turns its end into an exit code.
//
//   0   done            1   failed while running, or a packet arrived wrong
//   2   the command line, a configuration or an input file is wrong

import ArgumentParser
import Glibc

@main
struct BenchProgram: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cleave-bench",
        abstract: "Measures the receive path of a virtio-net device, header/data split or not.",
        discussion: """
            Without arguments it runs configs/bench/default.yaml: recorded traffic and mixes, \
            placed whole and with method D (a header queue), every packet verified first.

            Examples:
              cleave-bench
              cleave-bench --quick --packet 64,1500 --method whole,d
              cleave-bench --config configs/bench/imix.yaml --json result.json
              cleave-bench --mode threads --rqs 1,2 --cpus 0-2 --consumer copy
              cleave-bench profile
              cleave-bench report result.json profile.json
              cleave-bench inspect capture.pcap
            See 'cleave-bench run --help' for every option.

            Exit codes: 0 done; 1 failed while running, or a packet arrived wrong; \
            2 wrong command line, configuration or input file.
            """,
        subcommands: [
            RunCommand.self, CompareMethodsCommand.self, ClaimsCommand.self, ScaleCommand.self,
            ProfileCommand.self, ReportCommand.self, ListCommand.self, InspectCommand.self,
            MachineCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    /// Replaces ArgumentParser's own: its usage errors are several lines long and exit with 64.
    static func main() {
        // A reader that goes away (`| head`) shows as a failed write instead of a signal.
        signal(SIGPIPE, SIG_IGN)
        Glibc.exit(run(Array(CommandLine.arguments.dropFirst())))
    }

    /// Runs a command line, says what went wrong, and gives the exit code.
    static func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try parseAsRoot(arguments)
            try command.run()
            return 0
        } catch let failure as Failure {
            if failure != .outputClosed { complain(failure.description) }
            return failure.exitCode
        } catch {
            return finish(error)
        }
    }

    /// What ArgumentParser throws: requests for help, which are no errors, and wrong usage.
    private static func finish(_ error: any Error) -> Int32 {
        guard exitCode(for: error) != .success else {
            do { try Stream.output.write(fullMessage(for: error) + "\n") } catch {
                return error.exitCode
            }
            return 0
        }
        let message = message(for: error).split(whereSeparator: \.isNewline)
            .joined(separator: " ")
        complain("\(message) (see 'cleave-bench --help')")
        return 2
    }

    private static func complain(_ message: String) {
        let style = Style(stream: .error, isAllowed: true)
        // Nothing is left to do if standard error is closed too.
        try? Stream.error.write("cleave-bench: \(style.red(message))\n")
    }
}
