// The keys as a JSON Schema, which editors complete from, and as the documentation's table.

import CleavePorts
import CleaveProgramSupport
import Foundation

enum ConfigurationSchema {
    /// Where the schema lies, seen from the configurations that come with the project.
    static let fileName = "cleave-vhost.schema.json"

    /// JSON Schema, draft 2020-12.
    static var json: String {
        let options: JSONSerialization.WritingOptions = [
            .prettyPrinted, .sortedKeys, .withoutEscapingSlashes,
        ]
        // Nothing but text, numbers, lists and mappings of them, which JSON can say.
        guard let data = try? JSONSerialization.data(withJSONObject: root, options: options)
        else { return "" }
        return String(decoding: data, as: UTF8.self) + "\n"
    }

    private static var root: [String: Any] {
        var properties: [String: Any] = [
            "ports": [
                "description": "What is joined.", "type": "array", "minItems": 1,
                "items": ["oneOf": PortType.allCases.map { ["$ref": "#/$defs/\($0.rawValue)"] }],
            ],
            "wires": [
                "description": wiresHelp, "type": "array",
                "items": [
                    "type": "array", "minItems": 2, "maxItems": 2, "items": ["type": "string"],
                ],
            ],
        ]
        for key in switchKeys { properties[key.name] = value(of: key) }
        return [
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Configuration of cleave-vhost", "type": "object",
            "additionalProperties": false, "required": ["ports"], "properties": properties,
            "$defs": Dictionary(
                uniqueKeysWithValues: PortType.allCases.map { ($0.rawValue, port($0)) }),
        ]
    }

    /// Those of the whole program.
    private static var switchKeys: [SettingKey] {
        SwitchSetting.allCases.map(\.key) + VhostConfiguration.ownKeys
    }

    static let wiresHelp =
        "Pairs of names of ports that are wired to each other: nothing is learned. Then every port "
        + "is in one."

    private static func port(_ type: PortType) -> [String: Any] {
        var properties: [String: Any] = [
            "type": ["const": type.rawValue, "description": PortKeys.type.help]
        ]
        for key in type.keys { properties[key.name] = value(of: key) }
        var schema: [String: Any] = [
            "title": type.rawValue, "description": type.summary, "type": "object",
            "additionalProperties": false, "properties": properties,
            "required": ["type"] + type.keys.filter(\.isRequired).map(\.name),
        ]
        if type == .pcap { schema["anyOf"] = ["in", "out"].map { ["required": [$0]] } }
        return schema
    }

    private static func value(of key: SettingKey) -> [String: Any] {
        var schema: [String: Any]
        switch key.kind {
        // A name may look like a number.
        case .text: schema = ["type": ["string", "integer"]]
        case .number(let range, _, _):
            schema = [
                "anyOf": [
                    [
                        "type": "integer", "minimum": range.lowerBound,
                        "maximum": range.upperBound,
                    ] as [String: Any],
                    ["type": "string", "pattern": "^[0-9]+[kMG]$"],
                ]
            ]
        case .choice(let words): schema = ["enum": words]
        case .flag: schema = ["enum": ["on", "off", "yes", "no", true, false] as [Any]]
        case .mac:
            schema = ["type": "string", "pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"]
        case .features:
            let names = FeatureNames.bits.keys.sorted().joined(separator: "|")
            schema = [
                "anyOf": [
                    ["type": "integer", "minimum": 0] as [String: Any],
                    [
                        "type": "string",
                        "pattern": "^(0x[0-9A-Fa-f]{1,16}|(\(names))(\\+(\(names)))*)$",
                    ],
                ]
            ]
        case .cpus:
            schema = [
                "anyOf": [
                    ["type": "integer", "minimum": 0] as [String: Any],
                    ["type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"],
                ]
            ]
        }
        schema["description"] = "\(key.help) (\(key.valueText))"
        schema["examples"] = [literal(key.example, key.kind)]
        if let text = key.defaultText { schema["default"] = literal(text, key.kind) }
        return schema
    }

    /// As JSON has it.
    private static func literal(_ text: String, _ kind: SettingKey.Kind) -> Any {
        if case .number = kind, let number = Int(text) { return number }
        return text
    }

    // MARK: Documentation

    /// The tables of the documentation's page, in Markdown.
    static var tables: String {
        var text = "### Of the switch\n\n" + table(switchKeys)
        text += "\n### Of every port\n\n" + table([PortKeys.type, PortKeys.name] + PortKeys.limits)
        for type in PortType.allCases {
            let article = type == .afPacket ? "an" : "a"
            text += "\n### Of \(article) \(type.rawValue) port\n\n\(type.summary)\n\n"
            text += table(type.ownKeys)
        }
        return text
    }

    private static func table(_ keys: [SettingKey]) -> String {
        let rows = keys.map { key in
            let value = key.valueText.split(separator: "|").joined(separator: "\\|")
            let fallback = key.defaultText.map { "`\($0)`" } ?? (key.isRequired ? "needed" : "")
            return "| `\(key.name)` | \(value) | \(fallback) | \(key.help) | `\(key.example)` |\n"
        }
        return "| Key | Value | Default | Meaning | Example |\n|---|---|---|---|---|\n"
            + rows.joined()
    }
}
