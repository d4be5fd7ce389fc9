import CleaveHost

/// The words of the `SetupError` that `body` throws.
public func message(_ body: () throws -> Void) -> String {
    do {
        try body()
        return "(no error)"
    } catch let error as SetupError {
        return error.description
    } catch {
        return "(not a SetupError: \(error))"
    }
}
