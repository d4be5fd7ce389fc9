// What a fuzzer does with its input, one case for each place where bytes of strangers come in. The
// replay of a corpus runs the same code.
import CleaveTestSupport

/// One place where bytes of strangers come in.
public enum FuzzCase: String, CaseIterable, Sendable {
    /// Messages of a vhost-user front-end, with descriptors, and the rings that they start.
    case messages
    /// A split ring, and the same bytes as a header queue, in the hands of a hostile driver.
    case split
    /// A packed ring.
    case packed
    /// Headers of packets.
    case headers
    /// Lines of a client of the control socket.
    case control
    /// Requests over HTTP, in pieces of any size.
    case http

    /// Does what `input` says.
    /// - Returns: what happened, by name, so that a corpus can be judged by what it reaches.
    /// - Throws: `Violation` if something that always holds does not.
    public func run(_ input: [UInt8]) throws(Violation) -> Set<String> {
        do {
            return
                switch self
            {
            case .messages: try MessageFuzz.run(input)
            case .split: try RingFuzz.run(input, isPacked: false)
            case .packed: try RingFuzz.run(input, isPacked: true)
            case .headers: try HeaderFuzz.run(input)
            case .control: try RequestFuzz.control(input)
            case .http: try RequestFuzz.http(input)
            }
        } catch let violation as Violation { throw violation } catch {
            throw Violation("set-up: \(error)")
        }
    }
}

/// Something that always holds, and did not.
public struct Violation: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }

    /// - Throws: unless `condition` holds.
    static func unless(_ condition: Bool, _ words: @autoclosure () -> String) throws(Violation) {
        if !condition { throw Violation(words()) }
    }
}

/// Takes numbers from an input; zeros when it is used up.
struct InputReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }

    mutating func byte() -> UInt8 {
        if isAtEnd { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func number() -> Int { Int(byte()) | Int(byte()) << 8 }

    /// Up to `count` bytes.
    mutating func take(_ count: Int) -> [UInt8] {
        let end = min(bytes.count, position + count)
        defer { position = end }
        return Array(bytes[min(position, end)..<end])
    }
}
