// Sizes that a reader has to keep in mind at once. Files and functions are cut by idea: one that is
// too long is reported, and no test fails for it. A line that does not fit a screen is a failure.

enum SizeRules {
    static let fileLines = 600
    static let functionLines = 70
    static let columns = 100
    static let unlabelled = 3

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
            let line = file.code[start]
            guard line.holds("func") || line.holds("init"),
                let match = line.firstMatch(of: declaration),
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

    /// Functions that take more parameters without a label than a line where they are called can
    /// show. Those of `cleave.h` are as C has them.
    static func unlabelledParameters(_ file: SourceText) -> [Finding] {
        let declaration = /(?:^|\s)(?:func\s+(\w+)|init[?!]?)\s*(?:<[^(]*>)?\(/
        return file.code.indices.compactMap { start in
            let line = file.code[start]
            guard line.holds("func") || line.holds("init"),
                let match = line.firstMatch(of: declaration),
                match.1?.hasPrefix("cleave_") != true
            else { return nil }
            let first = line[match.range.upperBound...]
            let count = unlabelledCount(first, then: file.code[(start + 1)...])
            if count <= unlabelled { return nil }
            return file.finding(
                start, "unlabelled", "\(count) parameters without a label, \(unlabelled) are plenty"
            )
        }
    }

    /// Parameters that begin with `_`, up to the bracket that closes the list.
    private static func unlabelledCount(_ first: Substring, then lines: ArraySlice<String>) -> Int {
        var depth = 1
        var count = 0
        var begins = true
        var text = first
        var next = lines.startIndex
        while true {
            for byte in text.utf8 {
                let character = UnicodeScalar(byte)
                switch character {
                case "(", "[": depth += 1
                case ")", "]": depth -= 1
                case ",": begins = depth == 1
                case "_" where begins && depth == 1: count += 1
                default: break
                }
                if depth == 0 { return count }
                if character != "," && character != " " { begins = false }
            }
            if next == lines.endIndex { return count }
            text = lines[next][...]
            next += 1
        }
    }

    /// The line with the brace that closes the body declared at `line`, or nil without a body.
    private static func bodyEnd(
        in code: [String], line start: Int, from column: String.Index
    ) -> Int? {
        var braces = 0
        var brackets = 0
        let next = /^\s*(@|func |init\(|var |let |static |mutating |\}|case )/
        for line in start..<code.count {
            let text = line == start ? code[line][column...] : code[line][...]
            // A second declaration before any brace: the first was a protocol's requirement.
            if line > start, braces == 0, brackets == 0,
                text.contains(next)
            {
                return nil
            }
            for byte in text.utf8 {
                switch UnicodeScalar(byte) {
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
