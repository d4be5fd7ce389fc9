// Entry point: finds the command that was meant, and turns its end into an exit code.
//
//   0   done            1   failed while running, or a packet arrived wrong
//   2   the command line, a configuration or an input file is wrong
//   3   compare found a regression, or claims --strict a claim that does not hold
//   128 and the signal's number if SIGINT or SIGTERM ended it

import ArgumentParser
import CleaveBench
import CleaveProgramSupport
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
              cleave-bench latency
              cleave-bench profile
              cleave-bench zerocopy
              cleave-bench report result.json profile.json
              cleave-bench compare before.json after.json --threshold 5%
              cleave-bench inspect capture.pcap
            See 'cleave-bench run --help' for every option.

            Exit codes: 0 done; 1 failed while running, or a packet arrived wrong; \
            2 wrong command line, configuration or input file; 3 compare found a regression, or \
            claims --strict a claim that does not hold; 130 or 143 ended by SIGINT or SIGTERM, \
            with the results so far.
            """,
        version: "cleave-bench \(ProgramRecord.current.words)",
        subcommands: [
            RunCommand.self, CompareMethodsCommand.self, ClaimsCommand.self, ScaleCommand.self,
            LatencyCommand.self, ProfileCommand.self, ZeroCopyCommand.self, ReportCommand.self,
            CompareCommand.self,
            ListCommand.self, InspectCommand.self, MachineCommand.self, ZeroCopyEndCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    static func main() {
        // A reader that goes away (`| head`) shows as a failed write instead of a signal.
        signal(SIGPIPE, SIG_IGN)
        Glibc.exit(run(ProgramRun.arguments))
    }

    /// Runs a command line, says what went wrong, and gives the exit code.
    static func run(_ arguments: [String]) -> Int32 {
        // Another spelling of the command.
        let isLatency = arguments.first == "--latency"
        return ProgramRun.run(
            BenchProgram.self, "cleave-bench",
            isLatency ? ["latency"] + arguments.dropFirst() : arguments)
    }
}
