import Glibc
import Testing

@testable import CleaveHost

@Suite struct SchedulingNoiseTests {
    static let enabled = FakeMachine.with(["/proc/sys/kernel/sched_autogroup_enabled": "1\n"])

    /// What `prioritize` did to a temporary file in place of the kernel's.
    struct Trial {
        var outcome: SchedulingNoise.Outcome
        var text: String?
        var sessionCount: Int
    }

    static func prioritize(hasTerminal: Bool, starts: Bool) throws -> Trial {
        var template = Array("/tmp/cleave-autogroup-XXXXXX".utf8CString)
        let fd = mkstemp(&template)
        try #require(fd >= 0)
        let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer {
            close(fd)
            unlink(path)
        }
        try #require(SystemFile.write("/autogroup-8 nice 5\n", to: path) == 0)
        var sessionCount = 0
        let outcome = SchedulingNoise.prioritize(
            path: path, probe: enabled, hasTerminal: { hasTerminal },
            startSession: {
                sessionCount += 1
                return starts
            })
        return Trial(
            outcome: outcome, text: SystemFile.text(at: path), sessionCount: sessionCount)
    }

    @Test func raisesASessionOfItsOwnForGood() throws {
        let trial = try Self.prioritize(hasTerminal: false, starts: true)
        #expect(trial.outcome == .init(warning: nil, niceToRestore: nil))
        #expect(trial.text?.hasPrefix("-19") == true && trial.sessionCount == 1)
    }

    @Test func remembersWhatASharedSessionHad() throws {
        let trial = try Self.prioritize(hasTerminal: false, starts: false)
        #expect(trial.outcome == .init(warning: nil, niceToRestore: 5))
        #expect(trial.text?.hasPrefix("-19") == true && trial.sessionCount == 1)
    }

    @Test func keepsTheSessionOfATerminal() throws {
        let trial = try Self.prioritize(hasTerminal: true, starts: true)
        #expect(trial.outcome == .init(warning: nil, niceToRestore: 5))
        #expect(trial.text?.hasPrefix("-19") == true && trial.sessionCount == 0)
    }

    @Test(arguments: [
        ("/autogroup-8 nice 0", 0), ("/autogroup-123 nice -19", -19), ("", nil),
        ("/autogroup-8 nice", nil), ("/autogroup-8 nice x", nil), ("a b 3", nil),
    ])
    func readsTheKernelsLine(line: String, expected: Int?) {
        #expect(SchedulingNoise.nice(inAutogroup: line) == expected)
    }

    @Test func saysWhyItCouldNot() {
        let outcome = SchedulingNoise.prioritize(
            path: "/nonexistent/autogroup", probe: Self.enabled, hasTerminal: { true },
            startSession: { false })
        #expect(outcome.warning?.contains("No such file or directory") == true)
        #expect(outcome.niceToRestore == nil)
    }

    @Test func hasNothingToDoWithoutAutogroups() {
        let probe = FakeMachine.with(["/proc/sys/kernel/sched_autogroup_enabled": nil])
        let outcome = SchedulingNoise.prioritize(
            path: "/nonexistent/autogroup", probe: probe, hasTerminal: { true },
            startSession: { false })
        #expect(outcome == .init())
    }
}
