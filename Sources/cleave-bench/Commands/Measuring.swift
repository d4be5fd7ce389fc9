import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// From a plan to its report.
enum Measuring {
    /// Verifies and measures, with a progress line on a terminal.
    /// - Parameter warnings: those of making the plan; they come first in the report.
    static func report(
        of plan: BenchPlan, warnings: [String], isQuiet: Bool
    ) throws(Failure) -> BenchReport {
        let runner = try made { () throws(SetupError) in try BenchRunner(plan) }
        var report = try shown(isQuiet) { show throws(SetupError) in
            try runner.run(progress: show)
        }
        report.warnings = warnings + report.warnings
        return report
    }

    /// The same for latency.
    static func latency(
        of plan: BenchPlan, warnings: [String], isQuiet: Bool
    ) throws(Failure) -> LatencyReport {
        let runner = try made { () throws(SetupError) in try LatencyRunner(plan) }
        var report = try shown(isQuiet) { show throws(SetupError) in
            try runner.run(progress: show)
        }
        report.warnings = warnings + report.warnings
        return report
    }

    /// A runner, with signals caught.
    private static func made<Runner>(
        _ make: () throws(SetupError) -> Runner
    ) throws(Failure) -> Runner {
        do { try StopSignal.catchSignals() } catch { throw .run(error.description) }
        do { return try make() } catch {
            if let signal = StopSignal.received { throw stopped(signal, error.description) }
            throw .usage(FlagNames.words(error.description))
        }
    }

    /// A run, with a progress line.
    private static func shown<Report>(
        _ isQuiet: Bool,
        _ run: (@escaping @Sendable (BenchProgress) -> Void) throws(SetupError) -> Report
    ) throws(Failure) -> Report {
        let line = ProgressLine(isQuiet: isQuiet)
        defer { line.clear() }
        do { return try run(line.show) } catch { throw .run(error.description) }
    }

    /// Says what ended a run, before its table: a terminal shows what comes last.
    static func announce(_ interruption: String?) {
        if let interruption { ProgramRun.complain("cleave-bench", interruption) }
    }

    /// Says it, and gives the failure that ends the program without a further word.
    static func stopped(_ signal: Int32, _ words: String) -> Failure {
        announce(words)
        return .stopped(signal: signal)
    }

    /// Which cases lost or corrupted packets, or that the run ended before its time.
    static func failure(_ report: BenchReport) -> Failure? {
        failure(
            report.results.map { ($0.benchCase.displayName, $0.verify) }, report.interruption)
    }

    static func failure(_ report: LatencyReport) -> Failure? {
        failure(
            report.results.map { ($0.benchCase.displayName, $0.verify) }, report.interruption)
    }

    private static func failure(
        _ cases: [(name: String, verify: Verification)], _ interruption: BenchInterruption?
    ) -> Failure? {
        let bad = cases.filter { $0.verify.bad > 0 }
        guard !bad.isEmpty else { return interruption.map { .stopped(signal: $0.signal) } }
        let list = bad.map {
            "\($0.name): \($0.verify.corrupt) corrupt and \($0.verify.lost) lost of "
                + "\($0.verify.packets)"
        }
        return .run("verification failed: \(list.joined(separator: "; "))")
    }
}
