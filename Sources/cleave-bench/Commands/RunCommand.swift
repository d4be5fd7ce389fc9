import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// Runs a plan and prints its report.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Verify and measure the cases of a configuration (the default command).",
        discussion: """
            Every packet of every case is verified byte for byte, then the cases are timed, \
            interleaved, in repeated passes. Axes given here replace those of the configuration \
            in every case; without --config they make the cases by themselves, with methods \
            whole and d and one value for every other axis unless said otherwise.
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var output: OutputOptions

    @Option(
        help: .example(
            "Write the report as CSV, one row per case; - is standard output.",
            "--csv result.csv", "file"))
    var csv: String?

    @Flag(
        help: .init(
            "Count cycles, instructions, cache, TLB and branch misses per packet in each pass."))
    var counters = false

    func run() throws {
        var (plan, warnings) = try PlanBuilder.plan(try options.request())
        plan.countsEvents = counters
        let files = try ResultFiles(["--json": output.json, "--csv": csv])
        let report = try Measuring.report(of: plan, warnings: warnings, isQuiet: output.quiet)
        let document = BenchDocument(report, command: ProgramRun.commandLine)
        Measuring.announce(report.interruption?.description)
        try files.fill(
            { $0 == "--csv" ? ReportCSV.text(document) : ResultJSON.text(document) },
            table: ReportText(style: output.style, isQuiet: output.quiet).text(report))
        if let failure = Measuring.failure(report) { throw failure }
    }
}
