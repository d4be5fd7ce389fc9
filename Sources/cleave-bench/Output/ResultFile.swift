import CleaveHost
import CleaveProgramSupport
import Glibc

/// A file for results that is opened before anything is measured, so that a path that cannot be
/// written is known at once, and filled when all is done. What it held before stays until then.
final class ResultFile {
    private let stream: Stream
    private let path: String
    private let isNew: Bool
    private var isFilled = false

    /// - Parameter path: where to write, or `-` for standard output.
    init(path: String) throws(Failure) {
        self.path = path
        guard path != "-" else {
            stream = .output
            isNew = false
            return
        }
        var before = stat()
        isNew = PathText.withBytes(path) { stat($0, &before) } != 0 && errno == ENOENT
        let descriptor = PathText.withBytes(path) {
            open($0, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        }
        guard descriptor >= 0 else {
            throw .usage("\(path): cannot open for writing: \(systemWords(errno))")
        }
        stream = Stream(descriptor: descriptor, name: path)
    }

    var isStandardOutput: Bool { stream.descriptor == STDOUT_FILENO }

    /// Replaces what the file held by `text`.
    func fill(_ text: String) throws(Failure) {
        if !isStandardOutput {
            // Devices and pipes cannot be cut, and need not be.
            _ = ftruncate(stream.descriptor, 0)
        }
        do { try stream.write(text) } catch {
            // Only the reader of standard output may go away without a word.
            if error == .outputClosed && !isStandardOutput {
                throw .run("\(path): cannot write: \(systemWords(EPIPE))")
            }
            throw error
        }
        isFilled = true
    }

    deinit {
        guard !isStandardOutput else { return }
        close(stream.descriptor)
        if isNew && !isFilled { _ = PathText.withBytes(path) { unlink($0) } }
    }
}
