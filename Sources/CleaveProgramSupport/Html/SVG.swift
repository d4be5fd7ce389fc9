/// The few shapes that the charts are drawn with. Lengths are in units of the drawing, which is
/// scaled to the page; colours and type come from the page's style.
package enum SVG {
    package static func document(
        width: Double, height: Double, title: String, _ body: String
    ) -> String {
        Markup.element(
            "svg",
            [
                "role": "img", "aria-label": title, "width": number(width),
                "height": number(height), "viewBox": "0 0 \(number(width)) \(number(height))",
            ], body) + "\n"
    }

    package static func rectangle(
        _ x: Double, _ y: Double, _ width: Double, _ height: Double, class name: String
    ) -> String {
        Markup.element(
            "rect",
            [
                "x": number(x), "y": number(y), "width": number(width), "height": number(height),
                "class": name,
            ])
    }

    package static func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, class name: String = "axis"
    ) -> String {
        Markup.element(
            "line",
            [
                "x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2),
                "class": name,
            ])
    }

    /// A line through points.
    package static func polyline(_ points: [(x: Double, y: Double)], class name: String) -> String {
        Markup.element(
            "polyline",
            [
                "points": points.map { "\(number($0.x)),\(number($0.y))" }.joined(separator: " "),
                "class": name,
            ])
    }

    package static func text(
        _ content: String, _ x: Double, _ y: Double, anchor: String = "start",
        class name: String = "plain"
    ) -> String {
        Markup.text(
            "text",
            ["x": number(x), "y": number(y), "text-anchor": anchor, "class": name], content)
    }

    /// With one decimal. Infinite and undefined lengths would make the drawing unreadable for a
    /// parser.
    private static func number(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e9 else { return "0" }
        let tenths = Int((value * 10).rounded(.toNearestOrEven))
        return (tenths < 0 ? "-" : "") + "\(abs(tenths) / 10).\(abs(tenths) % 10)"
    }
}
