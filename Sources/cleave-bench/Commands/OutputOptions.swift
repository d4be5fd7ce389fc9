import ArgumentParser
import CleaveBench
import CleaveProgramSupport

/// Where a report goes, and how much of it people see.
struct OutputOptions: ParsableArguments {
    @Option(
        help: .example(
            "Write the report as JSON (schema \(BenchDocument.schema)); - is standard output.",
            "--json result.json", "file"))
    var json: String?

    @Flag(help: "Only the table: no progress, machine facts or legend.")
    var quiet = false

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    var style: Style { Style(stream: .output, isAllowed: !noColor) }
}
