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

    private static let width = 960.0
    private static let columnCount = 5
    private static let gap = 20.0
    private static let labelWidth = 50.0
    private static let figureWidth = 42.0
    private static let rowHeight = 19.0
    private static let barHeight = 13.0
    private static let titleHeight = 24.0
    private static let legendHeight = 28.0

    private static var panelWidth: Double {
        (width - gap * Double(columnCount - 1)) / Double(columnCount)
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
            let row = panels[index..<min(index + Self.columnCount, panels.count)]
            for (column, panel) in row.enumerated() {
                let left = Double(column) * (Self.panelWidth + Self.gap)
                body += draw(panel, left: left, top: top)
            }
            let bars = row.map(\.bars.count).max() ?? 0
            top += Self.titleHeight + Double(bars) * Self.rowHeight + Self.gap
            index += Self.columnCount
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
        let room = Self.panelWidth - Self.labelWidth - Self.figureWidth
        let largest = panel.bars.map { $0.parts.reduce(0, +) }.max() ?? 0
        let scale = largest > 0 && largest.isFinite ? room / largest : 0
        let bottom = top + Self.titleHeight + Double(panel.bars.count) * Self.rowHeight
        var text = SVG.text(panel.title, left, top + 15, class: "strong")
        text += SVG.line(
            left + Self.labelWidth, top + Self.titleHeight, left + Self.labelWidth, bottom)
        for (row, bar) in panel.bars.enumerated() {
            let y = top + Self.titleHeight + Double(row) * Self.rowHeight
            text += SVG.text(
                bar.label, left + Self.labelWidth - 6, y + 13.5, anchor: "end")
            var x = left + Self.labelWidth
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
