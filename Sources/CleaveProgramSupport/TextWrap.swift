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

    /// Characters of the longest word.
    static func longestWord(_ text: String) -> Int {
        text.split(separator: " ").map(\.count).max() ?? 0
    }

    /// Characters that a name keeps at least, its mark among them.
    private static let leastWord = 12

    /// `text` with its longest word shortened in the middle, as far as the width asks for it: what
    /// tells names apart is at their ends.
    package static func shortened(_ text: String, to width: Int) -> String {
        let word = longestWord(text)
        // What goes on in a further line is indented by two.
        let indented = text.prefix { $0 == " " }.count + 2
        let isOneLine = text.count - word + leastWord <= width
        let room = isOneLine ? width - text.count + word : width - indented
        let words: [Substring] = text.split(separator: " ")
        guard text.count > width, word > room, room >= leastWord,
            let place: Substring = words.first(where: { $0.count == word })
        else { return text }
        let head: Int = (room - mark.count) / 2
        let tail: Int = room - mark.count - head
        let start = text.distance(from: text.startIndex, to: place.startIndex)
        var result = String(text.prefix(start + head))
        result += mark
        result += place.suffix(tail)
        result += text.suffix(text.count - start - word)
        return result
    }

    private static let mark = "..."

    /// Each line of `text` by itself.
    package static func text(_ text: String, width: Int?, indentation: Int = 0) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .flatMap { lines(String($0), width: width, indentation: indentation) }
            .joined(separator: "\n")
    }
}
