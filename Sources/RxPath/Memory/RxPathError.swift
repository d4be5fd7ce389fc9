// control path
import Host

/// Why a queue or a worker could not be made: one sentence that names what is wrong and where.
///
/// Thrown at set-up only; nothing in the packet path throws.
public struct RxPathError: ErrorWithCode, Equatable, Sendable {
    public let description: String
    public let code: Int32?
    public init(_ description: String, code: Int32? = nil) {
        self.description = description
        self.code = code
    }
}
