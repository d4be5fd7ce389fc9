import ArgumentParser
import Engine
import Host

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

    @Option(
        help: .init(
            "Write the report as JSON (schema \(ReportJSON.schema)); - is standard output.",
            discussion: "Example: --json result.json", valueName: "file"))
    var json: String?

    @Option(
        help: .init(
            "Write the report as CSV, one row per case; - is standard output.",
            discussion: "Example: --csv result.csv", valueName: "file"))
    var csv: String?

    @Flag(help: "Only the table: no progress, machine facts or legend.")
    var quiet = false

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    func run() throws {
        let (plan, warnings) = try PlanBuilder.plan(try options.request())
        if let json, json == csv {
            throw Failure.usage("--json and --csv both name \(json)")
        }
        let jsonFile = try Self.open(json)
        let csvFile = try Self.open(csv)

        do { try StopSignal.catchSignals() } catch { throw Failure.run("\(error)") }
        var report = try measure(plan)
        report.warnings = warnings + report.warnings
        try print(report, json: jsonFile, csv: csvFile)
        if let failure = Self.verificationFailure(report) { throw failure }
        if let interruption = report.interruption { throw Failure.run("\(interruption)") }
    }

    private static func open(_ path: String?) throws(Failure) -> ResultFile? {
        guard let path else { return nil }
        return try ResultFile(path: path)
    }

    /// A reader of standard output that has gone takes nothing away from the files.
    private func print(
        _ report: BenchReport, json: ResultFile?, csv: ResultFile?
    ) throws(Failure) {
        let command = CommandLine.arguments
        if let json { try Self.unlessClosed(json.fill(ReportJSON.text(report, command: command))) }
        if let csv { try Self.unlessClosed(csv.fill(ReportCSV.text(report))) }
        if json?.isStandardOutput == true || csv?.isStandardOutput == true { return }
        let style = Style(stream: .output, isAllowed: !noColor)
        let text = ReportText(style: style, isQuiet: quiet).text(report)
        try Self.unlessClosed(Stream.output.write(text))
    }

    private static func unlessClosed(
        _ write: @autoclosure () throws(Failure) -> Void
    ) throws(Failure) {
        do { try write() } catch {
            if error != .outputClosed { throw error }
        }
    }

    private func measure(_ plan: BenchPlan) throws(Failure) -> BenchReport {
        let runner: BenchRunner
        do { runner = try BenchRunner(plan) } catch {
            throw StopSignal.received == nil
                ? .usage(error.description) : .run(error.description)
        }
        let line = ProgressLine(isQuiet: quiet)
        defer { line.clear() }
        do { return try runner.run(progress: line.show) } catch {
            throw .run(error.description)
        }
    }

    /// Which cases lost or spoilt packets, if any did.
    static func verificationFailure(_ report: BenchReport) -> Failure? {
        guard !report.isVerified else { return nil }
        let bad = report.results.filter { $0.verify.corrupt > 0 || $0.verify.lost > 0 }
        let list = bad.map {
            "\($0.benchCase.displayName): \($0.verify.corrupt) corrupt and "
                + "\($0.verify.lost) lost of \($0.verify.packets)"
        }
        return .run("verification failed: \(list.joined(separator: "; "))")
    }
}
