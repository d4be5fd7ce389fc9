import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// Says what the machine is and what makes figures taken on it less certain.
struct MachineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "machine",
        abstract: "Show the facts about this machine that a report carries, and warnings.",
        discussion: "Example: machine --json")

    @Flag(help: "One JSON object instead of lines.")
    var json = false

    @Flag(help: "No colours; NO_COLOR in the environment does the same.")
    var noColor = false

    private struct Document: Encodable {
        var schema = BenchDocument.schema
        var program = ProgramRecord.current
        let machine: MachineRecord
        let warnings: [String]
    }

    func run() throws {
        let facts = MachineFacts.current()
        if json {
            let document = Document(machine: MachineRecord(facts), warnings: facts.warnings)
            try Stream.output.write(ResultJSON.text(document))
        } else {
            let style = Style(stream: .output, isAllowed: !noColor)
            try Stream.output.write(
                MachineText.lines(MachineText.facts(facts), warnings: facts.warnings, style))
        }
    }
}
