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
        let line = Array(line)
        if let problem = Self.encodingProblem(line) { throw ControlFailure(problem) }
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
            default:
                throw ControlFailure(
                    "expected a text or a whole number from -2^63 to 2^63 - 1", about: "id")
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

    /// What is wrong with bytes that are to be UTF-8, and where; nil if they are. What reads JSON
    /// guesses other encodings, of which a line's end is not the end.
    private static func encodingProblem(_ line: [UInt8]) -> String? {
        func place(_ index: Int) -> String {
            let digits = String(line[index], radix: 16, uppercase: true)
            return "byte \(index + 1) of the line is 0x" + (digits.count == 1 ? "0" : "") + digits
        }
        if line.starts(with: [0xef, 0xbb, 0xbf]) {
            return "\(place(0)): a byte order mark; expected UTF-8 without one"
        }
        if line.starts(with: [0xff, 0xfe]) || line.starts(with: [0xfe, 0xff]) {
            return "\(place(0)): the byte order mark of UTF-16; expected UTF-8"
        }
        if let zero = line.firstIndex(of: 0) {
            return "\(place(zero)), as in UTF-16; expected UTF-8"
        }
        var parser = Unicode.UTF8.ForwardParser()
        var bytes = line.makeIterator()
        var index = 0
        while true {
            switch parser.parseScalar(from: &bytes) {
            case .valid(let scalar): index += scalar.count
            case .emptyInput: return nil
            case .error: return "\(place(index)), which is not UTF-8"
            }
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
