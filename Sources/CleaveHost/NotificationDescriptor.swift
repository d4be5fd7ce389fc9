import CCleaveHost
import Glibc

/// A descriptor that a peer gave for notifications: one by which the driver is called, or one by
/// which it kicks.
///
/// vhost-user peers pass eventfds, and some pass pipes or stream sockets (User-Mode Linux does).
/// Values of 8 bytes go through it whose content says nothing. Whatever the peer does with its end,
/// `signal` and `drain` neither block nor raise a signal, as long as an eventfd or a pipe stays
/// non-blocking, as it is made here.
///
/// The descriptor is a duplicate: the one it was made from may be closed.
public final class NotificationDescriptor: Sendable {
    /// Which way notifications go through it.
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

    /// What the packet path keeps of it.
    public var sender: NotificationSender {
        NotificationSender(fileDescriptor: fileDescriptor, kind: kind)
    }

    /// Takes all notifications that came.
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

    /// Where there is no descriptor.
    public static let none = NotificationSender(fileDescriptor: -1, kind: 0)

    public var isNone: Bool { fileDescriptor < 0 }

    /// Notifies the other side.
    /// - Returns: whether it was told, now or by a notification that it did not take yet; false if
    ///   there is nobody any more.
    public func send() -> Bool { cleave_notification_send(fileDescriptor, kind) != 0 }
}
