// Paths and tests that pages name: what was moved or renamed is found here, not by a reader.

/// What a page may name: files and folders of the project, and its tests.
struct PathRules {
    private let paths: Set<String>
    /// Whatever paths end with, at a slash: `Receive/NaivePlan.swift` names the file as well.
    private let endings: Set<String>
    private let tops: Set<String>
    private let folderNames: Set<String>
    /// `Suite/function`, of all tests.
    private let tests: Set<String>

    /// Versions that are gone have names that are gone.
    private static let history: Set = ["CHANGELOG.md"]
    /// Folders of packages that a page has its reader make.
    private static let readers: Set = ["Sources/receiver"]

    init(_ files: [String], tests: [SourceText]) {
        var paths: Set<String> = []
        var endings: Set<String> = []
        for file in files {
            var parts = file.split(separator: "/").map(String.init)
            while !parts.isEmpty && paths.insert(parts.joined(separator: "/")).inserted {
                for first in parts.indices {
                    endings.insert(parts[first...].joined(separator: "/"))
                }
                parts.removeLast()
            }
        }
        let folders = files.map { $0.split(separator: "/").dropLast().map(String.init) }
        self.paths = paths
        self.endings = endings
        tops = Set(folders.compactMap(\.first))
        folderNames = Set(folders.joined())
        self.tests = Set(tests.flatMap(Self.tests))
    }

    /// Functions of a file of tests, after the names of its types and its own.
    private static func tests(_ file: SourceText) -> [String] {
        func names(
            _ pattern: Regex<(Substring, Substring)>, in word: StaticString
        ) -> [String] {
            file.code.filter { $0.holds(word) }.flatMap {
                $0.matches(of: pattern).map { String($0.1) }
            }
        }
        let suites = Set(
            names(/\b(?:struct|class|extension|enum) (\w+Tests)\b/, in: "Tests")
        ).union([file.name])
        let functions = names(/\bfunc (\w+)\(/, in: "func ")
        return suites.flatMap { suite in functions.map { "\(suite)/\($0)" } }
    }

    /// Names of a page that lead nowhere.
    func dead(_ page: SourceText) -> [Finding] {
        if Self.history.contains(page.path) { return [] }
        var findings: [Finding] = []
        var isFenced = false
        for (index, line) in page.lines.enumerated() {
            if line.trimmed.hasPrefix("```") {
                isFenced.toggle()
                continue
            }
            let names =
                isFenced ? fenced(line) : deadLinks(line, in: page) + quoted(line)
            findings += names.map {
                page.finding(index, "dead-path", "\($0) is neither a file, a folder nor a test")
            }
        }
        return findings
    }

    /// Links that are relative to the page.
    private func deadLinks(_ line: String, in page: SourceText) -> [String] {
        if !line.holds("](") { return [] }
        return line.matches(of: /\]\(([^)\s]+)\)/).map { String($0.1) }.filter { link in
            let target = link.prefix { $0 != "#" }
            if target.isEmpty || target.contains("://") { return false }
            var parts = page.folders
            for part in target.split(separator: "/") {
                if part != ".." { parts.append(String(part)) } else { _ = parts.popLast() }
            }
            return !paths.contains(parts.joined(separator: "/"))
        }
    }

    /// Words in backquotes that can only be a path or a test, and are none.
    private func quoted(_ line: String) -> [String] {
        if !line.holds("`") { return [] }
        return line.matches(of: /`([A-Za-z0-9_.+\/-]+)`/).map { String($0.1) }.filter { word in
            let name = word.hasSuffix("/") ? String(word.dropLast()) : word
            return isPath(name) && !endings.contains(name) && !endings.contains("\(name).swift")
                && !tests.contains(name)
        }
    }

    private func isPath(_ word: String) -> Bool {
        if word.hasPrefix("/") || word.hasPrefix(".build") || word.contains("..") { return false }
        if word.contains(/\.(?:swift|md|c|h|cpp|yaml|py|bt|abi|map|conf|pml|docc)$/) { return true }
        let parts = word.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count < 2 || parts.contains(where: \.isEmpty) { return false }
        return folderNames.contains(String(parts[0])) || parts[0].hasSuffix("Tests")
            || parts.allSatisfy { $0.first?.isUppercase == true }
    }

    /// Paths in commands and code, from the top of the project.
    private func fenced(_ line: String) -> [String] {
        if !line.holds("/") { return [] }
        return line.matches(of: /(?:^|[\s"'=(])((\.?\w+)\/[A-Za-z0-9_.+\/-]*[A-Za-z0-9_])/).filter {
            let path = String($0.1)
            return tops.contains(String($0.2)) && !paths.contains(path)
                && !Self.readers.contains(path)
        }.map { String($0.1) }
    }
}
