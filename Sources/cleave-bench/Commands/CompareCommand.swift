import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// Compares two files of results, for people and for scripts that must stop at a regression.
struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Compare two files of results; exit code 3 if a figure became worse.",
        usage: "cleave-bench compare <OLD> <NEW> [options]",
        discussion: """
            Reads what --json wrote, of any command that measures, twice the same kind. Cases are \
            matched by their names. A figure is better or worse if the middle halves of its passes \
            lie apart in the two files (least and largest, where a file has no quartiles) and \
            the medians differ by more than --threshold. Figures that follow from counts have no \
            range: there the threshold alone decides.

            Figures of different machines or modes do not compare; --force does it all the same.

            Examples:
              compare before.json after.json
              compare before.json after.json --threshold 2% --all
              compare before.json after.json --json changes.json
            """)

    @Argument(help: .init("The older file that --json wrote.", valueName: "OLD"))
    var old: String

    @Argument(help: .init("The newer one.", valueName: "NEW"))
    var new: String

    @Option(
        help: .example(
            "Medians that differ by no more than this are the same.", "--threshold 2%", "percent"))
    var threshold = "5%"

    @Flag(help: "Show figures that are the same as well.")
    var all = false

    @Flag(help: "Compare although machine or mode differ.")
    var force = false

    @Option(
        help: .example(
            "Write every figure as JSON (schema cleave-compare/1); - is standard output.",
            "--json changes.json", "file"))
    var json: String?

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    func run() throws {
        let threshold = try Self.percent(threshold)
        let before = try ResultDocument(path: old)
        let after = try ResultDocument(path: new)
        guard before.schema == after.schema else {
            throw Failure.usage(
                "\(old) is \(before.schema) and \(new) is \(after.schema): nothing to compare")
        }
        if !force, let difference = Self.difference(before.content, after.content) {
            throw Failure.usage(
                "\(old) and \(new) do not compare: \(difference); --force compares them")
        }
        let comparison = ResultComparison(
            old: before.content.comparedFigures, new: after.content.comparedFigures,
            threshold: threshold)
        guard !comparison.rows.isEmpty else {
            throw Failure.usage("\(old) and \(new) have no case in common")
        }
        let files = try ResultFiles(["--json": json])
        let style = Style(stream: .output, isAllowed: !noColor)
        let heading = [("old", before), ("new", after)].map { name, document in
            "\(name): \(document.path)\(Self.origin(document.content))"
        }
        let text = ResultComparisonText(style: style, showsAll: all)
        try files.fill(
            { _ in
                ResultJSON.text(
                    ResultComparisonDocument(
                        comparison, old: before, new: after, threshold: threshold,
                        command: ProgramRun.commandLine))
            },
            table: heading.map {
                TextWrap.text($0, width: style.width, indentation: 5) + "\n"
            }.joined() + "\n" + text.text(comparison, threshold: threshold))
        let worse = comparison.rows.filter { $0.verdict == .worse }
        guard let first = worse.first else { return }
        let others = worse.count == 1 ? "" : " and \(worse.count - 1) more"
        throw Failure.judged("worse: \(first.old.subject), \(first.old.name)\(others)")
    }

    private static func percent(_ text: String) throws(Failure) -> Double {
        let digits = text.hasSuffix("%") ? text.dropLast() : text[...]
        guard let value = Double(digits), (0...1000).contains(value) else {
            throw .usage("--threshold: \"\(text)\" is no number of percent from 0 to 1000")
        }
        return value
    }

    /// Why figures do not compare; nil if they may.
    private static func difference(
        _ old: any ResultSection, _ new: any ResultSection
    ) -> String? {
        let facts: [(String, (any ResultSection) -> String?)] = [
            ("CPU", \.machine?.cpuModel),
            ("mode", { ($0 as? BenchDocument)?.modeName ?? ($0 as? LatencyDocument)?.mode }),
            ("arrivals", { ($0 as? LatencyDocument)?.arrivals }), ("preempted CPUs", preempted),
            ("path", { ($0 as? ZeroCopyDocument)?.through.rawValue }),
            ("build", \.program?.configuration),
        ]
        for (name, fact) in facts {
            // What an older file does not tell may be the same.
            if let one = fact(old), let other = fact(new), one != other {
                return "\(name) \(one), then \(other)"
            }
        }
        return nil
    }

    /// Nil for a kind of file in which nothing can be.
    private static func preempted(_ document: any ResultSection) -> String? {
        func words(_ cpus: [Int]?) -> String { cpus.map { "\(CPUSet($0))" } ?? "none" }
        switch document {
        case let document as BenchDocument: return words(document.preemptedCPUs)
        case let document as ScaleDocument: return words(document.preemptedCPUs)
        case let document as LatencyDocument: return words(document.preemptedCPUs)
        default: return nil
        }
    }

    /// When, and by which program.
    private static func origin(_ document: any ResultSection) -> String {
        [document.started, document.program?.words].compactMap(\.self)
            .map { ", " + $0 }.joined()
    }
}
