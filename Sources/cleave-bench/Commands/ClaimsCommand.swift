import ArgumentParser
import CleaveBench
import CleaveProgramSupport

/// Measures what a header queue promises.
struct ClaimsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "claims",
        abstract: "Measure the nine claims made for a header queue, and say which hold.",
        discussion: """
            Each claim is judged by cases of one interleaved run on this machine: the figure \
            claimed, the figure measured, holds or does not hold. A claim that does not hold is a \
            result, not a failure: the exit code is 0, or with --strict 3. A run that is \
            interrupted judges the claims whose cases were measured by then.

            Examples:
              claims --json claims.json
              claims --strict
              claims --quick
            """)

    @OptionGroup var measure: MeasureOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "End with exit code 3 if a claim does not hold.")
    var strict = false

    func run() throws {
        let request = measure.request()
        let (plan, warnings) = try PlanBuilder.plan(cases: ClaimCases.all, request)
        let files = try ResultFiles(["--json": output.json])
        let report = try Measuring.report(of: plan, warnings: warnings, isQuiet: output.quiet)
        // Figures of damaged packets would mean nothing.
        if !report.isVerified, let failure = Measuring.failure(report) { throw failure }
        let claims = ClaimJudge(report.results).claims
        Measuring.announce(report.interruption?.description)
        try files.fill(
            { _ in
                ResultJSON.text(
                    BenchDocument(report, command: ProgramRun.commandLine, claims: claims))
            },
            table: ClaimsText(style: output.style, isQuiet: output.quiet).text(claims, report))
        if let failure = Measuring.failure(report) { throw failure }
        let failing = claims.filter { !$0.holds }.map { "\($0.id)" }
        if strict && !failing.isEmpty {
            throw Failure.judged("claims that do not hold: \(failing.joined(separator: ", "))")
        }
    }
}
