// Output of a queue besides its packets: calls, and events for its owner.
import CleaveHost

/// Events of a queue that its owner has to know; bit by bit the events of the C interface.
@frozen
public struct QueueEvents: OptionSet, BitwiseCopyable, Sendable {
    public let rawValue: UInt32
    @inlinable @inline(__always)
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The driver asked to be called, and no descriptor was given for that.
    public static let call = QueueEvents(rawValue: 1 << 0)
    /// A packet was placed whole because the driver broke the header queue.
    public static let headerQueueBroken = QueueEvents(rawValue: 1 << 2)
    /// The driver asked to be called, and there is nobody at the other end of the descriptor.
    public static let callLost = QueueEvents(rawValue: 1 << 3)
}

extension NotificationDescriptor {
    // control path
    /// A descriptor of a configuration, duplicated; nil for -1.
    static func given(
        _ number: Int32, for direction: Direction
    ) throws(SetupError) -> NotificationDescriptor? {
        if number < 0 { return nil }
        do { return try NotificationDescriptor(duplicating: number, for: direction) } catch {
            throw SetupError("\(error)", code: error.code)
        }
    }
}
