import CleaveHost
import Glibc

/// A file that the user named, read as a whole.
package enum InputFile {
    /// The bytes of the regular file at `path`.
    /// - Parameters:
    ///   - what: what the file is to be.
    ///   - limit: most bytes that make sense for that.
    package static func bytes(
        _ path: String, as what: String = "file of results", limit: Int = 1 << 30
    ) throws(Failure) -> [UInt8] {
        // Without O_NONBLOCK the open of a pipe that nobody writes to would never return.
        let descriptor = PathText.withBytes(path) { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else {
            throw .usage("\(path): cannot open: \(systemWords(errno))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .usage("\(path): not a regular file")
        }
        guard status.st_size <= limit else {
            throw .usage("\(path): more than \(limit) bytes, too large for a \(what)")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < bytes.count {
            let count = bytes.withUnsafeMutableBytes { buffer in
                // SAFETY: `filled` is less than the buffer's count, so it has a base address.
                read(descriptor, buffer.baseAddress! + filled, buffer.count - filled)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .usage("\(path): cannot read: \(systemWords(errno))") }
            if count == 0 { break }
            filled += count
        }
        bytes.removeLast(bytes.count - filled)
        return bytes
    }
}
