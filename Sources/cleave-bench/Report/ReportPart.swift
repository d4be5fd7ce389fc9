/// What a section of the page consists of, in its order.
enum ReportPart {
    case heading(String)
    case paragraph(String)
    case chart(BarChart)
    case table(SortableTable)

    var markup: String {
        switch self {
        case .heading(let text): Markup.text("h3", [:], text)
        case .paragraph(let text): Markup.text("p", [:], text)
        case .chart(let chart): Page.figure(chart.title, chart.svg)
        case .table(let table): table.markup
        }
    }
}

/// A reader of one schema.
protocol ResultReader: Decodable {
    static var schema: String { get }
    /// What such a file holds, for a heading.
    var kind: String { get }
    var command: CommandRecord? { get }
    var machine: MachineRecord? { get }
    var warnings: [String]? { get }
    /// Conditions of the run beside machine and command.
    var conditions: [(name: String, text: String)] { get }
    var parts: [ReportPart] { get }
}
