import Host

/// Why an engine or a measurement could not be set up: one sentence that names what is wrong.
public struct EngineError: ErrorWithCode, Equatable, Sendable {
    public let description: String
    public let code: Int32?
    public init(_ description: String, code: Int32? = nil) {
        self.description = description
        self.code = code
    }

    /// What went wrong below, with what it happened to in front (`RQ 3: `).
    init(_ subject: String = "", _ error: any Error) {
        self.init(subject + "\(error)", code: (error as? any ErrorWithCode)?.code)
    }
}
