import ArgumentParser
import CCleaveSandbox
import CleavePorts
import CleaveProgramSupport
import Glibc

/// What becomes of system calls that the program does not make: whoever takes it over by a mistake
/// in it finds no other program to start, no other process to look into and no new rights.
enum Sandbox: String, CaseIterable, ExpressibleByArgument {
    /// The program ends, and says which call it was.
    case on
    case off
    /// They are carried out, and the kernel's log names them.
    case log

    /// From here on, for this and all threads to come. After all that a start needs is done.
    func enter(_ log: OperatorLog) throws(Failure) {
        if self == .off { return }
        let mode = self == .log ? CLEAVE_SANDBOX_LOG : CLEAVE_SANDBOX_END
        let (before, after) = Self.words(log)
        let result = cleave_sandbox_enter(mode, before, after)
        if result < 0 {
            throw .run(
                "--seccomp \(rawValue): the system takes no filter: \(systemWords(-result)); "
                    + "--seccomp off runs without one")
        }
    }

    /// The line of a call that is not allowed, before and after its number.
    private static func words(_ log: OperatorLog) -> (String, String) {
        let number = "NUMBER"
        let entry = LogEntry(
            "system call \(number) is not one that this program makes: it ends",
            level: .error, reason: "see --seccomp")
        let line = log.line(entry, at: nil)
        guard let place = line.firstRange(of: number) else { return (line, "") }
        return (String(line[..<place.lowerBound]), String(line[place.upperBound...]))
    }
}
