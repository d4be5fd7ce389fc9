// The little of HTTP/1.1 (RFC 9112) that a scrape and a page need: requests without a body, one
// answer each.
//
// Packages were weighed. FlyingFox 0.27.1 reads header lines of any length into memory, has no
// limit to its connections, and does not link into a program without Swift's runtime beside it,
// since it needs libcurl. swift-nio 2.101.2 brings four packages, three minutes of release build
// on two cores and 11 MB. A process that carries guests' traffic takes neither for two paths.

/// The head of a request.
package struct HTTPRequest: Equatable, Sendable {
    package var method: String
    /// Without the query, as it came: nothing is decoded.
    package var path: String
    /// What comes after `?`; empty if nothing does.
    package var query = ""
    /// By name in small letters. What came several times is joined by commas.
    package var headers: [String: String] = [:]
    /// The connection goes on after the answer.
    package var isKeptAlive = true

    package init(method: String = "GET", path: String, headers: [String: String] = [:]) {
        (self.method, self.path, self.headers) = (method, path, headers)
    }

    /// A value of the query, undecoded; nil if it has none of that name.
    package func queryValue(_ name: String) -> String? {
        for field in query.split(separator: "&") {
            let parts = field.split(separator: "=", maxSplits: 1)
            if parts.count == 2 && parts[0] == name { return String(parts[1]) }
        }
        return nil
    }
}

/// An answer.
package struct HTTPResponse: Equatable, Sendable {
    package var status: Int
    package var contentType: String
    package var body: [UInt8]
    /// Beyond those that every answer has. No value is a stranger's.
    package var headers: [(name: String, value: String)] = []

    package init(_ status: Int = 200, _ contentType: String, _ text: String) {
        (self.status, self.contentType, body) = (status, contentType, Array(text.utf8))
    }

    /// A refusal, in one line.
    package init(refusal status: Int, _ words: String) {
        self.init(status, "text/plain; charset=utf-8", words + "\n")
    }

    package static func == (left: HTTPResponse, right: HTTPResponse) -> Bool {
        left.status == right.status && left.contentType == right.contentType
            && left.body == right.body && left.headers.map(\.name) == right.headers.map(\.name)
            && left.headers.map(\.value) == right.headers.map(\.value)
    }

    /// All that goes over the connection.
    /// - Parameters:
    ///   - hasBody: false for the answer to HEAD: it tells the length alone.
    ///   - isKeptAlive: what the peer is told of the connection.
    package func bytes(hasBody: Bool, isKeptAlive: Bool) -> [UInt8] {
        var head = "HTTP/1.1 \(status) \(Self.phrase(status))\r\n"
        head += "Content-Type: \(contentType)\r\nContent-Length: \(body.count)\r\n"
        head += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        for header in headers { head += "\(header.name): \(header.value)\r\n" }
        head += "Connection: \(isKeptAlive ? "keep-alive" : "close")\r\n\r\n"
        return Array(head.utf8) + (hasBody ? body : [])
    }

    private static func phrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 413: "Content Too Large"
        case 431: "Request Header Fields Too Large"
        case 503: "Service Unavailable"
        case 505: "HTTP Version Not Supported"
        default: "Error"
        }
    }
}

/// What a peer sent that is no request, and the answer to it. The connection ends with it.
package struct HTTPProblem: Error, Equatable {
    package let status: Int
    package let words: String
}

