// What has no place where every packet passes: RxPath and Rings.

enum HotPathRules {
    /// A file of RxPath or Rings whose header has this line is set up or torn down per queue,
    /// not per packet: it may throw, and use arrays, strings and existentials.
    static let marker = "// control path"

    /// Modules of the data plane do without Foundation altogether.
    static let withoutFoundation: Set<String> = ["Rings", "Host", "RxPath", "GuestDriver"]
    static let hotModules: Set<String> = ["Rings", "RxPath"]

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
            if !file.header.contains(where: { $0.trimmed.hasPrefix(marker) }) {
                bans += unlessControlPath
            }
        }
        return bans.flatMap { ban in
            file.codeLines(matching: ban.pattern).map {
                file.finding($0, "hot-path", ban.message)
            }
        }
    }

    /// Flags that remove the checks on what a guest wrote, or that no dependent package accepts.
    static func unsafeFlags(_ manifest: SourceText) -> [Finding] {
        manifest.lines.indices.filter {
            manifest.lines[$0].contains("unsafe" + "Flags") || manifest.lines[$0].contains("-Oun")
        }.map { manifest.finding($0, "unsafe-flags", "no unsafe compiler flags") }
    }
}
