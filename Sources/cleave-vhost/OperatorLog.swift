import ArgumentParser
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Foundation

/// What is said to the operator, on standard error. Lines must not hold up traffic: a reader that
/// does not read loses them. Any thread.
final class OperatorLog: @unchecked Sendable {
    // SAFETY: what changes is guarded by `lock`.

    /// How lines are written.
    enum Format: String, CaseIterable, ExpressibleByArgument {
        /// `cleave-vhost: port NAME: MESSAGE: REASON`.
        case text
        /// An object on each line: time, level, port, message, reason.
        case json
    }

    let format: Format
    private let isJournal: Bool
    private let lock = Lock()
    private var mostVerbose = LogLevel.info

    init(_ format: Format) {
        self.format = format
        isJournal = Self.isJournal
    }

    /// Lines of levels beyond this one are left out.
    var threshold: LogLevel {
        get { lock.withLock { mostVerbose } }
        set { lock.withLock { mostVerbose = newValue } }
    }

    func say(_ entry: LogEntry) {
        if entry.level.severity <= threshold.severity { Self.write(line(entry, at: Date())) }
    }

    /// A line for an entry.
    /// - Parameter time: nil for a line that is written when nobody can ask for the time.
    func line(_ entry: LogEntry, at time: Date?) -> String {
        switch format {
        case .text: prefix(entry.level) + "cleave-vhost: \(PathText.printable("\(entry)"))\n"
        case .json:
            object(
                Line(
                    time: time.map(Self.text), level: entry.level.rawValue, port: entry.port,
                    message: entry.message, reason: entry.reason), entry.level)
        }
    }

    /// The counters: a table, or an object for each port, for those that were removed and for each
    /// thread.
    /// - Parameter milliseconds: how long a reader may keep the program waiting.
    func report(_ statistics: SwitchStatistics, waiting milliseconds: Int32 = 0) {
        let text =
            switch format {
            case .text:
                StatisticsText.text(
                    statistics, style: Style(stream: .error, isAllowed: true))
            case .json: report(statistics, at: Date())
            }
        Self.write(text, waiting: milliseconds)
    }

    /// What the table has, as objects.
    func report(_ statistics: SwitchStatistics, at date: Date) -> String {
        let time = Self.text(date)
        let ports = statistics.ports.map {
            object(Counts(time: time, port: $0.name, counters: $0), .info)
        }
        let removed = statistics.removed
        let threads = statistics.threads.map {
            object(Counts(time: time, thread: $0.number, counters: $0), .info)
        }
        return ports.joined()
            + (removed.count == 0
                ? "" : object(Counts(time: time, removed: removed.count, counters: removed), .info))
            + threads.joined()
    }

    // MARK: Lines

    /// The keys of a line.
    private struct Line: Encodable {
        let time: String?
        let level: String
        let port: String?
        let message: String
        let reason: String?
    }

    /// The counters of a port, of a thread, or of ports that were removed: one of the three keys.
    private struct Counts<Counters: Encodable>: Encodable {
        let time: String
        let level = LogLevel.info.rawValue
        var port: String?
        var thread: Int?
        /// How many ports it is about.
        var removed: UInt64?
        let message = "counters"
        let counters: Counters
    }

    private func object(_ value: some Encodable, _ level: LogLevel) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Text and whole numbers have no value that JSON lacks.
        let bytes = (try? encoder.encode(value)) ?? Data()
        return prefix(level) + String(decoding: bytes, as: UTF8.self) + "\n"
    }

    private static func text(_ time: Date) -> String {
        time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    /// What tells systemd's journal the level; the journal takes it off.
    private func prefix(_ level: LogLevel) -> String { isJournal ? "<\(level.severity)>" : "" }

    /// Whether standard error is a stream of the journal: $JOURNAL_STREAM names its file.
    private static var isJournal: Bool {
        var status = stat()
        guard let stream = ServiceManager.variable("JOURNAL_STREAM"),
            fstat(STDERR_FILENO, &status) == 0
        else { return false }
        return stream == "\(status.st_dev):\(status.st_ino)"
    }

    // MARK: Standard error

    /// A pipe that is ready takes this many bytes at once (PIPE_BUF).
    private static let pieceByteCount = 4096

    /// Writes what standard error takes within `milliseconds`; the rest is lost.
    static func write(_ text: String, waiting milliseconds: Int32 = 0) {
        var left = Array(text.utf8)[...]
        while !left.isEmpty {
            var ready = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
            guard poll(&ready, 1, milliseconds) == 1, ready.revents & Int16(POLLOUT) != 0 else {
                return
            }
            let piece = Array(left.prefix(pieceByteCount))
            let written = Glibc.write(STDERR_FILENO, piece, piece.count)
            if written < 0 && errno == EINTR { continue }
            if written <= 0 { return }
            left = left.dropFirst(written)
        }
    }
}
