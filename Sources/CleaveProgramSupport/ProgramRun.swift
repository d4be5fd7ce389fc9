import ArgumentParser

/// Runs a program's command line as the programs here do: one line for what went wrong, and an exit
/// code.
package enum ProgramRun {
    /// Runs a command line, says what went wrong, and gives the exit code.
    package static func run<Program: ParsableCommand>(
        _ program: Program.Type, _ name: String, _ arguments: [String]
    ) -> Int32 {
        do {
            var command = try program.parseAsRoot(arguments)
            try command.run()
            return 0
        } catch let failure as Failure {
            if failure != .outputClosed { complain(name, failure.description) }
            return failure.exitCode
        } catch {
            return finish(program, name, error)
        }
    }

    /// What ArgumentParser throws: requests for help, which are no errors, and wrong usage. Its own
    /// usage errors are several lines long and exit with 64.
    private static func finish<Program: ParsableCommand>(
        _ program: Program.Type, _ name: String, _ error: any Error
    ) -> Int32 {
        guard program.exitCode(for: error) != .success else {
            do { try Stream.output.write(program.fullMessage(for: error) + "\n") } catch {
                return error.exitCode
            }
            return 0
        }
        let message = program.message(for: error).split(whereSeparator: \.isNewline)
            .joined(separator: " ")
        complain(name, "\(message) (see '\(name) --help')")
        return 2
    }

    private static func complain(_ name: String, _ message: String) {
        let style = Style(stream: .error, isAllowed: true)
        // Nothing is left to do if standard error is closed too.
        try? Stream.error.write("\(name): \(style.red(message))\n")
    }
}
