import CCleaveHost
import CleaveHost
import FoundationEssentials
import Glibc

/// A client's end of a control socket. One thread; it waits.
public final class ControlClient {
    public let path: String
    /// What the server said of itself.
    public private(set) var greeting = ControlGreeting(program: "", version: "", pid: 0)
    private let descriptor: Int32
    private var input: [UInt8] = []
    private var nextID: Int64 = 0

    /// Bytes of the longest line that is accepted of a server.
    private static let maximumLineByteCount = 64 << 20

    /// Connects, and reads the greeting.
    /// - Throws: why not, naming the file.
    public init(path: String) throws(ControlFailure) {
        self.path = path
        guard path.utf8.count <= 107 else {
            throw ControlFailure("a socket's path has at most 107 bytes", about: path)
        }
        let result = PathText.withBytes(path) { cleave_unix_connect($0) }
        switch result {
        case 0...: break
        case -ENOENT:
            throw ControlFailure(
                "no such socket: is a cleave-vhost running with --control \(path)?", about: path)
        case -ECONNREFUSED:
            throw ControlFailure("nobody listens: the program that made it is gone", about: path)
        default: throw ControlFailure(HostError.words(of: -result), about: path)
        }
        descriptor = result
        let first = try line(milliseconds: 5000)
        if let error = Self.failure(first) { throw error }
        do { greeting = try first.decoded(as: ControlGreeting.self) } catch {
            throw ControlFailure("this is no control socket of cleave-vhost", about: path)
        }
        guard greeting.protocol == ControlProtocol.version else {
            throw ControlFailure(
                "it speaks version \(greeting.protocol) of the protocol, and this program version "
                    + "\(ControlProtocol.version)", about: path)
        }
    }

    deinit { close(descriptor) }

    /// Asks, and waits for the answer; events that come meanwhile are passed over.
    /// - Parameters:
    ///   - descriptors: go with the request; they stay the caller's.
    ///   - milliseconds: how long to wait.
    /// - Throws: the server's refusal, or what is wrong with the connection.
    public func ask(
        _ command: String, _ arguments: [String: JSONValue] = [:], descriptors: [Int32] = [],
        milliseconds: Int32 = 10_000
    ) throws(ControlFailure) -> JSONValue {
        nextID += 1
        let request = ControlRequest(command, arguments, id: .integer(nextID))
        try send([UInt8](request.line.utf8), descriptors)
        while true {
            let answer = try line(milliseconds: milliseconds)
            if answer["event"] != nil { continue }
            guard answer["id"] == .integer(nextID) else {
                throw Self.failure(answer)
                    ?? ControlFailure("an answer to something else came", about: path)
            }
            if let error = Self.failure(answer) { throw error }
            return answer["result"] ?? .null
        }
    }

    /// The next event.
    /// - Parameter milliseconds: how long to wait; below 0 for as long as it takes.
    /// - Returns: nil if none came in time.
    public func event(milliseconds: Int32) throws(ControlFailure) -> JSONValue? {
        if !input.contains(UInt8(ascii: "\n")) {
            guard cleave_socket_wait(descriptor, 0, milliseconds) > 0 else { return nil }
        }
        return try line(milliseconds: 5000)
    }

    /// For poll: readable when an event may have come.
    public var fileDescriptor: Int32 { descriptor }

    private static func failure(_ answer: JSONValue) -> ControlFailure? {
        guard let error = answer["error"], let message = error["message"]?.text else { return nil }
        return ControlFailure(message, about: error["about"]?.text)
    }

    private func send(_ bytes: [UInt8], _ descriptors: [Int32]) throws(ControlFailure) {
        var rest = bytes[...]
        var descriptors = descriptors
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                cleave_socket_send(
                    descriptor, $0.baseAddress, $0.count, descriptors, Int32(descriptors.count))
            }
            if count == -EAGAIN || count == -EWOULDBLOCK {
                guard cleave_socket_wait(descriptor, 1, 10_000) > 0 else {
                    throw ControlFailure("the server does not read", about: path)
                }
                continue
            }
            if count < 0 { throw ControlFailure(HostError.words(of: -count), about: path) }
            rest = rest.dropFirst(Int(count))
            descriptors = []
        }
    }

    private func line(milliseconds: Int32) throws(ControlFailure) -> JSONValue {
        let end = SystemClock.monotonic + UInt64(max(0, milliseconds)) * 1_000_000
        var searched = 0
        while true {
            if let stop = input[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                let bytes = input[..<stop]
                defer { input.removeFirst(stop + 1) }
                do { return try JSONDecoder().decode(JSONValue.self, from: Data(bytes)) } catch {
                    throw ControlFailure("the server's line is not JSON", about: path)
                }
            }
            searched = input.count
            guard input.count < Self.maximumLineByteCount else {
                throw ControlFailure("the server's line has no end", about: path)
            }
            let now = SystemClock.monotonic
            guard now < end,
                cleave_socket_wait(descriptor, 0, Int32((end - now + 999_999) / 1_000_000)) > 0
            else { throw ControlFailure("no answer in time", about: path) }
            var bytes = [UInt8](repeating: 0, count: 64 * 1024)
            let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            if count < 0 && (errno == EAGAIN || errno == EINTR) { continue }
            guard count > 0 else {
                throw ControlFailure("the server closed the connection", about: path)
            }
            input += bytes[..<count]
        }
    }
}
