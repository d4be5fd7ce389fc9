// The recorded Swift interface that programs build on: it changes on purpose or not at all.

enum PublicSurface {
    static let record = "Tests/public-interface.txt"

    /// Whether the promise in PublicInterface.md covers the public declarations of a file: all
    /// files at a module's front door, and a few of the host.
    static func covers(_ file: SourceText) -> Bool {
        guard file.isSwift, file.folders.count == 2 else { return false }
        switch file.module {
        case "CleaveVirtioNet", "CleaveEngine": return true
        case "CleaveHost":
            return ["HostError", "SetupError", "MemoryArena", "NotificationDescriptor"]
                .contains(file.name)
        default: return false
        }
    }

    /// The public declarations of a file, each on one line without its body, in order; cases of
    /// public enumerations with them.
    static func declarations(_ file: SourceText) -> [String] {
        var found: [String] = []
        // Depth of the braces around the cases of an enumeration that is public.
        var enumeration: Int?
        var depth = 0
        for index in file.code.indices {
            let text = file.code[index].trimmed
            if let outer = enumeration, depth <= outer { enumeration = nil }
            if text.holds("public"), text.contains(/\bpublic\b/) {
                let whole = declaration(file, from: index)
                found.append(whole)
                if whole.contains(/\benum\b/) { enumeration = depth }
            } else if let outer = enumeration, depth == outer + 1, text.hasPrefix("case ") {
                found.append(text.split(separator: " ").joined(separator: " "))
            }
            depth += text.utf8.reduce(0) { $0 + ($1 == 123 ? 1 : $1 == 125 ? -1 : 0) }
        }
        return found
    }

    /// From the line at `start` to where its body or value begins.
    private static func declaration(_ file: SourceText, from start: Int) -> String {
        var text = ""
        var open = 0
        for line in file.lines[start...] {
            for character in line {
                if open == 0, character == "{" { return folded(text) }
                if open == 0, character == "=", !text.contains("func ") { return folded(text) }
                if character == "(" || character == "[" { open += 1 }
                if character == ")" || character == "]" { open -= 1 }
                text.append(character)
            }
            let rest = line.trimmed
            if open == 0, !rest.hasPrefix("@"), !rest.hasSuffix(","), !rest.hasSuffix("->"),
                text.contains(/\b(var|let|case)\b/)
            {
                break
            }
            text.append(" ")
        }
        return folded(text)
    }

    private static func folded(_ text: String) -> String {
        text.split(separator: " ").joined(separator: " ")
    }

    /// All of them, under the names of their files.
    static func text(_ tree: [SourceText]) -> String {
        let parts = tree.filter(covers).sorted { $0.path < $1.path }.map { file in
            ([file.path] + declarations(file).map { "    \($0)" }).joined(separator: "\n")
        }
        return parts.joined(separator: "\n") + "\n"
    }
}
