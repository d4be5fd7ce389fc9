import CleaveHost
import Glibc

/// Where an HTTP service listens: an address of this machine alone, or a unix socket, unless more
/// is said.
package enum ServiceAddress: Equatable, Sendable, CustomStringConvertible {
    /// An IPv4 or IPv6 address in numbers, and a port; 0 for any that is free.
    case tcp(host: String, port: UInt16)
    case unix(path: String)

    /// Reads `127.0.0.1:9876`, `[::1]:9876`, `localhost:9876`, `unix:FILE`, and with `public:` in
    /// front an address that other machines reach.
    package init(parsing text: String) throws(SetupError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst("unix:".count))
            guard !path.isEmpty else { throw SetupError("unix: names no file") }
            self = .unix(path: path)
            return
        }
        let isPublic = text.hasPrefix("public:")
        let place = isPublic ? String(text.dropFirst("public:".count)) : text
        guard let colon = place.lastIndex(of: ":"),
            let port = UInt16(place[place.index(after: colon)...])
        else {
            throw SetupError(
                "\(text): expected ADDRESS:PORT, such as 127.0.0.1:9876, or unix:FILE")
        }
        var host = String(place[..<colon])
        if host == "localhost" { host = "127.0.0.1" }
        if host.hasPrefix("[") && host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard let isLoopback = Self.isLoopback(host) else {
            throw SetupError(
                "\(text): \"\(host)\" is no address in numbers, such as 127.0.0.1 or [::1]")
        }
        guard isLoopback || isPublic else {
            throw SetupError(
                "\(text): other machines could read there, and nothing is encrypted or asks who "
                    + "reads; if that is meant: public:\(place)")
        }
        self = .tcp(host: host, port: port)
    }

    /// Whether only this machine reaches it; nil if the text is no address.
    static func isLoopback(_ host: String) -> Bool? {
        var four = in_addr()
        if inet_pton(AF_INET, host, &four) == 1 {
            return UInt32(bigEndian: four.s_addr) >> 24 == 127
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, host, &six) == 1 else { return nil }
        return withUnsafeBytes(of: six) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
    }

    /// Browsers reach a service of this machine under any name that a page's owner gives its
    /// address. A request that names another host than this machine is such a page's.
    package func isMeant(by request: HTTPRequest) -> Bool {
        guard case .tcp(let host, _) = self, Self.isLoopback(host) == true else { return true }
        guard var name = request.headers["host"] else { return true }
        if let colon = name.lastIndex(of: ":"), !name.hasSuffix("]") {
            name = String(name[..<colon])
        }
        if name.hasPrefix("[") && name.hasSuffix("]") { name = String(name.dropFirst().dropLast()) }
        return name.lowercased() == "localhost" || Self.isLoopback(name) == true
    }

    package var description: String {
        switch self {
        case .tcp(let host, let port):
            host.contains(":") ? "http://[\(host)]:\(port)" : "http://\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// `text` after what a URL names first; nothing at a unix socket.
    package func url(_ text: String) -> String {
        if case .unix = self { return description }
        return description + text
    }

    /// A socket that listens there.
    /// - Returns: its descriptor, and the address with the port that it has.
    static func listen(
        host: String, port: UInt16
    ) throws(SetupError) -> (descriptor: Int32, address: ServiceAddress) {
        let isSix = host.contains(":")
        let name = ServiceAddress.tcp(host: host, port: port)
        let socket = Glibc.socket(
            isSix ? AF_INET6 : AF_INET,
            Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw failure(name, errno) }
        var one: Int32 = 1
        // A predecessor's connections may still be about to end.
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        var storage = sockaddr_storage()
        let bound = withUnsafeMutableBytes(of: &storage) { bytes -> Int32 in
            // SAFETY: the storage has room and alignment for any socket address.
            let base = bytes.baseAddress!
            if isSix {
                let six = base.assumingMemoryBound(to: sockaddr_in6.self)
                six.pointee.sin6_family = sa_family_t(AF_INET6)
                six.pointee.sin6_port = port.bigEndian
                inet_pton(AF_INET6, host, &six.pointee.sin6_addr)
            } else {
                let four = base.assumingMemoryBound(to: sockaddr_in.self)
                four.pointee.sin_family = sa_family_t(AF_INET)
                four.pointee.sin_port = port.bigEndian
                inet_pton(AF_INET, host, &four.pointee.sin_addr)
            }
            var size = socklen_t(
                isSix ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
            let address = base.assumingMemoryBound(to: sockaddr.self)
            if bind(socket, address, size) != 0 || Glibc.listen(socket, 16) != 0 { return errno }
            return getsockname(socket, address, &size) == 0 ? 0 : errno
        }
        guard bound == 0 else {
            close(socket)
            throw failure(name, bound)
        }
        let chosen = withUnsafeBytes(of: storage) { bytes in
            // The port is at the same place in both kinds.
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
        return (socket, .tcp(host: host, port: chosen))
    }

    private static func failure(_ name: ServiceAddress, _ code: Int32) -> SetupError {
        SetupError("cannot listen at \(name): \(HostError.words(of: code))", code: code)
    }
}
