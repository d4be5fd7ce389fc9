import CleavePorts
import CleaveProgramSupport
import Foundation
import Testing
import Yams

@testable import cleave_vhost

/// A check of values against the part of JSON Schema that the configuration's uses; a keyword that
/// it does not know is a mistake.
private struct SchemaCheck {
    let root: [String: Any]

    /// Whether all that is written is right, and what is not.
    func mistakes(_ value: Any, _ schema: Any, at place: String = "") -> [String] {
        guard let schema = schema as? [String: Any] else { return ["\(place): no schema"] }
        return schema.flatMap { mistakes(value, $0.key, $0.value, schema, place) }
    }

    private func mistakes(
        _ value: Any, _ keyword: String, _ rule: Any, _ schema: [String: Any], _ place: String
    ) -> [String] {
        func unless(_ isRight: Bool) -> [String] {
            isRight ? [] : ["\(place): \(keyword) \(rule): \(value)"]
        }
        let mapping = value as? [String: Any]
        switch keyword {
        case "$schema", "$defs", "title", "description", "examples", "default": return []
        case "$ref":
            let name = "\(rule)".split(separator: "/").last.map(String.init) ?? ""
            return mistakes(value, (root["$defs"] as? [String: Any])?[name] ?? 0, at: place)
        case "type":
            let types = rule as? [String] ?? ["\(rule)"]
            return unless(types.contains(Self.type(of: value)))
        case "const": return unless("\(value)" == "\(rule)" && value is String)
        case "enum":
            let words = rule as? [Any] ?? []
            if let flag = value as? Bool { return unless(words.contains { $0 as? Bool == flag }) }
            return unless(words.contains { $0 as? String == value as? String } && value is String)
        case "minimum": return unless((value as? Int).map { $0 >= rule as? Int ?? 0 } ?? true)
        case "maximum": return unless((value as? Int).map { $0 <= rule as? Int ?? 0 } ?? true)
        case "pattern":
            guard let text = value as? String else { return [] }
            return unless(text.range(of: "\(rule)", options: .regularExpression) != nil)
        case "required":
            guard let mapping else { return [] }
            return unless((rule as? [String] ?? []).allSatisfy { mapping[$0] != nil })
        case "properties":
            let rules = rule as? [String: Any] ?? [:]
            return (mapping ?? [:]).flatMap { key, value in
                rules[key].map { mistakes(value, $0, at: "\(place)/\(key)") } ?? []
            }
        case "additionalProperties":
            let known = schema["properties"] as? [String: Any] ?? [:]
            return unless((mapping ?? [:]).keys.allSatisfy { known[$0] != nil })
        case "items":
            return (value as? [Any] ?? []).enumerated().flatMap {
                mistakes($1, rule, at: "\(place)/\($0)")
            }
        case "minItems": return unless((value as? [Any] ?? []).count >= rule as? Int ?? 0)
        case "maxItems": return unless((value as? [Any] ?? []).count <= rule as? Int ?? 0)
        case "anyOf", "oneOf":
            let results = (rule as? [Any] ?? []).map { mistakes(value, $0, at: place) }
            let right = results.count(where: \.isEmpty)
            return unless(keyword == "oneOf" ? right == 1 : right > 0)
        default: return ["\(place): keyword \(keyword) is unknown"]
        }
    }

    private static func type(of value: Any) -> String {
        switch value {
        case is [String: Any]: "object"
        case is [Any]: "array"
        case is Bool: "boolean"
        case is Int: "integer"
        default: "string"
        }
    }
}

