import CleaveBench
import CleaveHost
import CleaveProgramSupport
import Foundation

/// Results as JSON, both ways. Foundation reads it. Its own writer keeps no order of keys and
/// leaves out what is nil; here keys come in the order in which a type declares them, nil and
/// values that are no number are null, and short objects are on one line.
enum ResultJSON {
    /// Indented by two blanks, objects and arrays of plain values on one line; and a newline.
    static func text(_ value: some Encodable) -> String { tree(value).text(indentation: 0) + "\n" }

    /// On one line, without a newline.
    static func line(_ value: some Encodable) -> String { tree(value).text(indentation: nil) }

    private static func tree(_ value: some Encodable) -> JSONTree {
        // A value that is no number is written as null, so there is no value that JSON cannot hold.
        do { return try JSONTree(value) } catch { preconditionFailure("\(error)") }
    }

    /// - Parameters:
    ///   - type: what the file is to be.
    ///   - what: what to call that.
    /// - Throws: `Failure.usage` naming the file and the key that is wrong.
    static func read<Document: Decodable>(
        _ type: Document.Type, from data: Data, path: String, what: String
    ) throws(Failure) -> Document {
        do { return try JSONDecoder().decode(type, from: data) } catch {
            throw .usage("\(path): no valid \(what): \(words(error))")
        }
    }

    /// Where bytes stop being JSON; nil if they are. The decoder does not tell, the other reader
    /// does, in words.
    static func problem(with data: Data) -> String? {
        do {
            _ = try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)
            return nil
        } catch {
            let words = (error as NSError).userInfo["NSDebugDescription"] as? String ?? "\(error)"
            guard let match = words.firstMatch(of: /^(.*?) around character ([0-9]+)/) else {
                return words.hasPrefix("Unexpected end")
                    ? "the JSON is cut off: it ends at byte \(data.count), inside a value"
                    : "no JSON: \(words)"
            }
            return "no JSON from byte \(match.2) on: \(match.1.lowercased())"
        }
    }

    private static func words(_ error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.reduce("") { text, key in
                if let index = key.intValue { return text + "[\(index)]" }
                return text + (text.isEmpty ? "" : ".") + key.stringValue
            }
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return "\(place(context.codingPath + [key])) is missing"
        case DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context):
            return "\(place(context.codingPath)) is of the wrong type"
        case DecodingError.dataCorrupted(let context):
            return "\(place(context.codingPath)): \(context.debugDescription)"
        default: return "\(error)"
        }
    }
}

/// A JSON value whose objects keep the order of their keys.
private enum JSONTree {
    /// A number, a string, true, false or null, as it is written.
    case plain(String)
    case array([JSONTree])
    case object([(String, JSONTree)])

    init(_ value: any Encodable) throws {
        switch value {
        case let value as Bool: self = .plain(value ? "true" : "false")
        case let value as Double: self = .plain(value.isFinite ? "\(value)" : "null")
        case let value as String: self = .plain(Self.quoted(value))
        case let value as any FixedWidthInteger: self = .plain("\(value)")
        case let list as [any Encodable]: self = .array(try list.map(JSONTree.init))
        case let table as [String: any Encodable]:
            let pairs = try table.map { ($0, try JSONTree($1)) }
            self = .object(pairs.sorted { $0.0 < $1.0 })
        default:
            let encoder = TreeEncoder(
                leftOut: (type(of: value) as? any LeavesOutKeys.Type)?.leftOut ?? [])
            try value.encode(to: encoder)
            self = encoder.tree
        }
    }

    // MARK: Text

    private var isShort: Bool {
        switch self {
        case .plain: true
        case .array(let values): values.isEmpty
        case .object(let pairs): pairs.isEmpty
        }
    }

    /// - Parameter indentation: nil for one line.
    func text(indentation: Int?) -> String {
        switch self {
        case .plain(let text): return text
        case .array(let values):
            let inner = values.allSatisfy(\.isShort) ? nil : indentation
            return Self.list("[", values.map { ("", $0) }, "]", indentation: inner)
        case .object(let pairs):
            let isShort = pairs.allSatisfy { $0.1.isShort } && pairs.count <= 16
            return Self.list(
                "{", pairs.map { (Self.quoted($0) + ": ", $1) }, "}",
                indentation: isShort ? nil : indentation)
        }
    }

    private static func list(
        _ opening: String, _ members: [(label: String, value: JSONTree)], _ closing: String,
        indentation: Int?
    ) -> String {
        let inner = indentation.map { $0 + 2 }
        let texts = members.map { $0.label + $0.value.text(indentation: inner) }
        guard let indentation else { return opening + texts.joined(separator: ", ") + closing }
        func line(_ blanks: Int) -> String { "\n" + String(repeating: " ", count: blanks) }
        return opening + line(indentation + 2)
            + texts.joined(separator: "," + line(indentation + 2)) + line(indentation) + closing
    }

    private static func quoted(_ string: String) -> String {
        var text = "\""
        for scalar in PathText.escaped(string).unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }
}

/// Takes one value apart. Arrays and dictionaries never come here.
private final class TreeEncoder: Encoder, SingleValueEncodingContainer {
    var tree = JSONTree.object([])
    /// Keys that are left out in place of null.
    let leftOut: Set<String>
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    init(leftOut: Set<String>) { self.leftOut = leftOut }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        KeyedEncodingContainer(Keys<Key>(encoder: self))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        preconditionFailure("a list that is no array")
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }
    func encodeNil() { tree = .plain("null") }
    func encode<T: Encodable>(_ value: T) throws { tree = try JSONTree(value) }

    private struct Keys<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let encoder: TreeEncoder
        var codingPath: [any CodingKey] { [] }

        private func append(_ key: Key, _ value: JSONTree) {
            guard case .object(let pairs) = encoder.tree else { return }
            encoder.tree = .object(pairs + [(key.stringValue, value)])
        }

        func encodeNil(forKey key: Key) {
            if !encoder.leftOut.contains(key.stringValue) { append(key, .plain("null")) }
        }

        func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
            append(key, try JSONTree(value))
        }

        func encodeIfPresent<T: Encodable>(_ value: T?, forKey key: Key) throws {
            try put(value, key)
        }

        // The protocol has defaults for these, which leave nil out.
        func encodeIfPresent(_ value: Bool?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: String?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Double?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Float?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Int?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Int8?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Int16?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Int32?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: Int64?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: UInt?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: UInt8?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: UInt16?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: UInt32?, forKey key: Key) throws { try put(value, key) }
        func encodeIfPresent(_ value: UInt64?, forKey key: Key) throws { try put(value, key) }

        private func put(_ value: (some Encodable)?, _ key: Key) throws {
            if let value { try encode(value, forKey: key) } else { encodeNil(forKey: key) }
        }

        func nestedContainer<Inner: CodingKey>(
            keyedBy type: Inner.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Inner> { preconditionFailure("types nest, not containers") }

        func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
            encoder.unkeyedContainer()
        }

        func superEncoder() -> any Encoder { encoder }
        func superEncoder(forKey key: Key) -> any Encoder { encoder }
    }
}
