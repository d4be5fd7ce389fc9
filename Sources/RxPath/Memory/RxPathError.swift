// control path
//
/// Why a queue or a worker could not be made: one sentence that names what is wrong and where.
///
/// Thrown at set-up only; nothing in the packet path throws.
public struct RxPathError: Error, Equatable, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ description: String) { self.description = description }
}
