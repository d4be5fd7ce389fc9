import CleaveHost

/// What is wrong with a capture file, and where.
public struct CaptureError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Path (or name) of the file.
    public let file: String
    /// The packet or block and its byte offset, as in `packet 3 at byte 1540`; nil when the
    /// fault concerns the file as a whole.
    public let place: String?
    /// What is wrong, without a full stop.
    public let problem: String
    /// The file ends inside a record: what comes before it is whole.
    var isCut = false

    public init(file: String, place: String? = nil, problem: String) {
        self.file = file
        self.place = place
        self.problem = problem
    }

    /// One line: file, place, problem.
    public var description: String {
        let file = PathText.printable(file)
        guard let place else { return "\(file): \(problem)" }
        return "\(file): \(place): \(problem)"
    }
}
