// What programs send to the control socket and to the place where metrics are asked for.
import CleaveControl

enum RequestFuzz {
    /// Input: lines of a client of the control socket. A request that is read is written and read
    /// again as the same one.
    static func control(_ input: [UInt8]) throws(Violation) -> Set<String> {
        var reached: Set<String> = []
        for line in input.split(separator: 10) {
            let request: ControlRequest
            do throws(ControlFailure) { request = try ControlRequest(line: line) } catch {
                reached.insert(error.about.map { "about \($0)" } ?? error.message)
                continue
            }
            reached.insert("request")
            let text = request.line
            try Violation.unless(
                text.utf8.count { $0 == 10 } == 1 && text.utf8.last == 10, "not one line: \(text)")
            let again: ControlRequest
            do throws(ControlFailure) {
                again = try ControlRequest(line: text.utf8.dropLast())
            } catch {
                throw Violation("written as \(text), which is refused: \(error)")
            }
            try Violation.unless(again == request, "written as another request: \(text)")
        }
        return reached
    }

    /// Input: bytes of a piece less 1, and the bytes of a connection. What is read does not depend
    /// on the pieces in which it comes.
    static func http(_ input: [UInt8]) throws(Violation) -> Set<String> {
        guard let first = input.first else { return ["nothing"] }
        let bytes = input.dropFirst()
        let whole = outcome(bytes, pieces: max(1, bytes.count))
        let pieces = outcome(bytes, pieces: Int(first) + 1)
        try Violation.unless(whole.requests == pieces.requests, "other requests in pieces")
        try Violation.unless(whole.problem == pieces.problem, "another answer in pieces")
        for request in whole.requests {
            try Violation.unless(
                request.path.hasPrefix("/") && !request.path.contains("?"),
                "the path is \(request.path)")
        }
        var reached: Set<String> = whole.requests.isEmpty ? [] : ["request"]
        if let problem = whole.problem { reached.insert("\(problem.status)") }
        if whole.requests.contains(where: { !$0.isKeptAlive }) { reached.insert("last") }
        return reached
    }

    private static func outcome(
        _ bytes: ArraySlice<UInt8>, pieces: Int
    ) -> (requests: [HTTPRequest], problem: HTTPProblem?) {
        var parser = HTTPParser()
        var requests: [HTTPRequest] = []
        var rest = bytes
        while !rest.isEmpty {
            parser.append(rest.prefix(pieces))
            rest = rest.dropFirst(pieces)
            do throws(HTTPProblem) {
                while let request = try parser.next() { requests.append(request) }
            } catch { return (requests, error) }
        }
        return (requests, nil)
    }
}
