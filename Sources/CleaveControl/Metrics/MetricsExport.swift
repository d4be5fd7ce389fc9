import CleaveHost
import CleaveSwitch
import Glibc

/// Where metrics go, if anywhere.
package struct MetricsSettings: Equatable, Sendable {
    /// For a scraper to read; nil for none.
    package var address: ServiceAddress?
    /// For node_exporter's textfile collector; nil for none. Its name ends with `.prom`.
    package var textfile: String?
    /// Seconds between two writes of the file.
    package var textfileSeconds = 15

    package init() {}
}

/// The metrics of a switch, at an address and in a file, until it is stopped.
package final class MetricsExport {
    package typealias Source = @Sendable () -> SwitchStatistics?

    private let version: String
    private var service: HTTPService?
    private var writer: TextfileWriter?

    /// - Parameters:
    ///   - now: what has been counted by now, which the file begins with.
    ///   - busyCPUs: those of the switch threads; nothing here uses them if there are others.
    ///   - version: the program's.
    ///   - log: takes a line when the file cannot be written any more, and when it can again.
    ///   - source: what has been counted until now, asked for from threads of this object; nil
    ///     while the switch does not answer.
    /// - Throws: why the address cannot be used, or the file not be written.
    package init(
        _ settings: MetricsSettings, now: SwitchStatistics, busyCPUs: [Int], version: String,
        log: @escaping @Sendable (String) -> Void, source: @escaping Source
    ) throws(SetupError) {
        self.version = version
        if let address = settings.address {
            service = try HTTPService(address, name: "metrics", busyCPUs: busyCPUs) { request in
                Self.response(to: request, version: version, source)
            }
        }
        if let path = settings.textfile {
            do throws(SetupError) {
                writer = try TextfileWriter(
                    path: path, first: MetricsText.text(now, version: version, .prometheus),
                    seconds: settings.textfileSeconds, busyCPUs: busyCPUs, log: log
                ) {
                    source().map { MetricsText.text($0, version: version, .prometheus) }
                }
            } catch {
                stop()
                throw error
            }
        }
    }

    deinit { stop() }

    /// Where a scraper reads, with the port that was chosen.
    package var address: ServiceAddress? { service?.address }

    /// Ends both.
    /// - Parameter last: what the file says from now on.
    package func stop(_ last: SwitchStatistics? = nil) {
        service?.stop()
        writer?.stop(last.map { MetricsText.text($0, version: version, .prometheus) })
        (service, writer) = (nil, nil)
    }

    package static func response(
        to request: HTTPRequest, version: String, _ source: Source
    ) -> HTTPResponse {
        switch request.path {
        case "/metrics":
            guard let statistics = source() else {
                return HTTPResponse(refusal: 503, "the switch does not answer")
            }
            let format = MetricsText.Format(accept: request.headers["accept"])
            return HTTPResponse(
                200, format.rawValue, MetricsText.text(statistics, version: version, format))
        case "/":
            return HTTPResponse(
                200, "text/plain; charset=utf-8", "cleave-vhost: metrics are at /metrics\n")
        default:
            return HTTPResponse(refusal: 404, "there is /metrics here")
        }
    }
}

/// Writes a file again and again, each time whole: a reader finds the old text or the new one.
final class TextfileWriter: @unchecked Sendable {
    // SAFETY: constants, but for the thread, which is its owner's.
    private let path: String
    private let text: @Sendable () -> String?
    private let waker: EventDescriptor
    private var thread: PinnedThread?

    /// Writes once, then starts the thread.
    init(
        path: String, first: String, seconds: Int, busyCPUs: [Int],
        log: @escaping @Sendable (String) -> Void, _ text: @escaping @Sendable () -> String?
    ) throws(SetupError) {
        (self.path, self.text) = (path, text)
        guard path.hasSuffix(".prom") else {
            throw SetupError("\(path): node_exporter reads files whose names end with .prom")
        }
        guard (1...86400).contains(seconds) else {
            throw SetupError("a file of metrics every \(seconds) seconds: need 1 to 86400")
        }
        do { waker = try EventDescriptor() } catch { throw SetupError("\(path): ", error) }
        if let problem = write(first) { throw SetupError("\(path): cannot write: \(problem)") }
        do {
            thread = try PinnedThread(name: "metrics-file", cpu: nil) { [self] in
                PinnedThread.keepCurrent(off: busyCPUs)
                var before: String?
                while !waker.wait(nanoseconds: UInt64(seconds) * 1_000_000_000) {
                    let problem = text().map { write($0) } ?? "the switch does not answer"
                    // A disk that is full now may not be the next time.
                    if problem != before {
                        log("\(path): \(problem.map { "cannot write: \($0)" } ?? "written again")")
                    }
                    before = problem
                }
            }
        } catch { throw SetupError("\(path): ", error) }
    }

    /// - Parameter last: is written before the end.
    func stop(_ last: String?) {
        waker.signal()
        thread?.join()
        thread = nil
        if let last { _ = write(last) }
    }

    /// - Returns: what went wrong.
    private func write(_ text: String) -> String? {
        // Beside it, since only within a file system a file takes another one's place at once. Not
        // a name that the collector reads.
        let scratch = "\(path).\(getpid()).tmp"
        let file = PathText.withBytes(scratch) {
            open($0, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o644)
        }
        guard file >= 0 else { return HostError.words(of: errno) }
        var bytes = Array(text.utf8)[...]
        var code: Int32 = 0
        while !bytes.isEmpty && code == 0 {
            let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count >= 0 { bytes = bytes.dropFirst(count) } else if errno != EINTR { code = errno }
        }
        close(file)
        if code == 0 {
            let renamed = PathText.withBytes(scratch) { from in
                PathText.withBytes(path) { rename(from, $0) }
            }
            if renamed != 0 { code = errno }
        }
        if code != 0 { _ = PathText.withBytes(scratch) { unlink($0) } }
        return code == 0 ? nil : HostError.words(of: code)
    }
}
