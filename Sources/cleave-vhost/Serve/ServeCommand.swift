import ArgumentParser
import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch
import Glibc

/// A page for the browser that shows what a running switch does. A program of its own: the switch
/// knows nothing of it.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves a page that shows what the switch does, to this machine's browsers.",
        discussion: """
            The page has charts of the last five minutes and needs nothing but this program, which \
            stays in the foreground until SIGINT or SIGTERM. It listens at 127.0.0.1 alone.

            Example: cleave-vhost ctl serve --port 9877, then open http://127.0.0.1:9877/
            """)

    @OptionGroup var socket: ControlSocketOptions

    @Option(help: .example("The TCP port; 0 for any that is free.", "--port 8080", "number"))
    var port: UInt16 = 9877

    func run() throws {
        let feed = ActivityFeed(seconds: 1)
        var source: ActivitySource? = try ActivitySource(socket.client())
        let page = Array(ActivityPage.text.utf8)
        let service: HTTPService
        do {
            service = try HTTPService(.tcp(host: "127.0.0.1", port: port), name: "page") {
                Self.response(to: $0, feed, page)
            }
        } catch { throw Failure.run("--port \(port): \(error)") }
        defer { service.stop() }
        try Stream.output.write("\(service.address)/\n")
        var before: SwitchStatistics?
        var next = SystemClock.monotonic
        while StopSignal.received == nil {
            let now = SystemClock.monotonic
            if now < next {
                usleep(UInt32(min(next - now, 50_000_000) / 1000))
                continue
            }
            next = max(next + 1_000_000_000, now)
            do throws(Failure) {
                // A switch that ends may come again.
                if source == nil { (source, before) = (try ActivitySource(socket.client()), nil) }
                guard let statistics = try source?.statistics() else { continue }
                if let before, statistics.nanoseconds > before.nanoseconds {
                    feed.append(Activity(statistics, since: before, cleared: nil))
                }
                before = statistics
            } catch {
                source = nil
                feed.fail(error.description)
            }
        }
    }

    /// What a page may load: nothing from elsewhere.
    private static let policy =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        + "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

    static func response(
        to request: HTTPRequest, _ feed: ActivityFeed, _ page: [UInt8]
    ) -> HTTPResponse {
        switch request.path {
        case "/":
            var response = HTTPResponse(200, "text/html; charset=utf-8", "")
            response.body = page
            response.headers = [("Content-Security-Policy", policy)]
            return response
        case "/activity.json":
            let number = request.queryValue("after").flatMap { Int($0) } ?? 0
            guard let news = try? JSONValue(feed.news(after: number)) else {
                return HTTPResponse(refusal: 503, "the sample cannot be written")
            }
            return HTTPResponse(200, "application/json", news.line)
        default: return HTTPResponse(refusal: 404, "there are / and /activity.json here")
        }
    }
}
