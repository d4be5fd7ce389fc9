import CleaveProgramSupport

/// Small panels of horizontal bars, each with a scale of its own, every bar with its name and its
/// figure: nothing has to be looked up in a legend or read off an axis.
struct BarChart {
    struct Bar {
        var label: String
        /// Style class that gives the colour.
        var colour: String
        /// Lengths of the bar's parts, from the left; not negative.
        var parts: [Double]
        var figure: String
    }

    struct Panel {
        var title: String
        var bars: [Bar]
    }

    /// What the chart shows, for those who cannot see it.
    let title: String
    /// Names of the parts, if bars have several.
    var partNames: [String] = []
    let panels: [Panel]
    /// Room for the bars' names.
    var labelWidth = 50.0
    /// Room for their figures.
    var figureWidth = 42.0
    /// Panels side by side.
    var columnCount = 5

    private static let width = 960.0
    private static let gap = 20.0
    private static let rowHeight = 19.0
    private static let barHeight = 13.0
    private static let titleHeight = 24.0
    private static let legendHeight = 28.0

    private var panelWidth: Double {
        (Self.width - Self.gap * Double(columnCount - 1)) / Double(columnCount)
    }

    /// A chart whose names and titles need not be short: as many panels side by side as they leave
    /// room for. Lengths below zero and no numbers are drawn as nothing.
    static func fitting(
        _ title: String, partNames: [String] = [], _ panels: [Panel]
    ) -> BarChart {
        let bars = panels.flatMap(\.bars)
        let labels = bars.map(\.label.count).max() ?? 0
        let labelWidth = min(520, max(50, 7 * Double(labels) + 12))
        let figures = bars.map(\.figure.count).max() ?? 0
        let figureWidth = max(42, 7.2 * Double(figures) + 10)
        let titles = panels.map(\.title.count).max() ?? 0
        let panelWidth = max(labelWidth + figureWidth + 86, 7.2 * Double(titles))
        let columnCount = max(1, min(5, Int((width + gap) / (panelWidth + gap))))
        var drawable = panels
        for panel in drawable.indices {
            for bar in drawable[panel].bars.indices {
                drawable[panel].bars[bar].parts = panels[panel].bars[bar].parts.map {
                    $0.isFinite ? max(0, $0) : 0
                }
            }
        }
        return BarChart(
            title: title, partNames: partNames, panels: drawable, labelWidth: labelWidth,
            figureWidth: figureWidth, columnCount: min(columnCount, max(2, panels.count)))
    }

    /// Names without the words that all of them have.
    static func telling(_ names: [String]) -> [String] {
        guard names.count > 1 else { return names }
        let words = names.map { $0.split(separator: " ") }
        let common = words.dropFirst().reduce(Set(words[0])) { $0.intersection($1) }
        return zip(names, words).map { name, words in
            let rest = words.filter { !common.contains($0) }.joined(separator: " ")
            return rest.isEmpty ? name : rest
        }
    }

    var svg: String {
        var body = Markup.text("title", [:], title)
        var top = 0.0
        if !partNames.isEmpty {
            body += legend
            top = Self.legendHeight
        }
        var index = 0
        while index < panels.count {
            let row = panels[index..<min(index + columnCount, panels.count)]
            for (column, panel) in row.enumerated() {
                let left = Double(column) * (panelWidth + Self.gap)
                body += draw(panel, left: left, top: top)
            }
            let bars = row.map(\.bars.count).max() ?? 0
            top += Self.titleHeight + Double(bars) * Self.rowHeight + Self.gap
            index += columnCount
        }
        return SVG.document(width: Self.width, height: max(1, top - Self.gap), title: title, body)
    }

    private var legend: String {
        var left = 0.0
        var text = ""
        for (index, name) in partNames.enumerated() {
            text += SVG.rectangle(left, 4, 12, 12, class: "ink part\(index)")
            text += SVG.text(name, left + 17, 14)
            left += 40 + 8 * Double(name.count)
        }
        return text
    }

    private func draw(_ panel: Panel, left: Double, top: Double) -> String {
        let room = panelWidth - labelWidth - figureWidth
        let largest = panel.bars.map { $0.parts.reduce(0, +) }.max() ?? 0
        let scale = largest > 0 && largest.isFinite ? room / largest : 0
        let bottom = top + Self.titleHeight + Double(panel.bars.count) * Self.rowHeight
        var text = SVG.text(panel.title, left, top + 15, class: "strong")
        text += SVG.line(
            left + labelWidth, top + Self.titleHeight, left + labelWidth, bottom)
        for (row, bar) in panel.bars.enumerated() {
            let y = top + Self.titleHeight + Double(row) * Self.rowHeight
            text += SVG.text(
                bar.label, left + labelWidth - 6, y + 13.5, anchor: "end")
            var x = left + labelWidth
            for (index, part) in bar.parts.enumerated() {
                let length = part * scale
                let names = "\(bar.colour) part\(index)"
                text += SVG.rectangle(
                    x, y + (Self.rowHeight - Self.barHeight) / 2, length, Self.barHeight,
                    class: names)
                x += length
            }
            text += SVG.text(bar.figure, x + 5, y + 13.5, class: "figure")
        }
        return text
    }
}
