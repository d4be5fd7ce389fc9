import CleaveHost
import Glibc

/// A TCP connection over IPv4 that closes itself. No call on it waits for ever.
struct StreamSocket: ~Copyable {
    /// Seconds that one end waits for the other before it gives up.
    static let patience = 20

    let descriptor: Int32

    private init() throws(HostError) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if descriptor < 0 { throw HostError("socket", code: errno, "cannot make a TCP socket") }
        Self.limit(descriptor)
    }

    private init(descriptor: Int32) {
        self.descriptor = descriptor
        Self.limit(descriptor)
    }

    /// A call that waits longer fails with EAGAIN.
    private static func limit(_ descriptor: Int32) {
        var time = timeval(tv_sec: patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(
                descriptor, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit { close(descriptor) }

    /// The first connection that comes to `port`.
    static func accept(port: UInt16) throws(HostError) -> StreamSocket {
        let listener = try StreamSocket()
        // What the connection before has left would hold the port for a minute.
        try listener.set(SO_REUSEADDR, 1)
        var place = address(in_addr(s_addr: INADDR_ANY), port)
        guard place.with({ bind(listener.descriptor, $0, $1) }) == 0,
            listen(listener.descriptor, 1) == 0
        else { throw HostError("bind", code: errno, "cannot listen at port \(port)") }
        let descriptor = Glibc.accept(listener.descriptor, nil, nil)
        if descriptor < 0 {
            throw HostError(
                "accept", code: errno, "no sender came to port \(port) in \(patience) s")
        }
        return StreamSocket(descriptor: descriptor)
    }

    /// Connects to a receiver, which may still be about to listen.
    static func connect(to host: String, port: UInt16) throws(HostError) -> StreamSocket {
        var number = in_addr()
        guard inet_pton(AF_INET, host, &number) == 1 else {
            throw HostError("connect", "\"\(host)\" is no IPv4 address")
        }
        let end = SystemClock.monotonic + UInt64(patience) * 1_000_000_000
        while true {
            let connection = try StreamSocket()
            var place = address(number, port)
            if place.with({ Glibc.connect(connection.descriptor, $0, $1) }) == 0 {
                return connection
            }
            let code = errno
            if SystemClock.monotonic > end {
                throw HostError("connect", code: code, "no receiver at \(host) port \(port)")
            }
            usleep(50_000)
        }
    }

    func set(_ option: Int32, _ value: Int32) throws(HostError) {
        var value = value
        let size = socklen_t(MemoryLayout<Int32>.size)
        if setsockopt(descriptor, SOL_SOCKET, option, &value, size) != 0 {
            throw HostError("setsockopt", code: errno, "option \(option) of a TCP socket")
        }
    }

    /// Waits until bytes are there, as many as the low-water mark says, or the end of the stream.
    func waitUntilReadable() throws(HostError) {
        var one = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        while true {
            let count = poll(&one, 1, Int32(Self.patience) * 1000)
            if count > 0 { return }
            if count == 0 {
                throw HostError("poll", "nothing came from the sender for \(Self.patience) s")
            }
            if errno != EINTR { throw HostError("poll", code: errno, "cannot wait for bytes") }
        }
    }

    private static func address(_ host: in_addr, _ port: UInt16) -> sockaddr_in {
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = port.bigEndian
        place.sin_addr = host
        return place
    }
}

extension sockaddr_in {
    fileprivate mutating func with(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        withUnsafePointer(to: &self) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
