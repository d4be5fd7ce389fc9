/// Why the program ends without having done its work: one line, and its exit code.
package enum Failure: Error, Equatable, CustomStringConvertible {
    /// The command line, a configuration or an input file is wrong: exit code 2.
    case usage(String)
    /// Something went wrong while running: exit code 1.
    case run(String)
    /// All was measured, and a figure is not what it was to be: exit code 3.
    case judged(String)
    /// A signal asked the program to end, and it has said what it had done by then: exit code 128
    /// and the signal's number, as of a program that the signal ended.
    case stopped(signal: Int32)
    /// What went wrong has been said in the program's own way.
    case reported(exitCode: Int32)
    /// The reader of standard output has gone: nothing to say, and nobody to say it to.
    case outputClosed

    package var exitCode: Int32 {
        switch self {
        case .usage: 2
        case .run: 1
        case .judged: 3
        case .stopped(let signal): 128 + signal
        case .reported(let exitCode): exitCode
        case .outputClosed: 0
        }
    }

    /// What is wrong and where, in one line without the program's name.
    package var description: String {
        switch self {
        case .usage(let message), .run(let message), .judged(let message):
            message.split(whereSeparator: \.isNewline).joined(separator: " ")
        case .stopped(let signal): "ended by signal \(signal)"
        case .reported(let exitCode): "ended with \(exitCode)"
        case .outputClosed: "standard output was closed"
        }
    }
}
