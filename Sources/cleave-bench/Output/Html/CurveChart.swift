import CleaveBench
import CleaveProgramSupport
import Foundation

/// Small panels of curves: latency over percentile, both axes logarithmic, with a legend above. The
/// horizontal axis is as HdrHistogram's: each step to the right leaves a tenth of the packets.
struct CurveChart {
    struct Curve {
        var label: String
        /// Style class that gives the colour.
        var colour: String
        /// 0 for a solid line; curves of one colour differ in it.
        var dash = 0
        /// Nanoseconds, by rising percentile.
        var points: [LatencyPoint]
        /// How many values the points stand for.
        var count: Int
    }

    struct Panel {
        var title: String
        var curves: [Curve]
    }

    /// What the chart shows, for those who cannot see it.
    let title: String
    let panels: [Panel]

    init(_ title: String, _ panels: [Panel]) { (self.title, self.panels) = (title, panels) }

    var markup: String {
        let shown = panels.filter { !$0.curves.isEmpty }
        let curves = shown.flatMap(\.curves).reduce(into: [Curve]()) { curves, curve in
            if !curves.contains(where: { $0.label == curve.label }) { curves.append(curve) }
        }
        let legend = curves.map { curve in
            let sample = SVG.document(
                width: 26, height: 12, title: curve.label,
                SVG.polyline([(0, 6), (26, 6)], class: Self.style(curve)))
            return Markup.element("span", [:], sample + Markup.escape(curve.label))
        }
        return Markup.element("p", ["class": "legend"], legend.joined())
            + Markup.element(
                "div", ["class": "panels", "role": "group", "aria-label": title],
                "\n" + shown.map { CurveDrawing($0).markup }.joined(separator: "\n") + "\n")
    }

    fileprivate static func style(_ curve: Curve) -> String {
        "curve \(curve.colour)" + (curve.dash == 0 ? "" : " dash\(min(curve.dash, 3))")
    }
}

/// One panel as markup.
private struct CurveDrawing {
    private let panel: CurveChart.Panel
    /// Powers of ten: of the share of packets that is left, and of nanoseconds.
    private let nines: Int
    private let decades: ClosedRange<Int>

    private static let left = 52.0
    private static let width = 350.0
    private static let height = 190.0
    private static let bottom = 18.0
    private static let top = 6.0

    init(_ panel: CurveChart.Panel) {
        self.panel = panel
        let most = panel.curves.map(\.count).max() ?? 1
        nines = max(1, min(8, Int(Self.log10(Double(most)).rounded(.up))))
        let values = panel.curves.flatMap(\.points).map(\.nanoseconds).filter { $0 > 0 }
        let low = Int(Self.log10(values.min() ?? 1).rounded(.down))
        let high = Int(Self.log10(values.max() ?? 10).rounded(.up))
        decades = low...max(high, low + 1)
    }

    var markup: String {
        var body = Markup.text("title", [:], panel.title)
        for nine in 0...nines {
            let x = place(nine: Double(nine))
            body += SVG.line(x, Self.top, x, Self.height - Self.bottom)
            body += SVG.text(
                Self.percent(nine), x, Self.height - 4, anchor: nine == nines ? "end" : "middle",
                class: "figure")
        }
        for decade in decades {
            let y = place(decade: Double(decade))
            body += SVG.line(Self.left, y, Self.width, y)
            body += SVG.text(
                Self.time(decade), Self.left - 5, y + 4, anchor: "end", class: "figure")
        }
        for curve in panel.curves { body += draw(curve) + "\n" }
        return Markup.element(
            "div", ["class": "panel", "style": "width:\(Numbers.fixed(Self.width, 0))px"],
            Markup.text("h4", [:], panel.title)
                + SVG.document(
                    width: Self.width, height: Self.height, title: panel.title, body))
    }

    private func draw(_ curve: CurveChart.Curve) -> String {
        let points = curve.points.filter { $0.nanoseconds > 0 }.map { point in
            // The last point has no packet beyond it: it is where one of all would be.
            let left = max(1 - point.percentile / 100, 1 / Double(max(1, curve.count)))
            return (
                x: place(nine: -Self.log10(left)),
                y: place(decade: Self.log10(point.nanoseconds))
            )
        }
        return Markup.element(
            "g", [:],
            Markup.text("title", [:], curve.label)
                + SVG.polyline(points, class: CurveChart.style(curve)))
    }

    private func place(nine: Double) -> Double {
        Self.left + min(nine, Double(nines)) / Double(nines) * (Self.width - Self.left)
    }

    private func place(decade: Double) -> Double {
        let span = Double(decades.upperBound - decades.lowerBound)
        let share = (decade - Double(decades.lowerBound)) / span
        return Self.height - Self.bottom - share * (Self.height - Self.bottom - Self.top)
    }

    private static func log10(_ value: Double) -> Double { Foundation.log10(value) }

    /// `0`, `90`, `99`, `99.9`: percent.
    private static func percent(_ nines: Int) -> String {
        switch nines {
        case 0: "0 %"
        case 1: "90"
        case 2: "99"
        default: "99." + String(repeating: "9", count: nines - 2)
        }
    }

    /// A power of ten of nanoseconds.
    private static func time(_ decade: Int) -> String {
        let units = ["ns", "us", "ms", "s"]
        let unit = max(0, min(units.count - 1, decade / 3))
        let power = decade - 3 * unit
        let figure = power >= 0 ? "1" + String(repeating: "0", count: power) : "0.1"
        return "\(figure) \(units[unit])"
    }
}
