import ArgumentParser
import CleaveHost
import Glibc

/// Runs a program's command line as the programs here do: one line for what went wrong, and an exit
/// code.
package enum ProgramRun {
    /// The words after the program's name. Bytes that are not UTF-8 are kept, as `PathText` does.
    package static let arguments = commandLine.dropFirst().map { $0 }

    /// The whole command line, the program's name first.
    package static let commandLine: [String] = (0..<Int(CommandLine.argc)).compactMap { index in
        // SAFETY: the system gives so many words with a 0 at their end, and nobody changes them.
        CommandLine.unsafeArgv[index].map { word in
            PathText.text([UInt8](UnsafeRawBufferPointer(start: word, count: strlen(word))))
        }
    }

    /// Runs a command line, says what went wrong, and gives the exit code.
    package static func run<Program: ParsableCommand>(
        _ program: Program.Type, _ name: String, _ arguments: [String]
    ) -> Int32 {
        do {
            var command = try program.parseAsRoot(arguments)
            try command.run()
            return 0
        } catch let failure as Failure {
            switch failure {
            case .outputClosed, .stopped, .reported: break
            default: complain(name, failure.description)
            }
            return failure.exitCode
        } catch {
            return finish(program, name, error, arguments: arguments)
        }
    }

    /// What ArgumentParser throws: requests for help, which are no errors, and wrong usage. Its own
    /// usage errors are several lines long and exit with 64.
    private static func finish<Program: ParsableCommand>(
        _ program: Program.Type, _ name: String, _ error: any Error, arguments: [String]
    ) -> Int32 {
        guard program.exitCode(for: error) != .success else {
            do { try Stream.output.write(program.fullMessage(for: error) + "\n") } catch {
                return error.exitCode
            }
            return 0
        }
        complain(
            name,
            "\(usageProblem(program, program.message(for: error), arguments)) "
                + "(see '\(command(program, name, arguments)) --help')")
        return 2
    }

    /// The command that a line begins with, as one asks for its help.
    private static func command(
        _ program: any ParsableCommand.Type, _ name: String, _ arguments: [String]
    ) -> String {
        var (path, command) = (name, program)
        for word in arguments {
            let next = command.configuration.subcommands.first {
                $0.configuration.commandName == word
            }
            guard let next else { break }
            (path, command) = ("\(path) \(word)", next)
        }
        return path
    }

    /// What is wrong with a command line, in one line.
    /// - Parameters:
    ///   - program: whose it is.
    ///   - message: of ArgumentParser.
    ///   - arguments: the command line.
    package static func usageProblem(
        _ program: any ParsableCommand.Type, _ message: String, _ arguments: [String]
    ) -> String {
        let line = message.split(whereSeparator: \.isNewline).joined(separator: " ")
        return unknownCommand(program, arguments) ?? NumberMistake.words(line, arguments) ?? line
    }

    /// What to say if a word is where a command has to be, and is none. To ArgumentParser it is an
    /// unexpected argument of the command that runs without a name.
    package static func unknownCommand(
        _ program: any ParsableCommand.Type, _ arguments: [String]
    ) -> String? {
        var commands = program.configuration.subcommands
        for word in arguments {
            if word.hasPrefix("-") || word == "help" || commands.isEmpty { return nil }
            if let next = commands.first(where: { $0.configuration.commandName == word }) {
                commands = next.configuration.subcommands
                continue
            }
            // Closures: the compiler crashes on key paths of a metatype.
            let known = commands.filter { $0.configuration.shouldDisplay }
                .compactMap { $0.configuration.commandName }
            return "unknown command \"\(word)\"\(Nearest.hint(word, among: known)) "
                + "(known here: \(known.joined(separator: ", ")))"
        }
        return nil
    }

    /// One line on standard error.
    package static func complain(_ name: String, _ message: String) {
        let style = Style(stream: .error, isAllowed: true)
        // Nothing is left to do if standard error is closed too.
        try? Stream.error.write("\(name): \(style.red(PathText.printable(message)))\n")
    }
}
