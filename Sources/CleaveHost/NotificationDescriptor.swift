import CCleaveHost
import Glibc

/// A peer's descriptor for notifications: one through which the driver is called, or one through
/// which it kicks.
///
/// vhost-user peers pass eventfds, and some pass pipes or stream sockets (User-Mode Linux does).
/// It carries values of 8 bytes whose content means nothing. Whatever the peer does with its end,
/// `signal` and `drain` neither block nor raise a signal, as long as an eventfd or a pipe stays
/// non-blocking, as it is made here.
///
/// The descriptor is a duplicate: the one it was made from may be closed.
public final class NotificationDescriptor: Sendable {
    /// The direction of notifications.
    public enum Direction: Sendable {
        /// From here to the driver.
        case call
        /// From the driver to here.
        case kick
    }

    /// For poll; owned by this object.
    public let fileDescriptor: Int32
    private let kind: Int32

    /// - Throws: if it is not open in that direction, is of another kind, or there are too many
    ///   open files.
    public init(duplicating other: Int32, for direction: Direction) throws(HostError) {
        var kind: Int32 = 0
        let result = cleave_notification_open(other, direction == .call ? 1 : 0, &kind)
        if result < 0 { throw Self.error(other, direction, code: -result) }
        fileDescriptor = result
        self.kind = kind
    }

    deinit { close(fileDescriptor) }

    private static func error(_ other: Int32, _ direction: Direction, code: Int32) -> HostError {
        let name = direction == .call ? "call descriptor" : "kick descriptor"
        let end = direction == .call ? "writing" : "reading"
        switch code {
        case EPROTOTYPE:
            return HostError(
                name, "\(other) is not an eventfd, a pipe or a stream socket")
        case EACCES: return HostError(name, "\(other) is not open for \(end)")
        default: return HostError(name, code: code, "\(other) cannot be used")
        }
    }

    /// The sending end, as the packet path keeps it.
    public var sender: NotificationSender {
        NotificationSender(fileDescriptor: fileDescriptor, kind: kind)
    }

    /// Clears all notifications that have arrived.
    /// - Returns: whether there was one.
    @discardableResult
    public func drain() -> Bool { cleave_notification_drain(fileDescriptor, kind) != 0 }
}

/// The sending end of a `NotificationDescriptor`, which must outlive it; or none.
public struct NotificationSender: BitwiseCopyable, Sendable {
    private let fileDescriptor: Int32
    private let kind: Int32

    fileprivate init(fileDescriptor: Int32, kind: Int32) {
        self.fileDescriptor = fileDescriptor
        self.kind = kind
    }

    /// No descriptor.
    public static let none = NotificationSender(fileDescriptor: -1, kind: 0)

    public var isNone: Bool { fileDescriptor < 0 }

    /// Notifies the other side.
    /// - Returns: whether it was notified, now or by a notification that it has not taken yet;
    ///   false if nobody is there any more.
    public func send() -> Bool { cleave_notification_send(fileDescriptor, kind) != 0 }
}
