/// How much a line of the log matters.
public enum LogLevel: String, Sendable, CaseIterable {
    case error, warning, info, debug

    /// The number that syslog and systemd give it; less is worse.
    public var severity: Int {
        switch self {
        case .error: 3
        case .warning: 4
        case .info: 6
        case .debug: 7
        }
    }
}

/// What is said to the operator: one line, as text or with its parts under names of their own.
public struct LogEntry: Sendable, Equatable {
    public var level: LogLevel
    /// The name of the port that it is about; nil if it is about none.
    public var port: String?
    /// What happened.
    public var message: String
    /// Why, where there is more than one cause: a fault's or a refusal's name, the system's words.
    public var reason: String?

    public init(
        _ message: String, level: LogLevel = .info, port: String? = nil, reason: String? = nil
    ) {
        self.level = level
        self.port = port
        self.message = message
        self.reason = reason
    }
}

extension LogEntry: CustomStringConvertible {
    /// `port NAME: MESSAGE: REASON`.
    public var description: String {
        [port.map { "port \($0)" }, message, reason].compactMap { $0 }.joined(separator: ": ")
    }
}

extension LogEntry: ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) { self.init(value) }
}
