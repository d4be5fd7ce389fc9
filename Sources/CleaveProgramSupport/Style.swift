import Glibc

/// How text looks where it goes. Colours, where they are wanted: on a terminal, unless NO_COLOR is
/// set or the terminal is a dumb one. Lines as long as the terminal's, or as COLUMNS says.
package struct Style {
    package let isColoured: Bool
    /// Characters of a line; nil for any number, as in a file.
    package let width: Int?

    package static let plain = Style(isColoured: false)

    /// No colours, and lines of at most `width` characters.
    package static func plain(width: Int) -> Style { Style(isColoured: false, width: width) }

    /// Lines of at most `width` characters, coloured as far as the user and the terminal want it.
    package func limited(to width: Int) -> Style { Style(isColoured: isColoured, width: width) }

    private init(isColoured: Bool, width: Int? = nil) {
        (self.isColoured, self.width) = (isColoured, width)
    }

    /// - Parameter isAllowed: false if the user asked for no colours.
    package init(stream: Stream, isAllowed: Bool) {
        let noColor = getenv("NO_COLOR").map { String(cString: $0) } ?? ""
        let terminal = getenv("TERM").map { String(cString: $0) } ?? ""
        isColoured = isAllowed && stream.isTerminal && noColor.isEmpty && terminal != "dumb"
        let columns = getenv("COLUMNS").flatMap { Int(String(cString: $0)) } ?? 0
        let count = stream.columnCount ?? (columns > 0 ? columns : nil)
        // Nobody reads lines of fewer characters, and a line of more is harder to read, not easier.
        width = count.map { min(max($0, 40), 200) }
    }

    package func bold(_ text: String) -> String { wrap(text, "1") }
    package func red(_ text: String) -> String { wrap(text, "31") }
    package func yellow(_ text: String) -> String { wrap(text, "33") }

    private func wrap(_ text: String, _ code: String) -> String {
        isColoured ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}
