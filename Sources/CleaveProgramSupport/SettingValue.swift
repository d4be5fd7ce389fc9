// Values that a user writes, on a command line or in a configuration.

/// What is wrong with a value, without where it was given.
package struct SettingError: Error, Equatable {
    package let problem: String

    package init(problem: String) { self.problem = problem }
}

/// A value as it was written, on a command line or in a configuration.
package struct SettingValue: Equatable {
    package let text: String
    /// Written in quotes, so that it is text even if it looks like a number.
    package var isQuoted = false

    package init(text: String, isQuoted: Bool = false) {
        self.text = text
        self.isQuoted = isQuoted
    }

    /// One of the names of an enumeration.
    package func choice<Choice>() throws(SettingError) -> Choice
    where Choice: RawRepresentable & CaseIterable, Choice.RawValue == String {
        let known = Choice.allCases.map(\.rawValue)
        if let choice = Choice(rawValue: text) { return choice }
        throw Self.unknown(text, known)
    }

    /// Checks that it is one of some words.
    package func check(among words: [String]) throws(SettingError) {
        if !words.contains(text) { throw Self.unknown(text, words) }
    }

    private static func unknown(_ text: String, _ known: [String]) -> SettingError {
        let hint = Nearest.hint(text, among: known)
        let list = known.joined(separator: ", ")
        return SettingError(
            problem: known.count == 1
                ? "\"\(text)\" is not understood; the only value is \(list)"
                : "\"\(text)\" is not one of \(list)\(hint)")
    }

    /// A whole number from 0, with k, M or G for powers of `kilo`.
    package func count(kilo: Int) throws(SettingError) -> Int {
        let expected = "is not a whole number"
        if isQuoted { throw SettingError(problem: "\"\(text)\" in quotes \(expected)") }
        if text.hasPrefix("-"), Int(text) != nil {
            throw SettingError(problem: "\(text) is negative")
        }
        var digits = text[...]
        var scale = 1
        if let suffix = digits.last, let power = ["k": 1, "M": 2, "G": 3][suffix] {
            digits.removeLast()
            for _ in 0..<power { scale *= kilo }
        }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw SettingError(problem: "\"\(text)\" \(expected)")
        }
        guard let value = Int(digits),
            case (let product, let overflow) = value.multipliedReportingOverflow(by: scale),
            !overflow, product <= Self.maximumCount
        else { throw SettingError(problem: "\(text) is more than \(Self.maximumCount)") }
        return product
    }

    /// Larger numbers are typing errors, and would overflow where they are multiplied.
    package static let maximumCount = 1 << 40

    package func bool() throws(SettingError) -> Bool {
        switch isQuoted ? "" : text.lowercased() {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw SettingError(problem: "\"\(text)\" is neither true nor false")
        }
    }
}

/// Suggestions for names that are not known.
package enum Nearest {
    /// `; did you mean NAME?`, or nothing if no name is close.
    package static func hint(_ text: String, among names: [String]) -> String {
        let word = text.lowercased().prefix(64)
        let close =
            names.map { (distance(Array(word), Array($0.lowercased())), $0) }
            .min { $0.0 < $1.0 }
        guard let (steps, name) = close, 2 * steps < name.count else { return "" }
        return "; did you mean \(name)?"
    }

    /// Letters to insert, delete or replace to make one word of the other (Levenshtein).
    private static func distance(_ one: [Character], _ other: [Character]) -> Int {
        var row = Array(0...other.count)
        for (index, letter) in one.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in other.indices {
                let replace = diagonal + (letter == other[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(replace, min(row[column], diagonal) + 1)
            }
        }
        return row[other.count]
    }
}
