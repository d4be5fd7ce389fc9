import ArgumentParser
import CleaveProfiling

/// Compares two profiles.
struct ProfileDiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare two profiles stage by stage and name what changed.",
        discussion: """
            A stage has changed if all passes of B lie on one side of all passes of A and the \
            medians differ by more than 1 % of the turn. Cases are compared by their names.

            Example: profile diff before.json after.json
            """)

    @Argument(help: .init("A profile that --json wrote.", valueName: "A"))
    var before: String

    @Argument(help: .init("Another one.", valueName: "B"))
    var after: String

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    func run() throws {
        let first = try ProfileFile(path: before)
        let second = try ProfileFile(path: after)
        let text = ProfileDiffText(style: Style(stream: .output, isAllowed: !noColor))
        var sections: [String] = []
        for run in second.runs {
            guard let other = first.runs.first(where: { $0.name == run.name }) else { continue }
            let diff = ProfileDiff(
                before: other.stages, after: run.stages, turns: (other.turn, run.turn))
            sections.append(text.text(run.name, diff))
        }
        guard !sections.isEmpty else {
            throw Failure.usage("\(before) and \(after) have no case in common")
        }
        try Stream.output.write(sections.joined(separator: "\n"))
    }
}
