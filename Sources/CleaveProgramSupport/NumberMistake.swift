/// What to say of a number that a command line cannot have. ArgumentParser takes `-1` for an option
/// that it does not know, or for none at all, and of other texts it says that they are invalid.
enum NumberMistake {
    /// - Parameters:
    ///   - message: of ArgumentParser.
    ///   - arguments: the command line that it is about.
    /// - Returns: nil if no number is to blame.
    static func words(_ message: String, _ arguments: [String]) -> String? {
        invalid(message) ?? negative(message, arguments)
    }

    /// Values of other kinds than numbers have a list of those that are valid, and end otherwise.
    private static func invalid(_ message: String) -> String? {
        guard let parts = message.wholeMatch(of: /The value '(.*)' is invalid for '([^']*)'/) else {
            return nil
        }
        let value = String(parts.1)
        let problem =
            value.allSatisfy(\.isWholeNumber) && !value.isEmpty
            ? "is more than fits there"
            : Double(value) == nil ? "is not a number" : "is not a whole number that fits there"
        return "\(parts.2): \"\(value)\" \(problem)"
    }

    private static func negative(_ message: String, _ arguments: [String]) -> String? {
        let starts = ["Missing value for '", "Missing expected argument", "Unknown option '"]
        guard starts.contains(where: message.hasPrefix) else { return nil }
        let words = arguments.prefix { $0 != "--" }
        guard let index = words.firstIndex(where: { $0.hasPrefix("-") && Double($0) != nil }),
            words[index].wholeMatch(of: /-[0-9.]+/) != nil
        else { return nil }
        let option = index > 0 && words[index - 1].hasPrefix("--") ? words[index - 1] + " " : ""
        return "\(option)\(words[index]): is negative, and numbers here are not"
    }
}
