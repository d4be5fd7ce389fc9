// Directions of dependencies: between modules, and between the folders of CleaveVirtioNet.

enum DirectionRules {
    /// Floors of the building; a target names only targets of lower floors.
    static let floors: [String: Int] = [
        "CCleaveHost": 1, "CCleaveNuma": 1, "CCleave": 1, "CCleaveBuild": 1,
        "CCleaveDefaults": 1, "CCleaveSandbox": 1,
        "CleaveRings": 2, "CleaveHost": 2,
        "CleaveVirtioNet": 3,
        "CleaveTraffic": 4, "CleaveGuestDriver": 4, "CleaveVhostUser": 4, "CleaveProfiling": 4,
        "CleaveEngine": 5, "CleavePorts": 5,
        "CleaveBench": 6, "CleaveCAPI": 6, "CleaveSwitch": 6,
        "CleaveProgramSupport": 6,
        "CleaveControl": 7,
        "cleave-bench": 8, "cleave-vhost": 8,
    ]

    /// Programs for users to start from, each a target `example-...` in a folder of this one. They
    /// name any module that users name, and no module names them.
    static let examples = "Examples"

    static func floor(of module: String) -> Int? {
        module == examples || module.hasPrefix("example-") ? 8 : floors[module]
    }

    /// Beyond the floors: modules that a module must not know.
    static let unknownTo: [String: Set<String>] = [
        "CleaveRings": ["CCleaveNuma", "Glibc", "Musl"],
        // RQs on threads, for programs that embed them: no guest, no traffic, no reader of
        // profiles.
        "CleaveEngine": ["CleaveGuestDriver", "CleaveTraffic", "CleaveProfiling"],
        "CleaveCAPI": ["CleaveGuestDriver", "CleaveTraffic", "CleaveProfiling", "CleavePorts"],
    ]

    static func arrow(from module: String, to other: String) -> String? {
        guard let floor = floor(of: module) else {
            return "\(module) has no floor: add it to DirectionRules.floors"
        }
        if unknownTo[module, default: []].contains(other) {
            return "\(module) does not know \(other)"
        }
        guard module != other, let otherFloor = self.floor(of: other), otherFloor >= floor else {
            return nil
        }
        return "\(module) (floor \(floor)) names \(other) (floor \(otherFloor)): only lower floors"
    }

    /// Imports in a source file against the floors.
    static func imports(_ file: SourceText) -> [Finding] {
        guard let module = file.module else { return [] }
        let pattern = /\bimport\s+(?:(?:struct|class|enum|func|protocol|var)\s+)?(\w+)/
        return file.code.indices.compactMap { index in
            guard file.code[index].holds("import"),
                let match = file.code[index].firstMatch(of: pattern)
            else { return nil }
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

    static let folded = "CleaveVirtioNet"

    /// Floors inside CleaveVirtioNet. Queue, header queue and packet are siblings; the directions
    /// join them.
    static let folderMayName: [String: Set<String>] = [
        "Memory": ["Memory"],
        "Virtqueue": ["Memory", "Virtqueue"],
        "HeaderQueue": ["Memory", "HeaderQueue"],
        "Packet": ["Memory", "Packet"],
        "Profile": ["Memory", "Virtqueue", "Packet", "Profile"],
        "Transmit": ["Memory", "Virtqueue", "Packet", "Transmit"],
        "Control": ["Memory", "Virtqueue", "HeaderQueue", "Control"],
        "Receive": ["Memory", "Virtqueue", "HeaderQueue", "Packet", "Profile", "Receive"],
    ]

    /// Files beside the folders are the module's face: every user of the module names their types.
    /// Within the module each belongs to a folder, and is named by those that may name that.
    static let faceFolder: [String: String] = [
        "GuestMemory": "Memory",
        "DirtyLog": "Virtqueue", "InFlightRecord": "Virtqueue",
        "QueueEvents": "Virtqueue", "QueueFault": "Virtqueue", "VirtioFeatures": "Virtqueue",
        "VirtqueueAddresses": "Virtqueue",
        "ControlCommand": "Control", "ControlQueue": "Control",
        "HeaderQueue": "HeaderQueue", "HeaderQueueLayout": "HeaderQueue",
        "HeaderQueueRequest": "HeaderQueue", "SetupQueue": "Control",
        "PacketOffloads": "Packet", "PacketRef": "Packet",
        "TxCounters": "Transmit", "TxPacket": "Transmit", "TxQueue": "Transmit",
        "Reasons": "Receive", "RxCounters": "Receive", "RxMethod": "Receive",
        "RxQueue": "Receive", "RxQueueConfiguration": "Receive", "SplitPolicy": "Receive",
    ]

    /// The folder that a file of the module belongs to; nil if nothing says which.
    static func home(_ file: SourceText) -> String? {
        let folder = file.folders.count > 2 ? file.folders[2] : faceFolder[file.name]
        return folder.flatMap { folderMayName[$0] == nil ? nil : $0 }
    }

    /// Types that files of the module name against the folders that declare them.
    static func folders(_ files: [SourceText]) -> [Finding] {
        let inside = files.filter { $0.module == folded && $0.isSwift }
        var homes: [String: String] = [:]
        for file in inside {
            for name in declaredTypes(file) { homes[name] = home(file) }
        }
        var findings: [Finding] = []
        for file in inside {
            guard let folder = home(file), let allowed = folderMayName[folder] else {
                findings.append(file.finding(0, "folder-direction", "\(file.path) has no floor"))
                continue
            }
            let name = /(^|[^.\w])([A-Z]\w*)/
            for index in file.code.indices
            where file.code[index].utf8.contains(where: { (65...90).contains($0) }) {
                for match in file.code[index].matches(of: name) {
                    guard let other = homes[String(match.2)], !allowed.contains(other) else {
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
        let pattern = /\b(?:struct|class|enum|protocol|actor|typealias)\s+([A-Z]\w*)/
        for line in file.code {
            if depth == 0, let match = line.firstMatch(of: pattern) {
                names.append(String(match.1))
            }
            depth += line.utf8.reduce(0) { $0 + ($1 == 123 ? 1 : $1 == 125 ? -1 : 0) }
        }
        return names
    }
}
