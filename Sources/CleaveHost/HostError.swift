import CCleaveHost

/// An error that may have been caused by a call that the operating system refused.
public protocol ErrorWithCode: Error, CustomStringConvertible {
    /// `errno` of that call; nil if no call was refused.
    var code: Int32? { get }
}

/// A refusal by the operating system, or an impossible value: one sentence, nothing to decode.
public struct HostError: ErrorWithCode, Equatable {
    /// The call (`mmap`) or the matter (`CPU list`) that failed.
    public let topic: String
    /// `errno` of the call, nil when no call was made.
    public let code: Int32?
    /// What is wrong and with which value.
    public let message: String

    public init(_ topic: String, code: Int32? = nil, _ message: String) {
        self.topic = topic
        self.code = code
        self.message = message
    }

    /// `topic: message: the system's words (errno n)`.
    public var description: String {
        guard let code else { return "\(topic): \(message)" }
        return "\(topic): \(message): \(Self.words(of: code)) (errno \(code))"
    }

    /// The system's words for an errno, such as "Invalid argument".
    package static func words(of code: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
            cleave_error_words(code, buffer.baseAddress!, buffer.count)
            return String(cString: buffer.baseAddress!)
        }
    }
}
