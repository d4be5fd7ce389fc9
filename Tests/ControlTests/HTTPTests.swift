import CleaveHost
import Foundation
import Glibc
import Testing

@testable import CleaveControl

@Suite("HTTP, as far as metrics and the page need it")
struct HTTPTests {
    private func parse(_ text: String, pieces: Int = .max) throws -> [HTTPRequest] {
        var parser = HTTPParser()
        var requests: [HTTPRequest] = []
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            parser.append(rest.prefix(pieces))
            rest = rest.dropFirst(pieces)
            while let request = try parser.next() { requests.append(request) }
        }
        return requests
    }

    @Test("Requests are read, in pieces of any size, several in one piece", arguments: 1...9)
    func requests(_ pieces: Int) throws {
        let text =
            "\r\nGET /metrics?x=1&y=2 HTTP/1.1\r\nHost: a:1\r\nACCEPT:  b \r\naccept: c\r\n\r\n"
            + "HEAD / HTTP/1.0\nHost: a\n\nGET http://h:1/p HTTP/1.1\r\nHost: h\r\n"
            + "Connection: close\r\n\r\n"
        let requests = try parse(text, pieces: pieces)
        try #require(requests.count == 3)
        #expect(requests[0].path == "/metrics" && requests[0].queryValue("y") == "2")
        #expect(requests[0].queryValue("z") == nil)
        #expect(requests[0].headers == ["host": "a:1", "accept": "b, c"])
        #expect(requests[0].isKeptAlive && !requests[1].isKeptAlive && !requests[2].isKeptAlive)
        #expect(requests[1].method == "HEAD" && requests[2].path == "/p")
    }

    @Test(
        "What is no request is refused by its reason",
        arguments: [
            ("GET /\r\n\r\n", 400), ("GET  / HTTP/1.1\r\n\r\n", 400), ("\0\0\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505), ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
            ("G\u{1}T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (String(repeating: "a", count: 8193), 431),
            ("GET / HTTP/1.1\r\nHost: " + String(repeating: "a", count: 8200) + "\r\n\r\n", 431),
        ])
    func refusals(_ text: String, _ status: Int) throws {
        let problem = #expect(throws: HTTPProblem.self) { _ = try parse(text) }
        #expect(problem?.status == status)
    }

    @Test(
        "An address of this machine, a unix socket, and no other unless it is said",
        arguments: [
            ("127.0.0.1:9876", "http://127.0.0.1:9876"), ("localhost:1", "http://127.0.0.1:1"),
            ("[::1]:0", "http://[::1]:0"), ("unix:/a b", "unix:/a b"),
            ("127.9.9.9:5", "http://127.9.9.9:5"),
            ("public:0.0.0.0:80", "http://0.0.0.0:80"), ("public:[::]:80", "http://[::]:80"),
            ("0.0.0.0:80", nil), ("10.0.0.1:80", nil), ("[::]:80", nil), ("host:80", nil),
            (":80", nil),
            ("127.0.0.1", nil), ("127.0.0.1:65536", nil), ("unix:", nil), ("", nil), ("9876", nil),
            ("127.1:80", nil),
        ])
    func addresses(_ text: String, _ shown: String?) throws {
        guard let shown else {
            let failure = #expect(throws: SetupError.self) { _ = try ServiceAddress(parsing: text) }
            if !text.isEmpty {
                #expect(failure?.description.contains(text) == true || text == "unix:")
            }
            return
        }
        #expect(try ServiceAddress(parsing: text).description == shown)
    }

    @Test(
        "A page under a foreign name that leads here is not answered",
        arguments: [
            ("127.0.0.1:9876", true), ("localhost", true), ("LOCALHOST:1", true),
            ("[::1]:9876", true),
            ("::1", false), ("evil.example:9876", false), ("10.0.0.1", false), ("", false),
        ])
    func foreignHosts(_ host: String, _ isMeant: Bool) throws {
        let address = try ServiceAddress(parsing: "127.0.0.1:9876")
        let request = HTTPRequest(path: "/", headers: ["host": host])
        #expect(address.isMeant(by: request) == isMeant)
        #expect(try ServiceAddress(parsing: "unix:/x").isMeant(by: request))
        #expect(try ServiceAddress(parsing: "public:0.0.0.0:1").isMeant(by: request))
    }

    // MARK: The service

    /// A connection that is read until its end, or for as many bytes as are asked for.
    private final class Connection {
        let descriptor: Int32

        init(_ port: UInt16) throws {
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            try #require(result == 0)
            var patience = timeval(tv_sec: 60, tv_usec: 0)
            setsockopt(
                descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience,
                socklen_t(MemoryLayout<timeval>.size))
        }

        deinit { close(descriptor) }

        @discardableResult
        func send(_ text: String) -> Bool {
            let bytes = Array(text.utf8)
            return Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        }

        /// nil at the end of the connection.
        func receive() -> String? {
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = recv(descriptor, &bytes, bytes.count, 0)
            return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
        }

        func receive(until end: String) -> String {
            var text = ""
            while !text.contains(end), let piece = receive() { text += piece }
            return text
        }

        func receiveAll() -> String {
            var text = ""
            while let piece = receive() { text += piece }
            return text
        }
    }

    private func service(
        _ limits: HTTPService.Limits = .init(), _ handler: @escaping HTTPService.Handler
    ) throws -> (HTTPService, UInt16) {
        let service = try HTTPService(
            .tcp(host: "127.0.0.1", port: 0), name: "test", limits: limits, handler: handler)
        guard case .tcp(_, let port) = service.address else { throw SetupError("no port") }
        return (service, port)
    }

    private static let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @Test("Requests of one connection are answered in their order, HEAD without a body")
    func order() throws {
        let (service, port) = try service { HTTPResponse(200, "text/plain", $0.path + ".") }
        defer { service.stop() }
        let client = try Connection(port)
        client.send(
            "GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"
                + "HEAD /two HTTP/1.1\r\nHost: localhost\r\n\r\n"
                + "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /x HTTP/1.1\r\nHost: evil\r\n\r\n"
                + "GET /three HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        let text = client.receiveAll()
        let statuses = text.matches(of: /HTTP.1\.1 (\d+)/).map { String($0.1) }
        #expect(statuses == ["200", "200", "405", "403", "200"])
        #expect(text.contains("/one.") && !text.contains("/two.") && text.hasSuffix("/three."))
        #expect(text.contains("Allow: GET, HEAD\r\n"))
    }

    @Test("A large answer to a slow reader holds up nobody, and the reader gets all of it")
    func slowReader() throws {
        let large = String(repeating: "0123456789", count: 800_000)
        let (service, port) = try service {
            HTTPResponse(200, "text/plain", $0.path == "/large" ? large : "small")
        }
        defer { service.stop() }
        let slow = try Connection(port)
        slow.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for _ in 0..<20 {
            let quick = try Connection(port)
            quick.send(Self.request)
            #expect(quick.receive(until: "small").hasSuffix("small"))
        }
        let text = slow.receiveAll()
        #expect(text.hasSuffix(large) && text.contains("Content-Length: 8000000\r\n"))
    }

    @Test("Whoever stalls, says garbage or fills all places is dropped, others are served")
    func hostile() throws {
        var limits = HTTPService.Limits()
        limits.clients = 4
        limits.secondsPerRequest = 0.2
        let (service, port) = try service(limits) { _ in HTTPResponse(200, "text/plain", "ok") }
        defer { service.stop() }
        // Half a request, no request at all, an answer that is not read.
        var others: [Connection] = []
        for text in ["GET / HT", "", "\u{16}\u{3}\u{1} no HTTP\r\n\r\n", "GET / HT"] {
            let other = try Connection(port)
            other.send(text)
            others.append(other)
        }
        for _ in 0..<40 {
            let client = try Connection(port)
            client.send(Self.request)
            #expect(client.receive(until: "ok").hasSuffix("ok"))
            others.append(client)
        }
        // The stalled ones see the end, the garbage its answer.
        #expect(others[0].receiveAll().isEmpty && others[3].receiveAll().isEmpty)
        #expect(others[2].receiveAll().hasPrefix("HTTP/1.1 400 "))
    }

    @Test("A head without an end costs 8 KiB, then the connection")
    func endless() throws {
        let (service, port) = try service { _ in HTTPResponse(200, "text/plain", "ok") }
        defer { service.stop() }
        let client = try Connection(port)
        client.send("GET / HTTP/1.1\r\nX: ")
        let piece = String(repeating: "a", count: 4096)
        var sent = 0
        while sent < 10_000 && client.send(piece) { sent += 1 }
        #expect(sent < 10_000, "the connection is ended while 40 MB are sent")
    }

    @Test("A unix socket answers, and its file goes with the service")
    func unixSocket() throws {
        let path = NSTemporaryDirectory() + "cleave-http-\(getpid()).sock"
        let service = try HTTPService(.unix(path: path), name: "test") { _ in
            HTTPResponse(200, "text/plain", "ok")
        }
        #expect(FileManager.default.fileExists(atPath: path))
        #expect(throws: SetupError.self) {
            _ = try HTTPService(.unix(path: path), name: "test") { _ in
                HTTPResponse(200, "text/plain", "ok")
            }
        }
        service.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("A port that is taken is named in the error")
    func taken() throws {
        let (service, port) = try service { _ in HTTPResponse(200, "text/plain", "ok") }
        defer { service.stop() }
        let failure = #expect(throws: SetupError.self) {
            _ = try HTTPService(.tcp(host: "127.0.0.1", port: port), name: "test") { _ in
                HTTPResponse(200, "text/plain", "ok")
            }
        }
        #expect(failure?.description.contains("127.0.0.1:\(port)") == true)
    }
}
