import CleaveProgramSupport
import Glibc

/// Standard error, for lines that must not hold up traffic: a reader that does not read loses them.
enum OperatorLog {
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
