// What threads and guests share: one seam for atomics, a label on every edge, and a reason beside
// every promise that the compiler cannot check.

enum SharingRules {
    static let seam = "Sources/CleaveRings/Primitives.swift"
    static let table = "Sources/CleaveEngine/Cleave.docc/MemoryOrdering.md"

    static func atomicsOutsideSeam(_ file: SourceText) -> [Finding] {
        if file.path == seam || file.module == nil { return [] }
        return file.codeLines(matching: /\bimport\s+(?:Synchronization|Atomics)\b/).map {
            file.finding($0, "one-seam", "only \(seam) imports Synchronization")
        }
    }

    /// A label in brackets: one capital letter and a number.
    struct Edge: Equatable {
        let label: String
        let path: String
        let line: Int
    }

    private static var access: Regex<Substring> {
        #/
        (?: \.(?: load(?:Acquire|Sequential) | store(?:Release|Sequential)
                 | fetchOr | fetchAddOrdered | compareExchange )
          | (?:^|[^.\w]) fullFence )
        \(
        /#
    }

    /// The labels of ordered accesses, and a finding for each access that has none on its line
    /// or the three above.
    static func edges(_ file: SourceText) -> (edges: [Edge], findings: [Finding]) {
        guard file.path != seam, file.module != nil, file.isSwift else { return ([], []) }
        var edges: [Edge] = []
        var findings: [Finding] = []
        for index in file.codeLines(matching: access) {
            let labels = labels(file, at: index)
            if labels.isEmpty {
                findings.append(
                    file.finding(index, "edge-label", "an ordered access needs a label, [R1 ...]"))
            }
            edges += labels.map { Edge(label: $0, path: file.path, line: index + 1) }
        }
        return (edges, findings)
    }

    /// Labels on the line itself, or otherwise in the nearest comment of the three lines above it.
    private static func labels(_ file: SourceText, at index: Int) -> [String] {
        var found: [String] = []
        for near in stride(from: index, through: max(0, index - 3), by: -1) {
            let line = file.lines[near]
            if near < index, !found.isEmpty, !line.trimmed.hasPrefix("//") { break }
            if !line.holds("[") { continue }
            for match in line.matches(of: /\[([A-Z]\d+)\b(\s+both ways)?/) {
                // A read-modify-write that pairs with itself on another thread is both ends.
                found += Array(repeating: String(match.1), count: match.2 == nil ? 1 : 2)
            }
            if near == index, !found.isEmpty { break }
        }
        return found
    }

    /// Each label has at least two ends and a row in the table; and the table has no row of a
    /// family (letter) in use that no access carries.
    static func pairing(_ edges: [Edge], table: SourceText) -> [Finding] {
        var findings: [Finding] = []
        var rows: [String: Int] = [:]
        for (index, line) in table.lines.enumerated() {
            if let match = line.firstMatch(of: /^\|\s*([A-Z]\d+)\s*\|/) {
                rows[String(match.1)] = index
            }
        }
        for (label, ends) in Dictionary(grouping: edges, by: \.label).sorted(by: { $0.key < $1.key }
        ) {
            let first = ends[0]
            func flag(_ message: String) {
                findings.append(
                    Finding(
                        path: first.path, line: first.line, rule: "edge-label", message: message))
            }
            if ends.count < 2 { flag("\(label) has only one end") }
            if rows[label] == nil { flag("\(label) has no row in \(table.path)") }
        }
        let used = Set(edges.map(\.label))
        let families = Set(used.compactMap(\.first))
        for (label, index) in rows.sorted(by: { $0.value < $1.value })
        where !used.contains(label) && label.first.map(families.contains) == true {
            findings.append(table.finding(index, "edge-label", "no access carries \(label)"))
        }
        return findings
    }

    /// Promises that only a person can check say what guarantees them: `SAFETY:` on the line, on
    /// one of the five above it or the three below, or in the header of the file.
    static func unexplainedPromises(_ file: SourceText) -> [Finding] {
        guard file.isSwift else { return [] }
        if file.header.contains(where: { $0.contains("SAFETY:") }) { return [] }
        let promise =
            /@unchecked\s+Sendable|nonisolated\(unsafe\)|\bunsafeBitCast\(/
        return file.codeLines(matching: promise).filter { index in
            let near = max(0, index - 5)...min(index + 3, file.lines.count - 1)
            return !file.lines[near].contains { $0.contains("SAFETY:") }
        }.map { file.finding($0, "safety", "say who guarantees this: // SAFETY: ...") }
    }
}
