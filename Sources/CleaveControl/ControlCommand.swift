import CleaveHost
import CleaveSwitch
import Glibc

/// A command of the control socket.
public struct ControlCommand: Sendable {
    /// An argument, and what it may be.
    public struct Argument: Sendable {
        public enum Kind: String, Sendable {
            case string, integer, boolean
        }

        public let name: String
        public let kind: Kind
        public let isRequired: Bool
        /// One sentence.
        public let help: String

        public init(_ name: String, _ kind: Kind, isRequired: Bool = false, help: String) {
            self.name = name
            self.kind = kind
            self.isRequired = isRequired
            self.help = help
        }

        func accepts(_ value: JSONValue) -> Bool {
            switch kind {
            case .string: value.text != nil
            case .integer: value.integer != nil
            case .boolean: value.bool != nil
            }
        }
    }

    /// `stats`, `port.add`.
    public let name: String
    /// One sentence.
    public let help: String
    public let arguments: [Argument]
    /// Carries it out. On the switch's control thread, and so short: guests' requests wait. The
    /// arguments are of their kinds. The result is written as JSON by the server's thread.
    public let run: @Sendable (ControlCall) throws(ControlFailure) -> any Encodable & Sendable

    public init(
        _ name: String, help: String, arguments: [Argument] = [],
        run: @escaping @Sendable (ControlCall) throws(ControlFailure) -> JSONValue
    ) {
        self.init(
            name: name, help: help, arguments: arguments,
            run: { (call) throws(ControlFailure) in try run(call) })
    }

    /// - Parameter value: carries it out, and gives a value from which the JSON is made later: for
    ///   results of more than a few lines.
    static func large<Value: Encodable & Sendable>(
        _ name: String, help: String, arguments: [Argument],
        value: @escaping @Sendable (ControlCall) throws(ControlFailure) -> Value
    ) -> ControlCommand {
        ControlCommand(
            name: name, help: help, arguments: arguments,
            run: { (call) throws(ControlFailure) in try value(call) })
    }

    private init(
        name: String, help: String, arguments: [Argument],
        run: @escaping @Sendable (ControlCall) throws(ControlFailure) -> any Encodable & Sendable
    ) {
        (self.name, self.help, self.arguments, self.run) = (name, help, arguments, run)
    }

    /// Refuses arguments that the command does not have, or of another kind.
    func check(_ given: [String: JSONValue]) throws(ControlFailure) {
        for (name, value) in given.sorted(by: { $0.key < $1.key }) {
            guard let argument = arguments.first(where: { $0.name == name }) else {
                let known = arguments.map(\.name).joined(separator: ", ")
                throw ControlFailure(
                    "\(self.name) has no such argument"
                        + (known.isEmpty ? "" : " (known here: \(known))"), about: name)
            }
            guard argument.accepts(value) else {
                throw ControlFailure(
                    "expected a value of type \(argument.kind)"
                        + (argument.kind == .integer ? ", -2^63 to 2^63 - 1" : ""), about: name)
            }
        }
        for argument in arguments where argument.isRequired && given[argument.name] == nil {
            throw ControlFailure("\(name) needs this argument", about: argument.name)
        }
    }
}

/// A request as a command sees it.
public struct ControlCall {
    public let arguments: [String: JSONValue]
    /// The switch that is served.
    public let joined: Switch
    /// Who asks.
    public let peer: ControlPeer
    /// Descriptors that came with the request. Those that are not taken are closed after it.
    public let descriptors: [ControlDescriptor]

    public func text(_ name: String) -> String? { arguments[name]?.text }
    public func integer(_ name: String) -> Int? { arguments[name]?.integer.map { Int($0) } }
    public func flag(_ name: String) -> Bool { arguments[name]?.bool ?? false }
}

/// A descriptor that a client has sent. It is closed with this object unless it is taken.
public final class ControlDescriptor: @unchecked Sendable {
    // SAFETY: `number` is guarded by `lock`.
    private let lock = Lock()
    private var number: Int32

    init(_ number: Int32) { self.number = number }
    deinit { if number >= 0 { close(number) } }

    /// The descriptor, which is the caller's to close from now on; nil if it was taken already.
    public func take() -> Int32? {
        lock.withLock {
            defer { number = -1 }
            return number >= 0 ? number : nil
        }
    }
}
