// No run of code appears twice.

enum RepetitionRules {
    /// Lines of code that may not be the same, in the same order, in two places.
    static let runLength = 10

    /// A line of code with content: no comment, import or lone punctuation.
    private struct Line {
        let number: Int
        /// Without its comment; white space folded.
        let text: String
    }

    /// Each place that begins a run that appeared before, in a file named earlier or further up.
    ///
    /// Examples are left out: each is read and copied by itself, so each sets up its own guest.
    static func runs(_ all: [SourceText]) -> [Finding] {
        let files = all.filter { $0.module != DirectionRules.examples }
        let code = files.map(lines)
        var seen: [[String]: (file: Int, line: Int)] = [:]
        var findings: [Finding] = []
        for file in files.indices {
            // The end of the run that was reported last: a place inside it begins no other run.
            var reported = 0
            for start in 0..<max(0, code[file].count - runLength + 1) {
                let window = code[file][start..<start + runLength]
                let key = window.map(\.text)
                guard let first = seen[key] else {
                    seen[key] = (file, code[file][start].number)
                    continue
                }
                if start >= reported {
                    findings.append(
                        files[file].finding(
                            code[file][start].number, "repetition",
                            "\(runLength) lines stand at \(files[first.file].path):"
                                + "\(first.line + 1) too: let one place serve both"))
                }
                reported = start + runLength
            }
        }
        return findings
    }

    private static func lines(_ file: SourceText) -> [Line] {
        file.code.indices.compactMap { index in
            let code = file.code[index].trimmed
            if code.hasPrefix("import ") || code.hasPrefix("#") { return nil }
            guard code.contains(where: { $0.isLetter || $0.isNumber }) else { return nil }
            // Where the code ends, in the line with its strings.
            let end = file.code[index].lastIndex { $0 != " " } ?? file.code[index].startIndex
            let count = file.code[index].distance(from: file.code[index].startIndex, to: end) + 1
            let text = file.lines[index].prefix(count)
            return Line(
                number: index, text: text.split(separator: " ").joined(separator: " "))
        }
    }
}
