import Glibc

/// Colours, where they are wanted: on a terminal, unless NO_COLOR is set
/// or the terminal is a dumb one.
package struct Style {
    package let isColoured: Bool

    package static let plain = Style(isColoured: false)

    private init(isColoured: Bool) { self.isColoured = isColoured }

    /// - Parameter isAllowed: false if the user asked for no colours.
    package init(stream: Stream, isAllowed: Bool) {
        let noColor = getenv("NO_COLOR").map { String(cString: $0) } ?? ""
        let terminal = getenv("TERM").map { String(cString: $0) } ?? ""
        isColoured = isAllowed && stream.isTerminal && noColor.isEmpty && terminal != "dumb"
    }

    package func bold(_ text: String) -> String { wrap(text, "1") }
    package func red(_ text: String) -> String { wrap(text, "31") }
    package func yellow(_ text: String) -> String { wrap(text, "33") }

    private func wrap(_ text: String, _ code: String) -> String {
        isColoured ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}