@Suite("The schema of configurations")
struct ConfigurationSchemaTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let schemaFile = root.appending(path: "configs/schema/cleave-vhost.schema.json")
    private static let page = root.appending(
        path: "Sources/CleaveEngine/Cleave.docc/Configuration.md")
    private static let marker =
        "<!-- Made from the program's own table; a test compares the two. -->\n"

    private static var isRecording: Bool {
        ProcessInfo.processInfo.environment["RECORD"] != nil
    }

    /// What a YAML node is in JSON, as the core schema of YAML 1.2 has it.
    private func value(_ node: Node) -> Any {
        if let list = node.sequence { return list.map(value) }
        if let pairs = node.mapping {
            return Dictionary(
                pairs.map { ($0.key.scalar?.string ?? "", value($0.value)) },
                uniquingKeysWith: { $1 })
        }
        let text = node.scalar?.string ?? ""
        if let style = node.scalar?.style, style != .plain && style != .any { return text }
        if let number = Int(text) { return number }
        return ["true": true, "false": false][text] ?? text
    }

    private func mistakes(_ text: String) throws -> [String] {
        let schema = try #require(
            try JSONSerialization.jsonObject(with: Data(ConfigurationSchema.json.utf8))
                as? [String: Any])
        let node = try #require(try Yams.compose(yaml: text))
        return SchemaCheck(root: schema).mistakes(value(node), schema)
    }

    @Test("The published schema is the program's; RECORD=1 writes it")
    func published() throws {
        if Self.isRecording {
            try FileManager.default.createDirectory(
                at: Self.schemaFile.deletingLastPathComponent(), withIntermediateDirectories: true)
            try ConfigurationSchema.json.write(
                to: Self.schemaFile, atomically: true, encoding: .utf8)
        }
        #expect(
            try String(contentsOf: Self.schemaFile, encoding: .utf8) == ConfigurationSchema.json)
    }

    @Test("The documentation's tables are the program's; RECORD=1 writes them")
    func documented() throws {
        let text = try String(contentsOf: Self.page, encoding: .utf8)
        let parts = text.components(separatedBy: Self.marker)
        try #require(parts.count == 2)
        let tables = "\n" + ConfigurationSchema.tables
        if Self.isRecording {
            try (parts[0] + Self.marker + tables).write(
                to: Self.page, atomically: true, encoding: .utf8)
        } else {
            #expect(parts[1] == tables)
        }
    }

    @Test("What the schema takes the program takes, and what it refuses the program refuses")
    func agreement() throws {
        let ports: [(String, Bool)] = [
            ("{type: vhost-user, path: a.sock}", true), ("{type: vhost-user}", false),
            ("{type: vhost-user, path: a.sock, pth: b}", false),
            ("{type: vhost-user, path: a, queues: 128}", true),
            ("{type: vhost-user, path: a, queues: 129}", false),
            ("{type: vhost-user, path: a, queues: '4'}", false),
            ("{type: vhost-user, path: a, header-queue: on, slot-count: 1k}", true),
            ("{type: vhost-user, path: a, header-queue: true}", true),
            ("{type: vhost-user, path: a, header-queue: 1}", false),
            ("{type: vhost-user, path: a, split-method: d, split-threshold: 256}", true),
            ("{type: vhost-user, path: a, split-method: c}", false),
            ("{type: vhost-user, path: a, mac: '52:54:00:12:34:56'}", true),
            ("{type: vhost-user, path: a, mac: 52:54}", false),
            ("{type: vhost-user, path: a, features-off: packed+csum}", true),
            ("{type: vhost-user, path: a, features-off: packd}", false),
            ("{type: tap, interface: t, rate-limit: 1G, packet-limit: 10k, name: 7}", true),
            ("{type: tap, interface: t, rate-limit: 999}", false),
            ("{type: tap, interface: t, rate-limit: fast}", false),
            ("{type: tap, path: a}", false), ("{type: tunnel}", false), ("{interface: t}", false),
            ("{type: pcap}", false), ("{type: pcap, out: a}", true),
            ("{type: generator, traffic: 64, count: 1M}", true),
            ("{type: generator, count: 0}", false),
        ]
        let wholes: [(String, Bool)] =
            ports.map { ("ports: [\($0)]", $1) } + [
                ("ports: []", false), ("idle: busy", false),
                ("ports: [{type: tap, interface: t}]\nidle: busy\ncpus: 1-3,5\nhold: 0", true),
                ("ports: [{type: tap, interface: t}]\ncpus: 3", true),
                ("ports: [{type: tap, interface: t}]\ncpus: 1-x", false),
                ("ports: [{type: tap, interface: t}]\nidle: lazy", false),
                ("ports: [{type: tap, interface: t}]\nage: 0", false),
                ("ports: [{type: tap, interface: t}]\nwires: [[a]]", false),
                ("ports: [{type: tap, interface: t}]\nprots: []", false),
            ]
        for (text, isRight) in wholes {
            let found = try mistakes(text)
            #expect(found.isEmpty == isRight, "schema: \(text): \(found)")
            var isTaken = true
            do {
                let file = try YAMLFile(Array(text.utf8), name: "x.yaml", directory: "")
                let configuration = try VhostConfiguration.read(file)
                _ = try configuration.makePorts()
                _ = try configuration.rateLimits()
            } catch { isTaken = false }
            #expect(isTaken == isRight, "program: \(text)")
        }
    }

    @Test("Every example and default in the table is a value that the key takes")
    func examples() throws {
        let keys =
            SwitchSetting.allCases.map(\.key) + [PortKeys.type]
            + PortType.allCases.flatMap(\.keys)
        for key in keys {
            for text in [key.example, key.defaultText].compactMap({ $0 }) {
                #expect(throws: Never.self, "\(key.name)=\(text)") {
                    try key.check(SettingValue(text: text))
                }
            }
            #expect(!key.help.isEmpty && key.help.hasSuffix("."))
        }
    }

    @Test(
        "The files that come with the project obey the schema, and name it",
        arguments: ["two-guests", "guest-and-host", "recorded", "generated"])
    func shipped(_ name: String) throws {
        let file = Self.root.appending(path: "configs/vhost/\(name).yaml")
        let text = try String(contentsOf: file, encoding: .utf8)
        #expect(try mistakes(text) == [])
        let line = "# yaml-language-server: $schema=../schema/\(ConfigurationSchema.fileName)\n"
        #expect(text.hasPrefix(line))
    }

    @Test("A validator of other people's knows the schema as one of draft 2020-12")
    func others() throws {
        let python = Process()
        python.executableURL = URL(filePath: "/usr/bin/env")
        python.arguments = [
            "python3", "-c",
            """
            import json, sys
            try:
                from jsonschema import Draft202012Validator
            except ImportError:
                sys.exit(77)
            schema = json.load(open(sys.argv[1]))
            Draft202012Validator.check_schema(schema)
            good = {"ports": [{"type": "tap", "interface": "t", "rate-limit": "1G"}]}
            bad = {"ports": [{"type": "tap", "interface": "t", "rate-limit": 1}]}
            validator = Draft202012Validator(schema)
            sys.exit(0 if validator.is_valid(good) and not validator.is_valid(bad) else 1)
            """, Self.schemaFile.path,
        ]
        python.standardError = FileHandle.nullDevice
        try python.run()
        python.waitUntilExit()
        // 77: python3-jsonschema is missing; 127: python3.
        #expect([0, 77, 127].contains(python.terminationStatus))
    }
}
