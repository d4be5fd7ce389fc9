// What goes over the control socket: one JSON object on each line, both ways.
//
//   server   {"pid":4711,"program":"cleave-vhost","protocol":1,"version":"0.2.0"}
//   client   {"command":"stats","arguments":{"clear":true},"id":1}
//   server   {"id":1,"result":{...}}
//   client   {"command":"features","arguments":{"port":"a"},"id":2}
//   server   {"error":{"about":"port","message":"there is no port \"a\" among b, c"},"id":2}
//
// A line of the server without `id` is an event: {"event":"...",...}. The page ControlSocket is the
// reference.

import FoundationEssentials

public enum ControlProtocol {
    /// Changes when a client that knows the one before would misread something.
    public static let version = 1
    /// Bytes of the longest line that a client may send, its end included.
    public static let maximumLineByteCount = 64 * 1024
    /// Brackets within brackets of a line that a client may send.
    public static let maximumDepth = 16
}

/// The server's first line.
public struct ControlGreeting: Codable, Equatable, Sendable {
    public var program: String
    public var version: String
    public var pid: Int32
    public var `protocol`: Int

    public init(program: String, version: String, pid: Int32) {
        self.program = program
        self.version = version
        self.pid = pid
        `protocol` = ControlProtocol.version
    }
}

/// A request, read.
public struct ControlRequest: Equatable, Sendable {
    public var command: String
    public var arguments: [String: JSONValue]
    /// Comes back with the answer: a number or a text of the client's own, or nothing.
    public var id: JSONValue

    public init(_ command: String, _ arguments: [String: JSONValue] = [:], id: JSONValue = .null) {
        self.command = command
        self.arguments = arguments
        self.id = id
    }

    /// Reads a line.
    /// - Throws: what is wrong with it, naming the key.
    public init(line: some Sequence<UInt8>) throws(ControlFailure) {
        // Before it is read: what reads JSON of unknown form takes time with a power of its depth.
        guard Self.depth(line) <= ControlProtocol.maximumDepth else {
            throw ControlFailure("brackets lie deeper than \(ControlProtocol.maximumDepth)")
        }
        let value: JSONValue
        do { value = try JSONDecoder().decode(JSONValue.self, from: Data(line)) } catch {
            throw ControlFailure("the line is not JSON")
        }
        guard case .object(let members) = value else {
            throw ControlFailure("the line is not a JSON object")
        }
        id = .null
        if let given = members["id"] {
            switch given {
            case .integer, .string, .null: id = given
            default: throw ControlFailure("expected a whole number or a text", about: "id")
            }
        }
        let known = ["command", "arguments", "id"]
        if let other = members.keys.sorted().first(where: { !known.contains($0) }) {
            throw ControlFailure(
                "unknown key (known here: \(known.joined(separator: ", ")))", about: other, id: id)
        }
        guard let name = members["command"]?.text else {
            throw ControlFailure("expected the name of a command", about: "command", id: id)
        }
        command = name
        switch members["arguments"] {
        case nil, .null: arguments = [:]
        case .object(let given): arguments = given
        default: throw ControlFailure("expected an object", about: "arguments", id: id)
        }
    }

    /// How deep brackets lie in brackets; those in strings do not count.
    private static func depth(_ line: some Sequence<UInt8>) -> Int {
        var (depth, deepest) = (0, 0)
        var (isInString, isEscaped) = (false, false)
        for byte in line {
            if isEscaped {
                isEscaped = false
            } else if isInString {
                isEscaped = byte == UInt8(ascii: "\\")
                isInString = byte != UInt8(ascii: "\"")
            } else {
                switch byte {
                case UInt8(ascii: "\""): isInString = true
                case UInt8(ascii: "["), UInt8(ascii: "{"):
                    depth += 1
                    deepest = max(deepest, depth)
                case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
                default: break
                }
            }
        }
        return deepest
    }

    /// The line that says it, with its end.
    public var line: String {
        JSONValue.object([
            "command": .string(command), "arguments": .object(arguments), "id": id,
        ]).line + "\n"
    }
}

/// Why a request was not carried out.
public struct ControlFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public var message: String
    /// The key, port or file that it is about.
    public var about: String?
    /// Of the request, where it could be read.
    var id: JSONValue = .null

    public init(_ message: String, about: String? = nil) {
        self.message = message
        self.about = about
    }

    init(_ message: String, about: String? = nil, id: JSONValue) {
        self.init(message, about: about)
        self.id = id
    }

    public var description: String { about.map { "\($0): \(message)" } ?? message }

    var json: JSONValue {
        var members: [String: JSONValue] = ["message": .string(message)]
        if let about { members["about"] = .string(about) }
        return .object(members)
    }
}

/// The answer to a request.
struct ControlReply: Encodable, Sendable {
    private enum Key: String, CodingKey { case id, result, error }

    private let id: JSONValue
    private let key: Key
    private let value: any Encodable & Sendable

    static func result(_ value: any Encodable & Sendable, id: JSONValue) -> ControlReply {
        ControlReply(id: id, key: .result, value: value)
    }
    static func error(_ failure: ControlFailure, id: JSONValue) -> ControlReply {
        ControlReply(id: id, key: .error, value: failure.json)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(id, forKey: .id)
        try container.encode(value, forKey: key)
    }

    /// The line that says it, with its end.
    var bytes: [UInt8] {
        do { return Array(try JSONValue.encoder().encode(self)) + [UInt8(ascii: "\n")] } catch {
            let failure = ControlFailure("the answer cannot be written: \(error)")
            return Array((JSONValue.object(["id": id, "error": failure.json]).line + "\n").utf8)
        }
    }
}
