import CleaveBench
import CleaveProgramSupport

/// Small panels of horizontal bars, each with a scale of its own, every bar with its name, its
/// figure and its range: nothing has to be looked up in a legend or read off an axis. Panels are
/// next to each other as far as the window is wide, and under each other in a narrow one.
struct BarChart {
    struct Bar {
        var label: String
        /// Style class that gives the colour.
        var colour: String
        /// Lengths of the bar's parts, from zero on. One alone may be negative.
        var parts: [Double]
        var figure: String
        /// Of the passes: a thin line from the least to the largest, a thick one over the middle
        /// half; nil for a figure without passes.
        var range: Spread?

        fileprivate var length: Double { parts.reduce(0, +) }
    }

    struct Panel {
        var title: String
        var bars: [Bar]
    }

    /// What a reader has to know of every chart.
    static let explanation =
        "Bars are medians. The thin line goes from the least to the largest of the passes, the "
        + "thick one over their middle half; an arrow says that a pass lies beyond the panel."

    /// What the chart shows, for those who cannot see it.
    let title: String
    /// Names of the parts, if bars have several.
    var partNames: [String] = []
    let panels: [Panel]

    /// Lengths that are no numbers are drawn as nothing; several parts of a bar are not negative.
    init(_ title: String, partNames: [String] = [], _ panels: [Panel]) {
        (self.title, self.partNames) = (title, partNames)
        var drawable = panels
        for panel in drawable.indices {
            for bar in drawable[panel].bars.indices {
                let parts = panels[panel].bars[bar].parts
                drawable[panel].bars[bar].parts = parts.map {
                    $0.isFinite ? parts.count == 1 ? $0 : max(0, $0) : 0
                }
            }
        }
        self.panels = drawable
    }

    /// The panels, in an element that breaks them into rows.
    var markup: String {
        let shown = panels.filter { !$0.bars.isEmpty }
        let legend = partNames.isEmpty ? "" : self.legend
        return legend
            + Markup.element(
                "div", ["class": "panels", "role": "group", "aria-label": title],
                "\n" + shown.map { PanelDrawing($0).markup }.joined(separator: "\n") + "\n")
    }

    private var legend: String {
        let parts = partNames.enumerated().map { index, name in
            let sample = SVG.document(
                width: 12, height: 12, title: name,
                SVG.rectangle(0, 0, 12, 12, class: "ink part\(index)"))
            return Markup.element("span", [:], sample + Markup.escape(name))
        }
        return Markup.element("p", ["class": "legend"], parts.joined())
    }
}

/// One panel as markup.
private struct PanelDrawing {
    private let panel: BarChart.Panel
    /// Names are left of their bars if they are short, above them otherwise.
    private let labelsAbove: Bool
    private let labelWidth: Double
    private let width: Double
    private let scale: BarScale

    private static let rowHeight = 20.0
    private static let labelHeight = 16.0
    private static let barHeight = 13.0
    /// About the width of a character.
    private static let characterWidth = 7.3
    /// Digits, and the mark of noise, are wider.
    private static let figureCharacterWidth = 7.8
    private static let figureGap = 6.0
    private static let leastBarWidth = 110.0
    /// Fits a telephone's window.
    private static let mostWidth = 350.0
    private static let longestLabel = 16

    init(_ panel: BarChart.Panel) {
        self.panel = panel
        let longest = panel.bars.map(\.label.count).max() ?? 0
        let figures = panel.bars.map(\.figure.count).max() ?? 0
        let figureWidth = Self.figureGap + Self.figureCharacterWidth * Double(figures) + 2
        labelsAbove = longest > Self.longestLabel
        labelWidth = labelsAbove ? 0 : Self.characterWidth * Double(longest) + 8
        let barWidth = max(
            Self.leastBarWidth,
            (labelsAbove ? Self.mostWidth : 250) - labelWidth - figureWidth)
        width = labelWidth + barWidth + figureWidth
        scale = BarScale(panel.bars, width: barWidth)
    }

    private var rowHeight: Double { Self.rowHeight + (labelsAbove ? Self.labelHeight : 0) }

