import ArgumentParser

extension ArgumentHelp {
    /// What an option does, a use of it, and what its value is called.
    package static func example(_ text: String, _ use: String, _ valueName: String) -> ArgumentHelp
    {
        ArgumentHelp(text, discussion: "Example: \(use)", valueName: valueName)
    }
}