/// Bytes of a connection, read into requests.
package struct HTTPParser {
    /// Most bytes of a request's head.
    package static let headLimit = 8192

    private var bytes: [UInt8] = []
    /// Where the search for the end of the head goes on.
    private var searched = 0

    package init() {}

    /// Whether a request has begun and is not complete.
    package var isWithin: Bool { !bytes.isEmpty }

    package mutating func append(_ piece: some Sequence<UInt8>) { bytes += piece }

    /// The next request; nil if it is not all there yet.
    package mutating func next() throws(HTTPProblem) -> HTTPRequest? {
        // Blank lines before a request are passed over (RFC 9112, section 2.2).
        while let first = bytes.first, first == 13 || first == 10 { bytes.removeFirst() }
        guard let end = headEnd() else {
            if bytes.count > Self.headLimit { throw Self.tooLong }
            return nil
        }
        guard end <= Self.headLimit else { throw Self.tooLong }
        let head = bytes[..<end]
        bytes.removeFirst(end)
        searched = 0
        return try Self.request(head)
    }

    private static let tooLong = HTTPProblem(
        status: 431, words: "a request's head is longer than \(headLimit) bytes")

    /// After the first empty line.
    private mutating func headEnd() -> Int? {
        var index = searched
        while index < bytes.count {
            if bytes[index] == 10 {
                if index + 1 < bytes.count, bytes[index + 1] == 10 { return index + 2 }
                if index + 2 < bytes.count, bytes[index + 1] == 13, bytes[index + 2] == 10 {
                    return index + 3
                }
            }
            index += 1
        }
        searched = max(0, bytes.count - 2)
        return nil
    }

    private static func bad(_ words: String) -> HTTPProblem {
        HTTPProblem(status: 400, words: words)
    }

    private static func request(_ head: ArraySlice<UInt8>) throws(HTTPProblem) -> HTTPRequest {
        var lines = head.split(separator: 10, omittingEmptySubsequences: false).map { line in
            line.last == 13 ? line.dropLast() : line
        }.filter { !$0.isEmpty }[...]
        for line in lines where line.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) {
            throw bad("a control character is in the head")
        }
        let words = lines.removeFirst().split(separator: 32, omittingEmptySubsequences: false)
        guard words.count == 3, words.allSatisfy({ !$0.isEmpty }),
            words[0].allSatisfy(isTokenByte)
        else { throw bad("the first line is no request") }
        let version = String(decoding: words[2], as: UTF8.self)
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
            throw version.hasPrefix("HTTP/")
                ? HTTPProblem(status: 505, words: "this speaks HTTP/1.1")
                : bad("the first line is no request")
        }
        var request = HTTPRequest(method: String(decoding: words[0], as: UTF8.self), path: "")
        try split(String(decoding: words[1], as: UTF8.self), into: &request)
        for line in lines { try add(line, to: &request) }
        let wishes = request.headers["connection"]?.lowercased() ?? ""
        request.isKeptAlive =
            version == "HTTP/1.1" ? !wishes.contains("close") : wishes.contains("keep-alive")
        if version == "HTTP/1.1" && request.headers["host"] == nil {
            throw bad("a request of HTTP/1.1 names a host")
        }
        if request.headers["transfer-encoding"] != nil
            || request.headers["content-length"].map({ $0 != "0" }) ?? false
        {
            throw HTTPProblem(status: 413, words: "requests have no body here")
        }
        return request
    }

    /// Path and query of a target, which may name its scheme and host (RFC 9112, section 3.2.2).
    private static func split(
        _ target: String, into request: inout HTTPRequest
    ) throws(HTTPProblem) {
        var rest = target[...]
        if rest.hasPrefix("http://") {
            rest = rest.dropFirst("http://".count).drop { $0 != "/" }
            if rest.isEmpty { rest = "/" }
        }
        guard rest.hasPrefix("/") else { throw bad("the target is no path") }
        let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        request.path = String(parts[0])
        if parts.count > 1 { request.query = String(parts[1]) }
    }

    private static func add(
        _ line: ArraySlice<UInt8>, to request: inout HTTPRequest
    ) throws(HTTPProblem) {
        guard let colon = line.firstIndex(of: 58), colon > line.startIndex,
            line[..<colon].allSatisfy(isTokenByte)
        else { throw bad("a header line has no name") }
        let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
        let isBlank = { (byte: UInt8) in byte == 32 || byte == 9 }
        var value = line[(colon + 1)...].drop(while: isBlank)
        while let last = value.last, isBlank(last) { value.removeLast() }
        let text = String(decoding: value, as: UTF8.self)
        if name == "host" && request.headers[name] != nil { throw bad("two hosts are named") }
        request.headers[name] = request.headers[name].map { "\($0), \(text)" } ?? text
    }

    /// Characters of a token (RFC 9110, section 5.6.2).
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
