import CleaveBench
import CleaveProgramSupport

/// What a section of a page consists of, in its order.
enum SectionPart {
    case heading(String)
    case paragraph(String)
    case warning(String)
    case chart(BarChart)
    case curves(CurveChart)
    case comparison(ComparisonTable)
    case table(SortableTable)
    case facts([(name: String, text: String)])
    case list([String])

    var markup: String {
        switch self {
        case .heading(let text): Markup.text("h3", [:], text)
        case .paragraph(let text): Markup.text("p", [:], text)
        case .warning(let text): Markup.text("p", ["class": "bad"], text)
        case .chart(let chart): Page.figure(chart.title, chart.markup)
        case .curves(let chart): Page.figure(chart.title, chart.markup)
        case .comparison(let table): Markup.element("div", ["class": "wide"], table.markup)
        case .table(let table): table.markup
        case .facts(let facts): Page.facts(facts)
        case .list(let lines): Page.list(lines)
        }
    }
}

/// A document of results as a section of a page.
protocol ResultSection: Decodable {
    static var schema: String { get }
    /// What such a file holds, for a heading.
    var kind: String { get }
    var command: CommandRecord? { get }
    var machine: MachineRecord? { get }
    var warnings: [String]? { get }
    /// The build that gave the figures; nil in files of earlier versions, and of other programs.
    var program: ProgramRecord? { get }
    /// UTC, by ISO 8601.
    var started: String? { get }
    /// Figures for `compare`.
    var comparedFigures: [ComparedFigure] { get }
    /// Conditions of the run beside machine and command.
    var conditions: [(name: String, text: String)] { get }
    var parts: [SectionPart] { get }
}

extension ResultSection {
    var program: ProgramRecord? { nil }
    var started: String? { nil }

    /// Where the figures come from.
    var origin: String {
        let command = command.map { Markup.text("code", [:], $0.text) }
        return Markup.text("dt", [:], "command")
            + Markup.element("dd", [:], command ?? "command not recorded")
            + ((machine.map(MachineText.facts) ?? [("machine", "machine not recorded")])
            + [("program", program?.words), ("started", started)]
            .compactMap { name, text in text.map { (name, $0) } } + conditions)
            .map(Page.fact).joined()
    }
}
