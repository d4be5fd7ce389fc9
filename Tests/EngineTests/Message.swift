import Engine

/// The words of the `EngineError` that `body` throws.
func message(_ body: () throws -> Void) -> String {
    do {
        try body()
        return "(no error)"
    } catch let error as EngineError {
        return error.description
    } catch {
        return "(not an EngineError: \(error))"
    }
}
