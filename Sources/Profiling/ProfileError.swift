/// Why a profile cannot be had: one sentence.
public struct ProfileError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}
