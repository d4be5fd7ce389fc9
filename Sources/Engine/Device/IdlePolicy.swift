// control path

/// What an RQ's thread does while there is nothing to do.
public struct IdlePolicy: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable, Codable {
        /// Looks again at once: the shortest latency, a CPU of its own needed.
        case busy
        /// Tells the core that it spins, and lets other threads run now and then.
        case pause
        /// Sleeps on the RQ's kick eventfd after `turnsBeforePark` empty turns.
        case park
    }

    public var kind: Kind
    /// Empty turns before a thread sleeps.
    public var turnsBeforePark: Int
    /// Longest sleep in microseconds, a bound on what a kick that never comes can cost.
    public var wakeMicroseconds: Int

    public init(_ kind: Kind, turnsBeforePark: Int = 4096, wakeMicroseconds: Int = 1000) {
        self.kind = kind
        self.turnsBeforePark = turnsBeforePark
        self.wakeMicroseconds = wakeMicroseconds
    }

    public static let busy = IdlePolicy(.busy)
    public static let pause = IdlePolicy(.pause)
    public static let park = IdlePolicy(.park)

    /// Checks the numbers.
    public func validate() throws(EngineError) {
        guard (1...1 << 30).contains(turnsBeforePark) else {
            throw EngineError("park after \(turnsBeforePark) turns: need 1 to 1073741824")
        }
        guard (1...60_000_000).contains(wakeMicroseconds) else {
            throw EngineError("wake after \(wakeMicroseconds) microseconds: need 1 to 60000000")
        }
    }
}
