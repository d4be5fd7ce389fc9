import ArgumentParser
import CleaveBench
import CleaveProfiling
import CleaveProgramSupport

/// Where pictures and traces of a profile go.
struct ProfileOutputOptions: ParsableArguments {
    @Option(
        help: .init(
            "Write a flame graph, which any browser shows; - is standard output.",
            discussion: "Example: --svg profile.svg", valueName: "file"))
    var svg: String?

    @Option(
        help: .init(
            "Write the last measured polls of each RQ as a trace for Perfetto or Chrome.",
            discussion: "Example: --trace profile.trace.json", valueName: "file"))
    var trace: String?

    @Option(
        help: .init(
            "Write folded stacks, which other flame graph programs read.",
            discussion: "Example: --folded profile.folded", valueName: "file"))
    var folded: String?

    @Option(
        help: .init(
            "One poll in so many is measured; 1 for all.",
            discussion: "Example: --period 16", valueName: "count"))
    var period: UInt32?

    /// The files of these options and the report's.
    func files(json: String?) throws(Failure) -> ResultFiles {
        try ResultFiles(
            ["--json": json, "--svg": svg, "--trace": trace, "--folded": folded])
    }

    /// The text for one of these flags, or for `json`.
    static func text(
        _ flag: String, _ runs: [ProfileRun], _ document: ProfileDocument
    ) -> String {
        switch flag {
        case "--svg": FlameGraph(stacks(runs), document).text
        case "--trace": ChromeTrace.text(runs)
        case "--folded": stacks(runs).text
        default: ResultJSON.text(document)
        }
    }

    private static func stacks(_ runs: [ProfileRun]) -> FoldedStacks {
        var stacks = FoldedStacks()
        for run in runs {
            let rqs = run.rqs.enumerated().map { index, rq in
                let name = "RQ \(rq.number ?? index)"
                return (frames: run.name == name ? [name] : [run.name, name], profile: rq)
            }
            stacks.add(rqs, as: run.table, period: run.period)
        }
        return stacks
    }
}
