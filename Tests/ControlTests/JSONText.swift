import CleaveControl
import Foundation
import Testing

enum JSONText {
    static func value(_ bytes: [UInt8]) throws -> JSONValue {
        try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
    }

    /// The published schema.
    static func schema() throws -> JSONValue {
        let root = #filePath.components(separatedBy: "/Tests/")[0]
        let file = root + "/configs/schema/control.schema.json"
        return try value([UInt8](try Data(contentsOf: URL(fileURLWithPath: file))))
    }
}

/// As much of JSON Schema as the published file uses; another keyword is an error.
struct SchemaCheck {
    let root: JSONValue

    /// What is wrong with a value, each with its place.
    func problems(_ value: JSONValue, _ schema: JSONValue, at place: String = "$") -> [String] {
        guard case .object(let keywords) = schema else { return ["\(place): no schema"] }
        var found: [String] = []
        for (keyword, rule) in keywords.sorted(by: { $0.key < $1.key }) {
            switch keyword {
            case "description", "title", "$schema", "$defs": break
            case "$ref": found += reference(rule, value, place)
            case "type": found += type(rule, value, place)
            case "const": if value != rule { found.append("\(place): is not \(rule.line)") }
            case "enum":
                if rule.elements?.contains(value) != true {
                    found.append("\(place): \(value.line)")
                }
            case "minimum":
                if let integer = value.integer, integer < rule.integer ?? 0 {
                    found.append("\(place): \(integer) is too small")
                }
            case "pattern":
                if let text = value.text, let pattern = rule.text,
                    (try? Regex(pattern).firstMatch(in: text)) == nil
                {
                    found.append("\(place): \(text) is not like \(pattern)")
                }
            case "required":
                for name in (rule.elements ?? []).compactMap(\.text) where value[name] == nil {
                    found.append("\(place): has no \(name)")
                }
            case "properties", "additionalProperties": break
            case "items":
                for (index, element) in (value.elements ?? []).enumerated() {
                    found += problems(element, rule, at: "\(place)[\(index)]")
                }
            case "oneOf":
                let fitting = (rule.elements ?? []).count { problems(value, $0).isEmpty }
                if fitting != 1 { found.append("\(place): \(fitting) of oneOf fit") }
            default: found.append("\(place): unknown keyword \(keyword)")
            }
        }
        return found + members(keywords, value, place)
    }

    private func reference(_ rule: JSONValue, _ value: JSONValue, _ place: String) -> [String] {
        let name = rule.text.map { String($0.dropFirst("#/$defs/".count)) } ?? ""
        guard let other = root["$defs"]?[name] else { return ["\(place): no $defs/\(name)"] }
        return problems(value, other, at: place)
    }

    private func type(_ rule: JSONValue, _ value: JSONValue, _ place: String) -> [String] {
        let names = rule.text.map { [$0] } ?? (rule.elements ?? []).compactMap(\.text)
        let isOne = names.contains { name in
            switch (name, value) {
            case ("null", .null), ("boolean", .bool), ("integer", .integer), ("number", .integer),
                ("number", .number), ("string", .string), ("array", .array), ("object", .object):
                true
            default: false
            }
        }
        return isOne ? [] : ["\(place): \(value.line.prefix(40)) is no \(names)"]
    }

    private func members(
        _ keywords: [String: JSONValue], _ value: JSONValue, _ place: String
    ) -> [String] {
        guard case .object(let members) = value else { return [] }
        return members.sorted { $0.key < $1.key }.flatMap { name, member -> [String] in
            if let rule = keywords["properties"]?[name] {
                return problems(member, rule, at: "\(place).\(name)")
            }
            switch keywords["additionalProperties"] {
            case nil, .bool(true): return []
            case .bool(false): return ["\(place): \(name) is unknown"]
            case .some(let rule): return problems(member, rule, at: "\(place).\(name)")
            }
        }
    }
}
