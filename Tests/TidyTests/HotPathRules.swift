// Constructs that are not allowed on the path of every packet: CleaveVirtioNet and CleaveRings.

enum HotPathRules {
    /// Code that runs per queue, not per packet, may throw, and use arrays, strings and
    /// existentials. This comment marks it: in the header for a whole file, on a line of its own
    /// for the declaration that follows, after code for that line.
    static let marker = "// control path"

    /// Modules of the data plane, and all that libcleave is linked from, do without Foundation.
    static let withoutFoundation: Set<String> = [
        "CleaveRings", "CleaveHost", "CleaveVirtioNet", "CleaveGuestDriver", "CleaveTraffic",
        "CleaveVhostUser", "CleaveEngine", "CleaveCAPI",
    ]
    static let hotModules: Set<String> = ["CleaveRings", "CleaveVirtioNet"]

    private struct Ban {
        let pattern: Regex<Substring>
        let message: String
    }

    private static var always: [Ban] {
        [
            Ban(pattern: /\btry!/, message: "try! traps"),
            Ban(pattern: /\bas!/, message: "as! traps"),
            Ban(
                pattern: /(?:^|[^.\w])(?:debugPrint|print)\(/, message: "print writes and allocates"
            ),
            Ban(pattern: /\basync\b|\bawait\b/, message: "async suspends and allocates"),
        ]
    }

    private static var unlessControlPath: [Ban] {
        [
            Ban(pattern: /\bthrows\b/, message: "throws: the loop returns counts and enums"),
            Ban(pattern: /\bany\s+[A-Z]/, message: "an existential is an indirect call"),
            Ban(
                pattern: /\b(?:Array|ContiguousArray|Dictionary|Set)\s*[<(]/,
                message: "a collection allocates and counts references"),
            Ban(
                pattern: /(?:[:>]\s*|=\s*)\[[A-Z][\w.]*(?:\s*:\s*[A-Z][\w.]*)?\]/,
                message: "a collection allocates and counts references"),
            Ban(pattern: /(?:^|[^.\w])String\b/, message: "a String allocates"),
        ]
    }

    static func banned(_ file: SourceText) -> [Finding] {
        guard let module = file.module, file.isSwift else { return [] }
        var bans: [Ban] = []
        if withoutFoundation.contains(module) {
            bans.append(
                Ban(pattern: /\bimport\s+Foundation/, message: "\(module) does without Foundation"))
        }
        if hotModules.contains(module) {
            bans += always
        }
        var findings = bans.flatMap { ban in
            file.codeLines(matching: ban.pattern).map {
                file.finding($0, "hot-path", ban.message)
            }
        }
        if hotModules.contains(module) {
            let exempt = controlPath(file)
            for ban in unlessControlPath {
                for index in file.codeLines(matching: ban.pattern) where !exempt.contains(index) {
                    findings.append(file.finding(index, "hot-path", ban.message))
                }
            }
        }
        return findings
    }

    /// Lines that the marker exempts.
    static func controlPath(_ file: SourceText) -> Set<Int> {
        if file.header.contains(where: { $0.trimmed.hasPrefix(marker) }) {
            return Set(file.lines.indices)
        }
        var exempt: Set<Int> = []
        for index in file.lines.indices where file.lines[index].contains(marker) {
            if !file.lines[index].trimmed.hasPrefix(marker) {
                exempt.insert(index)
                continue
            }
            let rest = (index + 1)..<file.lines.count
            guard let start = rest.first(where: { !file.code[$0].trimmed.isEmpty }) else {
                continue
            }
            exempt.formUnion(start...declarationEnd(file, from: start))
        }
        return exempt
    }

    /// The last line of the declaration at `start`: where its brackets are balanced again.
    private static func declarationEnd(_ file: SourceText, from start: Int) -> Int {
        var depth = 0
        for index in start..<file.code.count {
            let line = file.code[index]
            depth += line.count { "({[".contains($0) } - line.count { ")}]".contains($0) }
            if depth <= 0 { return index }
        }
        return file.code.count - 1
    }

    /// Flags that remove the checks on what a guest wrote, or that no dependent package accepts.
    static func unsafeFlags(_ manifest: SourceText) -> [Finding] {
        manifest.lines.indices.filter {
            manifest.lines[$0].contains("unsafe" + "Flags") || manifest.lines[$0].contains("-Oun")
        }.map { manifest.finding($0, "unsafe-flags", "no unsafe compiler flags") }
    }
}
