import ArgumentParser
import CleaveBench

/// Measures what a header queue promises.
struct ClaimsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "claims",
        abstract: "Measure the nine claims made for a header queue, and say which hold.",
        discussion: """
            Each claim is judged by cases of one interleaved run on this machine: the figure \
            claimed, the figure measured, holds or does not hold. A claim that does not hold is a \
            result, not a failure: the exit code is 0.

            Examples:
              claims --json claims.json
              claims --quick
            """)

    @OptionGroup var measure: MeasureOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let plan = try PlanBuilder.plan(cases: ClaimCases.all, measure.request())
        let files = try ResultFiles(["--json": output.json])
        let report = try Measuring.report(of: plan, warnings: [], isQuiet: output.quiet)
        // Figures of damaged packets would mean nothing.
        if let failure = Measuring.failure(report) { throw failure }
        let claims = ClaimJudge(report.results).claims
        try files.fill(
            { _ in
                ResultJSON.text(
                    BenchDocument(report, command: CommandLine.arguments, claims: claims))
            },
            table: ClaimsText(style: output.style, isQuiet: output.quiet).text(claims, report))
    }
}
