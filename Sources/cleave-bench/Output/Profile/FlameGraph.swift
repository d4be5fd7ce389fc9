import CleaveBench
import CleaveProfiling
import CleaveProgramSupport

/// Folded stacks as a picture of its own: the wider, the more cycles. Pointing at a frame shows
/// what it is and takes.
struct FlameGraph {
    /// A frame with what lies on it.
    private final class Frame {
        let name: String
        var cycles: UInt64 = 0
        var inner: [Frame] = []

        init(_ name: String) { self.name = name }

        func frame(_ name: String) -> Frame {
            if let found = inner.first(where: { $0.name == name }) { return found }
            let frame = Frame(name)
            inner.append(frame)
            return frame
        }

        var depth: Int { 1 + (inner.map(\.depth).max() ?? 0) }
    }

    private static let width = 1200.0
    private static let rowHeight = 20.0
    private static let captionHeight = 16.0
    /// Characters of a caption that surely fit.
    private static let captionWidth = 170
    /// Frames narrower than this are left out.
    private static let leastWidth = 0.2

    private let root = Frame("all")
    private let title = "Cycles of the receive path, by stage"
    /// What the picture shows, where, and how it was made.
    private let captions: [String]

    /// - Parameter document: of the same runs.
    init(_ stacks: FoldedStacks, _ document: ProfileDocument) {
        let periods = Set(document.runs.compactMap(\.period)).sorted().map { "\($0)" }
        let scale =
            "Width: TSC cycles of all polls, by the table's medians (1 poll in "
            + "\(periods.joined(separator: " or ")) measured); grey: waiting"
        captions =
            [
                scale, document.machine?.identity,
                document.program.map { "cleave-bench \($0.words)" },
                document.started.map { "started \($0)" }, document.command?.text,
            ].compactMap(\.self).flatMap {
                TextWrap.lines($0, width: Self.captionWidth, indentation: 2)
            }
        for stack in stacks.stacks {
            var frame = root
            frame.cycles &+= stack.cycles
            for name in stack.frames {
                frame = frame.frame(name)
                frame.cycles &+= stack.cycles
            }
        }
    }

    /// An SVG document.
    var text: String {
        let top = 28 + Self.captionHeight * Double(captions.count)
        let height = top + Self.rowHeight * Double(root.depth) + 8
        // Pages may be dark; the words are not.
        var body = Markup.element("rect", ["width": "100%", "height": "100%", "fill": "#fff"])
        body += label(title, x: 8, y: 18, size: 14)
        for (index, caption) in captions.enumerated() {
            body += label(
                caption, x: 8, y: 34 + Self.captionHeight * Double(index), size: 12)
        }
        if root.cycles > 0 {
            draw(root, x: 0, width: Self.width, bottom: height - 8, poll: nil, into: &body)
        } else {
            body += label("no cycles were measured", x: 8, y: top + 14, size: 12)
        }
        return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            + Markup.element(
                "svg",
                [
                    "xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": title,
                    "viewBox": "0 0 \(number(Self.width)) \(number(height))",
                    "font-family": "sans-serif",
                ], "\n" + body) + "\n"
    }

    private func draw(
        _ frame: Frame, x: Double, width: Double, bottom: Double, poll: Frame?,
        into body: inout String
    ) {
        func percent(_ whole: Frame) -> String {
            Numbers.percent(Double(frame.cycles) / Double(max(1, whole.cycles)))
        }
        let ofPoll = poll.map { "\(percent($0)) % of its polls, " } ?? ""
        let words = "\(frame.name): \(ofPoll)\(percent(root)) % of all (\(frame.cycles) cycles)"
        let poll = frame.name == "poll" ? frame : poll
        var content =
            Markup.text("title", [:], words)
            + Markup.element(
                "rect",
                [
                    "x": number(x), "y": number(bottom - Self.rowHeight), "width": number(width),
                    "height": number(Self.rowHeight - 1), "fill": Self.colour(frame.name),
                    "rx": "2",
                ])
        let room = Int((width - 6) / 7)
        if room >= 3 {
            let isLong = frame.name.count > room
            let name = isLong ? frame.name.prefix(room - 1) + "…" : frame.name[...]
            content += label(String(name), x: x + 4, y: bottom - 6, size: 12)
        }
        body += Markup.element("g", [:], content) + "\n"
        var position = x
        for inner in frame.inner {
            let part = width * Double(inner.cycles) / Double(max(1, frame.cycles))
            if part >= Self.leastWidth {
                draw(
                    inner, x: position, width: part, bottom: bottom - Self.rowHeight, poll: poll,
                    into: &body)
            }
            position += part
        }
    }

    private func label(_ text: String, x: Double, y: Double, size: Int) -> String {
        Markup.text("text", ["x": number(x), "y": number(y), "font-size": "\(size)"], text)
    }

    /// Warm colours, the same for a name in every picture; grey for waiting.
    private static func colour(_ name: String) -> String {
        if name == "idle" || name.hasPrefix("no ") { return "#c8ccd0" }
        let hash = name.utf8.reduce(UInt32(17)) { $0 &* 31 &+ UInt32($1) }
        return "hsl(\(hash % 50 + 5),\(70 + hash / 64 % 20)%,\(62 + hash / 4096 % 12)%)"
    }

    private func number(_ value: Double) -> String { Numbers.fixed(value, 1) }
}
