/// Why the program ends without having done its work: one line, and its exit code.
package enum Failure: Error, Equatable, CustomStringConvertible {
    /// The command line, a configuration or an input file is wrong: exit code 2.
    case usage(String)
    /// Something went wrong while running: exit code 1.
    case run(String)
    /// The reader of standard output has gone: nothing to say, and nobody to say it to.
    case outputClosed

    package var exitCode: Int32 {
        switch self {
        case .usage: 2
        case .run: 1
        case .outputClosed: 0
        }
    }

    /// What is wrong and where, in one line without the program's name.
    package var description: String {
        switch self {
        case .usage(let message), .run(let message):
            message.split(whereSeparator: \.isNewline).joined(separator: " ")
        case .outputClosed: "standard output was closed"
        }
    }
}
