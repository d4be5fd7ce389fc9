// Sizes that a reader has to keep in mind at once. Files and functions are cut by idea: one that is
// too long is reported, and no test fails for it. A line that does not fit a screen is a failure.

enum SizeRules {
    static let fileLines = 600
    static let functionLines = 70
    static let columns = 100

    static func longFiles(_ file: SourceText) -> [Finding] {
        // A final line break makes one empty last element.
        let count = file.lines.count - (file.lines.last == "" ? 1 : 0)
        if count <= fileLines { return [] }
        return [file.finding(fileLines, "file-length", "\(count) lines, \(fileLines) are plenty")]
    }

    static func longLines(_ file: SourceText) -> [Finding] {
        file.lines.indices.filter { file.lines[$0].count > columns }.map {
            file.finding($0, "line-length", "\(file.lines[$0].count) columns, limit \(columns)")
        }
    }

    /// Counts from the line of `func`, `init` or `deinit` to that of the closing brace.
    static func longFunctions(_ file: SourceText) -> [Finding] {
        var findings: [Finding] = []
        let declaration = /(^|\s)(func\s+\S|init[?!]?\s*[(<]|deinit\s*\{)/
        for start in file.code.indices {
            guard let match = file.code[start].firstMatch(of: declaration),
                let end = bodyEnd(in: file.code, line: start, from: match.range.lowerBound)
            else { continue }
            let count = end - start + 1
            if count > functionLines {
                findings.append(
                    file.finding(
                        start, "function-length", "\(count) lines, \(functionLines) are plenty"))
            }
        }
        return findings
    }

    /// The line with the brace that closes the body declared at `line`, or nil without a body.
    private static func bodyEnd(
        in code: [String], line start: Int, from column: String.Index
    ) -> Int? {
        var braces = 0
        var brackets = 0
        for line in start..<code.count {
            let text = line == start ? code[line][column...] : code[line][...]
            // A second declaration before any brace: the first was a protocol's requirement.
            if line > start, braces == 0, brackets == 0,
                text.contains(/^\s*(@|func |init\(|var |let |static |mutating |\}|case )/)
            {
                return nil
            }
            for character in text {
                switch character {
                case "(", "[": brackets += 1
                case ")", "]": brackets -= 1
                case "{" where brackets == 0 || braces > 0: braces += 1
                case "}" where braces > 0:
                    braces -= 1
                    if braces == 0 { return line }
                case "}" where brackets == 0: return nil
                default: break
                }
            }
        }
        return nil
    }
}
