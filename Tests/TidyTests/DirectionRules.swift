// Which way the arrows point: between modules, and between the folders of RxPath.

enum DirectionRules {
    /// Floors of the building; a target names only targets of lower floors.
    static let floors: [String: Int] = [
        "CHost": 1, "CNuma": 1, "CCleave": 1,
        "Rings": 2, "Host": 2,
        "RxPath": 3,
        "Ports": 4, "GuestDriver": 4, "VhostUser": 4, "Profiling": 4,
        "Engine": 5,
        "CleaveCAPI": 6, "cleave-bench": 6, "cleave-vhost": 6,
    ]

    /// Beyond the floors: what a module must not know of.
    static let unknownTo: [String: Set<String>] = [
        "Rings": ["CNuma", "Glibc", "Musl"]
    ]

    static func arrow(from module: String, to other: String) -> String? {
        guard let floor = floors[module] else {
            return "\(module) has no floor: add it to DirectionRules.floors"
        }
        if unknownTo[module, default: []].contains(other) {
            return "\(module) does not know \(other)"
        }
        guard module != other, let otherFloor = floors[other], otherFloor >= floor else {
            return nil
        }
        return "\(module) (floor \(floor)) names \(other) (floor \(otherFloor)): only lower floors"
    }

    /// Imports in a source file against the floors.
    static func imports(_ file: SourceText) -> [Finding] {
        guard let module = file.module else { return [] }
        return file.code.indices.compactMap { index in
            let pattern = /\bimport\s+(?:(?:struct|class|enum|func|protocol|var)\s+)?(\w+)/
            guard let match = file.code[index].firstMatch(of: pattern) else { return nil }
            return arrow(from: module, to: String(match.1)).map {
                file.finding(index, "module-direction", $0)
            }
        }
    }

    /// Dependencies of targets in Package.swift against the floors; test targets may name any.
    static func manifest(_ file: SourceText) -> [Finding] {
        // Strings matter here, so the plain lines are read, without their comments.
        let text = file.lines.map { $0.trimmed.hasPrefix("//") ? "" : $0 }
            .joined(separator: "\n")
        var findings: [Finding] = []
        let target = /\.(target|executableTarget|systemLibrary|testTarget)\(\s*name:\s*"([^"]+)"/
        for match in text.matches(of: target) {
            let body = balanced(text[match.range.lowerBound...], open: "(", close: ")")
            if match.1 == "testTarget" || body.contains(/path:\s*"Tests\//) { continue }
            let line = text[..<match.range.lowerBound].count { $0 == "\n" }
            guard let list = body.firstMatch(of: /dependencies:\s*\[/) else { continue }
            let names = balanced(body[list.range.lowerBound...], open: "[", close: "]")
                .replacing(/\.product\([^)]*\)/, with: "")
                .matches(of: /"([^"]+)"/).map { String($0.1) }
            for name in names {
                if let message = arrow(from: String(match.2), to: name) {
                    findings.append(file.finding(line, "module-direction", message))
                }
            }
        }
        return findings
    }

    private static func balanced(
        _ text: Substring, open: Character, close: Character
    ) -> Substring {
        var depth = 0
        for index in text.indices {
            if text[index] == open { depth += 1 }
            if text[index] == close {
                depth -= 1
                if depth == 0 { return text[...index] }
            }
        }
        return text
    }

    /// Floors inside RxPath. The three in the middle are siblings; only Placement joins them.
    /// Files beside the folders are the module's face and may name any.
    static let folderMayName: [String: Set<String>] = [
        "Memory": ["Memory"],
        "Virtqueue": ["Memory", "Virtqueue"],
        "HeaderQueue": ["Memory", "HeaderQueue"],
        "Packet": ["Memory", "Packet"],
        "Transmit": ["Memory", "Virtqueue", "Packet", "Transmit"],
        "Placement": ["Memory", "Virtqueue", "HeaderQueue", "Packet", "Placement"],
        "Worker": ["Memory", "Virtqueue", "HeaderQueue", "Packet", "Placement", "Worker"],
    ]

    /// Types that RxPath files name against the folders that declare them.
    static func folders(_ files: [SourceText]) -> [Finding] {
        let inside = files.filter { $0.module == "RxPath" && $0.isSwift }
        var home: [String: String] = [:]
        for file in inside where file.folders.count > 2 {
            for name in declaredTypes(file) { home[name] = file.folders[2] }
        }
        var findings: [Finding] = []
        for file in inside where file.folders.count > 2 {
            let folder = file.folders[2]
            guard let allowed = folderMayName[folder] else {
                findings.append(file.finding(0, "folder-direction", "RxPath/\(folder) is no floor"))
                continue
            }
            for index in file.code.indices {
                for match in file.code[index].matches(of: /(^|[^.\w])([A-Z]\w*)/) {
                    guard let other = home[String(match.2)], !allowed.contains(other) else {
                        continue
                    }
                    findings.append(
                        file.finding(
                            index, "folder-direction", "\(folder) names \(match.2) of \(other)"))
                }
            }
        }
        return findings
    }

    /// Types declared at the top level of a file.
    static func declaredTypes(_ file: SourceText) -> [String] {
        var names: [String] = []
        var depth = 0
        for line in file.code {
            let pattern = /\b(?:struct|class|enum|protocol|actor|typealias)\s+([A-Z]\w*)/
            if depth == 0, let match = line.firstMatch(of: pattern) {
                names.append(String(match.1))
            }
            depth += line.count { $0 == "{" } - line.count { $0 == "}" }
        }
        return names
    }
}
