/// Why something could not be set up: one sentence that names what is wrong and where.
///
/// Thrown while queues, engines and measurements are made; nothing on the packet path throws.
public struct SetupError: ErrorWithCode, Equatable, Sendable {
    public let description: String
    public let code: Int32?

    public init(_ description: String, code: Int32? = nil) {
        self.description = description
        self.code = code
    }

    /// An error of a lower layer, prefixed with its subject (`RQ 3: `).
    public init(_ subject: String = "", _ error: any Error) {
        self.init(subject + "\(error)", code: (error as? any ErrorWithCode)?.code)
    }
}
