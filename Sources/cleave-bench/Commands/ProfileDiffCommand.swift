import ArgumentParser
import CleaveBench
import CleaveProfiling
import CleaveProgramSupport

/// Compares two profiles.
struct ProfileDiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare two profiles stage by stage and name what changed.",
        discussion: """
            A stage has changed if all passes of B lie on one side of all passes of A and the \
            medians differ by more than 1 % of the poll. Cases are compared by their names.

            Example: profile diff before.json after.json
            """)

    @Argument(help: .init("A profile that --json wrote.", valueName: "A"))
    var before: String

    @Argument(help: .init("Another one.", valueName: "B"))
    var after: String

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    func run() throws {
        let first = try Self.runs(of: before)
        let second = try Self.runs(of: after)
        let text = ProfileDiffText(style: Style(stream: .output, isAllowed: !noColor))
        var sections: [String] = []
        for run in second {
            guard let other = first.first(where: { $0.name == run.name }) else { continue }
            let diff = ProfileDiff(
                before: Self.figures(other), after: Self.figures(run),
                polls: (other.turnCyclesPerPacket, run.turnCyclesPerPacket))
            sections.append(text.text(run.name, diff))
        }
        guard !sections.isEmpty else {
            throw Failure.usage("\(before) and \(after) have no case in common")
        }
        try Stream.output.write(sections.joined(separator: "\n"))
    }

    private static func runs(of path: String) throws(Failure) -> [ProfileDocument.Run] {
        let content = try ResultDocument(path: path).content
        guard let profile = content as? ProfileDocument else {
            throw .usage("\(path): no profile: its schema is not \(ProfileDocument.schema)")
        }
        return profile.runs
    }

    private static func figures(_ run: ProfileDocument.Run) -> [ProfileDiff.Figure] {
        run.stages.map {
            ProfileDiff.Figure(name: $0.name, cyclesPerPacket: $0.cyclesPerPacket)
        }
    }
}
