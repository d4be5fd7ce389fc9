import CleaveProgramSupport

/// Names of cases side by side, without the words that all of them have.
struct ShortNames {
    /// As many as were given, in their order.
    let names: [String]
    /// The words that were left out, in the order of the first name.
    let shared: [String]

    /// Full names where there is one alone, or nothing would be left of one or two would be alike.
    init(_ full: [String]) {
        let words = full.map { $0.split(separator: " ").map(String.init) }
        let common = words.dropFirst().reduce(Set(words.first ?? [])) { $0.intersection($1) }
        let short = words.map { words in
            words.indices.filter { Self.tells(words, $0, common) }.map { words[$0] }
                .joined(separator: " ")
        }
        let isTelling =
            full.count > 1 && !short.contains("") && Set(short).count == Set(full).count
        names = isTelling ? short : full
        shared =
            isTelling
            ? words[0].indices.filter { !Self.tells(words[0], $0, common) }
                .map { words[0][$0] } : []
    }

    /// Words that say what a number beside them is; it is nothing without them.
    private static let before: Set = ["ring", "burst", "slot", "buffer", "imbalance", "threshold"]
    private static let after: Set = ["RQ", "RQs", "slots"]

    private static func tells(_ words: [String], _ index: Int, _ common: Set<String>) -> Bool {
        if !common.contains(words[index]) { return true }
        if after.contains(words[index]), index > 0 { return !common.contains(words[index - 1]) }
        guard before.contains(words[index]), index + 1 < words.count else { return false }
        return !common.contains(words[index + 1])
    }

    /// A table of cases under their full names; if those leave no room, under what tells them
    /// apart, with the rest said once above it.
    static func table(
        of names: [String], style: Style, _ table: ([String]) -> TextTable
    ) -> String {
        let full = table(names)
        guard let width = style.width, full.naturalWidth > width else {
            return full.text(style: style)
        }
        let short = ShortNames(names)
        let shared =
            short.shared.isEmpty
            ? "" : "all cases: " + short.shared.joined(separator: " ") + "\n"
        return shared + table(short.names).text(style: style)
    }
}
