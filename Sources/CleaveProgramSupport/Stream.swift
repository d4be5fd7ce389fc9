import CleaveHost
import Glibc

/// An open file descriptor that text is written to in full.
package struct Stream {
    package let descriptor: Int32
    /// What the descriptor is called in errors.
    package let name: String

    package init(descriptor: Int32, name: String) {
        self.descriptor = descriptor
        self.name = name
    }

    package static let output = Stream(descriptor: STDOUT_FILENO, name: "standard output")
    package static let error = Stream(descriptor: STDERR_FILENO, name: "standard error")

    package var isTerminal: Bool { isatty(descriptor) == 1 }

    /// Columns of the terminal; nil if it is none or does not tell.
    package var columnCount: Int? {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }

    /// Writes all of `text`.
    /// - Throws: `outputClosed` if the reader has gone, otherwise the system's words.
    package func write(_ text: String) throws(Failure) {
        var text = PathText.escaped(text)
        let code = text.withUTF8 { bytes -> Int32 in
            var written = 0
            while written < bytes.count {
                // SAFETY: `written` is less than the buffer's count, so it has a base address,
                // and the length ends with the buffer.
                let count = Glibc.write(
                    descriptor, bytes.baseAddress! + written, bytes.count - written)
                if count < 0 && errno == EINTR { continue }
                if count < 0 { return errno }
                written += count
            }
            return 0
        }
        if code == EPIPE { throw .outputClosed }
        if code != 0 { throw .run("\(name): cannot write: \(systemWords(code))") }
    }
}

/// The system's words for an `errno`, such as "Permission denied".
package func systemWords(_ code: Int32) -> String { String(cString: strerror(code)) }