    var markup: String {
        let height = Double(panel.bars.count) * rowHeight
        let zero = labelWidth + scale.zero
        var body = Markup.text("title", [:], panel.title)
        body += SVG.line(zero, 0, zero, height)
        for (row, bar) in panel.bars.enumerated() {
            body += draw(bar, top: Double(row) * rowHeight)
        }
        let heading = panel.title.isEmpty ? "" : Markup.text("h4", [:], panel.title)
        return Markup.element(
            "div",
            ["class": "panel", "style": "width:\(Numbers.fixed(max(width, 230), 0))px"],
            heading + SVG.document(width: width, height: height, title: panel.title, body))
    }

    private func draw(_ bar: BarChart.Bar, top: Double) -> String {
        let barTop = top + (labelsAbove ? Self.labelHeight : 0)
        let middle = barTop + Self.rowHeight / 2
        var text = Markup.text("title", [:], Self.words(bar))
        text +=
            labelsAbove
            ? SVG.text(cut(bar.label), 0, top + 12.5)
            : SVG.text(bar.label, labelWidth - 6, middle + 4, anchor: "end")
        var end = 0.0
        for (index, part) in bar.parts.enumerated() {
            let from = scale.place(min(end, end + part))
            let to = scale.place(max(end, end + part))
            text += SVG.rectangle(
                labelWidth + from, middle - Self.barHeight / 2, to - from, Self.barHeight,
                class: "\(bar.colour) part\(index)")
            end += part
        }
        if let range = bar.range { text += whisker(range, middle) }
        text += SVG.text(
            bar.figure, labelWidth + scale.width + Self.figureGap, middle + 4, class: "figure")
        return Markup.element("g", [:], text) + "\n"
    }

    private func whisker(_ range: Spread, _ y: Double) -> String {
        guard range.min < range.max else { return "" }
        var text = SVG.line(
            labelWidth + scale.place(range.min), y, labelWidth + scale.place(range.max), y,
            class: "whisker")
        if let low = range.q1, let high = range.q3 {
            text += SVG.line(
                labelWidth + scale.place(low), y, labelWidth + scale.place(high), y,
                class: "quartiles")
        }
        // What lies beyond the panel is cut, and an arrow says so.
        if range.max > scale.high {
            text += SVG.text("›", labelWidth + scale.width, y + 4, anchor: "end", class: "beyond")
        }
        if range.min < scale.low { text += SVG.text("‹", labelWidth, y + 4, class: "beyond") }
        return text
    }

    private func cut(_ label: String) -> String {
        let room = Int(width / Self.characterWidth)
        return label.count > room ? label.prefix(room - 1) + "…" : label
    }

    /// All that is known of a bar, for a pointer over it.
    private static func words(_ bar: BarChart.Bar) -> String {
        let words = "\(bar.label): \(bar.figure)"
        guard let range = bar.range, range.min < range.max else { return words }
        let quartiles =
            if let low = range.q1, let high = range.q3 {
                ", middle half \(ZeroCopyText.figure(low)) to \(ZeroCopyText.figure(high))"
            } else { "" }
        return "\(words), least \(ZeroCopyText.figure(range.min)), "
            + "largest \(ZeroCopyText.figure(range.max))\(quartiles)"
    }
}

/// Where values lie in a panel: zero is in it, and both sides of it have one scale.
struct BarScale {
    let low: Double
    let high: Double
    let width: Double

    /// A single pass may have taken many times as long as the others: beyond this multiple of the
    /// largest bar, its range is cut.
    private static let mostBeyond = 1.4

    init(_ bars: [BarChart.Bar], width: Double) {
        self.width = width
        let lengths = bars.map { $0.parts.reduce(0, +) }
        func end(_ sign: Double) -> Double {
            let bar = lengths.map { sign * $0 }.max() ?? 0
            // The longest bar of either side says how far ranges may go.
            let limit = Self.mostBeyond * (lengths.map(abs).max() ?? 0)
            let ranges = bars.compactMap(\.range).flatMap { [$0.min, $0.max] }.filter(\.isFinite)
            let range = ranges.map { sign * $0 }.max() ?? 0
            return max(0, bar, min(range, limit))
        }
        (low, high) = (-end(-1), end(1))
    }

    var zero: Double { place(0) }

    /// Units of the drawing from the left end of the bars' room.
    func place(_ value: Double) -> Double {
        let span = high - low
        guard span > 0, span.isFinite, !value.isNaN else { return 0 }
        return (min(max(value, low), high) - low) / span * width
    }
}
