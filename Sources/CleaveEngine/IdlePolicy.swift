import CleaveHost

/// What an RQ's thread does while there is nothing to do.
public struct IdlePolicy: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable, Codable {
        /// Polls again at once: the shortest latency, but it needs a CPU of its own.
        case busy
        /// Tells the core that it spins, and lets other threads run now and then.
        case pause
        /// Sleeps on the RQ's kick eventfd after `pollsBeforePark` empty polls.
        case park
    }

    public var kind: Kind
    /// Empty polls before a thread sleeps.
    public var pollsBeforePark: Int
    /// Longest sleep in microseconds, a bound on what a kick that never comes can cost.
    public var wakeMicroseconds: Int

    public init(_ kind: Kind, pollsBeforePark: Int = 4096, wakeMicroseconds: Int = 1000) {
        self.kind = kind
        self.pollsBeforePark = pollsBeforePark
        self.wakeMicroseconds = wakeMicroseconds
    }

    public static let busy = IdlePolicy(.busy)
    public static let pause = IdlePolicy(.pause)
    public static let park = IdlePolicy(.park)

    /// Checks the numbers.
    public func validate() throws(SetupError) {
        guard (1...1 << 30).contains(pollsBeforePark) else {
            throw SetupError("park after \(pollsBeforePark) polls: need 1 to 1073741824")
        }
        guard (1...60_000_000).contains(wakeMicroseconds) else {
            throw SetupError("wake after \(wakeMicroseconds) microseconds: need 1 to 60000000")
        }
    }
}
