// Descriptors as a vhost-user peer may pass them, of every kind.
import CCleaveTestSupport
import Glibc

/// Descriptors that are closed when the value ends.
public final class PeerDescriptors {
    public private(set) var all: [Int32] = []

    public init() {}

    deinit { for descriptor in all { close(descriptor) } }

    /// Keeps a descriptor that a call gave.
    @discardableResult
    public func keep(_ descriptor: Int32) -> Int32 {
        all.append(descriptor)
        return descriptor
    }

    /// Closes one early.
    public func end(_ descriptor: Int32) {
        all.removeAll { $0 == descriptor }
        close(descriptor)
    }

    /// A pipe: its reading end and its writing end.
    public func pipe() -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [0, 0]
        Glibc.pipe(&ends)
        return (keep(ends[0]), keep(ends[1]))
    }

    public static let stream = Int32(SOCK_STREAM.rawValue)
    public static let datagram = Int32(SOCK_DGRAM.rawValue)

    /// Two connected sockets.
    public func sockets(_ type: Int32 = PeerDescriptors.stream) -> (near: Int32, far: Int32) {
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, type, 0, &ends)
        return (keep(ends[0]), keep(ends[1]))
    }

    /// An eventfd whose reader and writer block.
    public func event(_ value: UInt32 = 0) -> Int32 { keep(peer_eventfd(value)) }

    /// A file that is only memory.
    public func memory() -> Int32 { keep(peer_memfd()) }

    /// Every kind that cannot notify, with its name.
    public func unfit() -> [(name: String, descriptor: Int32)] {
        var kinds: [(String, Int32)] = [
            ("a memfd", memory()),
            ("/dev/null", keep(open("/dev/null", O_RDWR))),
            ("a directory", keep(open("/", O_RDONLY))),
            ("a timerfd", keep(peer_timerfd())),
            ("an epoll instance", keep(peer_epoll())),
            ("an inotify instance", keep(inotify_init1(0))),
            ("a signalfd", keep(peer_signalfd())),
            ("a datagram socket", sockets(Self.datagram).near),
            ("a pipe's reading end", pipe().reader),
        ]
        let listener = keep(socket(AF_UNIX, Self.stream, 0))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // A name that the kernel picks.
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(listener, $0, socklen_t(MemoryLayout<sa_family_t>.size))
            }
        }
        listen(listener, 1)
        kinds.append(("a listening socket", listener))
        kinds.append(("a closed number", 1_000_000))
        return kinds
    }

    /// Fills a pipe or a socket until it takes no more.
    public static func fill(_ descriptor: Int32) {
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        let bytes = [UInt8](repeating: 1, count: 8)
        while write(descriptor, bytes, 8) > 0 {}
        _ = fcntl(descriptor, F_SETFL, flags)
    }
}
