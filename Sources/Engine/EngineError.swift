/// Why an engine or a measurement could not be set up: one sentence that names what is wrong.
public struct EngineError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
