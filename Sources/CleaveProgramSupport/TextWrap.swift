/// Text in lines that fit a terminal.
package enum TextWrap {
    /// For prose that goes to a file.
    package static let usualWidth = 100

    /// `text` broken at blanks. A word that is longer than a line stays whole.
    /// - Parameters:
    ///   - width: of a line; nil for one line, as long as it gets.
    ///   - indentation: blanks before each line but the first.
    package static func lines(_ text: String, width: Int?, indentation: Int) -> [String] {
        guard let width, text.count > width else { return [text] }
        var lines: [String] = []
        // Blanks at the beginning belong to the text, and so do several between words.
        var line = String(text.prefix { $0 == " " })
        var isEmpty = true
        var gap = 0
        let blanks = String(repeating: " ", count: indentation)
        for word in text.dropFirst(line.count).split(
            separator: " ", omittingEmptySubsequences: false)
        {
            if word.isEmpty {
                gap += 1
                continue
            }
            let between = isEmpty ? 0 : gap + 1
            if !isEmpty && line.count + between + word.count > width {
                lines.append(line)
                line = blanks + word
            } else {
                line += String(repeating: " ", count: between) + word
            }
            (isEmpty, gap) = (false, 0)
        }
        return lines + [line]
    }

    /// Each line of `text` by itself.
    package static func text(_ text: String, width: Int?, indentation: Int = 0) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .flatMap { lines(String($0), width: width, indentation: indentation) }
            .joined(separator: "\n")
    }
}
