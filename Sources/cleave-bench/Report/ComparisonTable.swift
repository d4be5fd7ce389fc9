import CleaveBench
import CleaveProgramSupport

/// All figures of one ring as a table: a block of rows for each traffic, a column for each method.
struct ComparisonTable {
    private let columns: [Comparison.Column]
    private let groups: [Comparison.Group]
    private let figures: [ComparisonFigure]
    private let ring: String

    init(_ comparison: Comparison, ring: String, figures: [ComparisonFigure]) {
        columns = comparison.columns(of: ring)
        groups = comparison.groups
        self.figures = figures
        self.ring = ring
    }

    var markup: String {
        let heading = Markup.element(
            "tr", [:],
            Markup.text("th", [:], "\(ring) ring")
                + columns.map { Markup.text("th", ["scope": "col"], $0.label) }.joined())
        let bodies = groups.map { group in
            let title = Markup.text(
                "th", ["colspan": "\(columns.count + 1)", "scope": "rowgroup"], group.title)
            return Markup.element(
                "tbody", [:],
                Markup.element("tr", ["class": "group"], title)
                    + figures.map { row($0, group) }.joined())
        }
        return Markup.element(
            "table", [:], Markup.element("thead", [:], heading) + bodies.joined(separator: "\n"))
    }

    private func row(_ figure: ComparisonFigure, _ group: Comparison.Group) -> String {
        let cells = columns.map { column -> String in
            guard let run = group.runs[column] else {
                return Markup.text("td", [:], "")
            }
            var cell = Markup.escape(figure.text(run))
            if let range = figure.range(run), range.min != range.max {
                cell += Markup.text("small", [:], range.range(figure.format))
            }
            // The larger the share, the deeper the colour.
            guard let share = figure.share(run), share.isFinite else {
                return Markup.element("td", [:], cell)
            }
            let depth = Numbers.fixed(0.06 + 0.5 * max(0, min(1, share)), 3)
            return Markup.element("td", ["style": "background:rgba(0,158,115,\(depth))"], cell)
        }
        let name = Markup.text(
            "th", ["scope": "row", "class": figure.isPart ? "partial" : "total"], figure.name)
        return Markup.element("tr", [:], name + cells.joined())
    }
}
