import ArgumentParser
import CleaveBench
import CleaveProgramSupport

/// Measures all methods on the same traffic and sets them side by side.
struct CompareMethodsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare-methods",
        abstract: "Set all methods side by side: cycles, memory and what each achieves.",
        discussion: """
            Runs \(DefaultConfiguration.methods.relativePath): every method on split and packed \
            rings, by packet size, mix and recorded traffic, all interleaved in one run. Axes \
            given here replace those of the configuration; combinations that cannot be are left \
            out.

            Examples:
              compare-methods --json methods.json --html methods.html
              compare-methods --quick --packet 1500,9000 --ring packed
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var output: OutputOptions

    @Option(
        help: .example(
            "Write a page with charts and tables that needs no network; - is standard output.",
            "--html methods.html", "file"))
    var html: String?

    func run() throws {
        var request = try options.request()
        request.standard = .methods
        request.startsFromStandard = true
        request.leavesOutContradictions = true
        let (plan, warnings) = try PlanBuilder.plan(request)
        let files = try ResultFiles(["--json": output.json, "--html": html])
        let report = try Measuring.report(of: plan, warnings: warnings, isQuiet: output.quiet)
        let document = BenchDocument(report, command: ProgramRun.commandLine)
        Measuring.announce(report.interruption?.description)
        try files.fill(
            { $0 == "--html" ? ComparisonPage.text(document) : ResultJSON.text(document) },
            table: ComparisonText(style: output.style, isQuiet: output.quiet).text(report))
        if let failure = Measuring.failure(report) { throw failure }
    }
}
