import CleaveBench
import CleaveProgramSupport

/// A comparison as one table for people: a block of figures for each traffic, a column for each
/// method.
struct ComparisonText {
    let style: Style
    /// Prints the table and what does not fit into it, without facts and legend.
    var isQuiet = false

    func text(_ report: BenchReport) -> String {
        let document = BenchDocument(report, command: [])
        let figures = ComparisonFigure.all(document)
        return ReportText(style: style, isQuiet: isQuiet).frame(
            report, table: table(Comparison(document.runs), figures), legend: legend(figures))
    }

    /// One table, or one for each ring if that is too wide.
    private func table(_ comparison: Comparison, _ figures: [ComparisonFigure]) -> String {
        let whole = table(comparison, comparison.columns, figures)
        guard let width = style.width, whole.naturalWidth > width else {
            return whole.text(style: style)
        }
        return comparison.rings.map {
            table(comparison, comparison.columns(of: $0), figures).text(style: style)
        }.joined(separator: "\n")
    }

    private func table(
        _ comparison: Comparison, _ columns: [Comparison.Column], _ figures: [ComparisonFigure]
    ) -> TextTable {
        var table = TextTable(
            columns: [.init("packet", "ring", alignment: .left)]
                + columns.map { .init($0.label, $0.ring) })
        let empty = columns.map { _ in "" }
        for group in comparison.groups {
            table.append([""] + empty)
            table.append([group.title] + empty)
            for figure in figures {
                table.append(
                    [(figure.isPart ? "    " : "  ") + figure.name]
                        + columns.map { group.runs[$0].map(figure.text) ?? "" })
            }
        }
        return table
    }

    private func legend(_ figures: [ComparisonFigure]) -> String {
        "medians of the passes; cycles are TSC ticks per packet\n" + Self.methods
            + figures.map { "\($0.name): \($0.meaning)\n" }.joined()
    }

    /// What the columns stand for.
    static let methods = """
        whole: not split; A: headers in the first descriptor of a chain; B: in a page of their own
        C: in small buffers posted between the large ones
        D used, D net: header queue, the slot named by the used entry or in the virtio-net header

        """
}
