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
        let runner: BenchRunner
        do { try StopSignal.catchSignals() } catch { throw .run(error.description) }
        do { runner = try BenchRunner(plan) } catch {
            throw StopSignal.received == nil
                ? .usage(error.description) : .run(error.description)
        }
        let line = ProgressLine(isQuiet: isQuiet)
        defer { line.clear() }
        do {
            var report = try runner.run(progress: line.show)
            report.warnings = warnings + report.warnings
            return report
        } catch { throw .run(error.description) }
    }

    /// Which cases lost or corrupted packets, or what ended the run before its time.
    static func failure(_ report: BenchReport) -> Failure? {
        guard !report.isVerified else { return report.interruption.map { .run("\($0)") } }
        let bad = report.results.filter { $0.verify.bad > 0 }
        let list = bad.map {
            "\($0.benchCase.displayName): \($0.verify.corrupt) corrupt and "
                + "\($0.verify.lost) lost of \($0.verify.packets)"
        }
        return .run("verification failed: \(list.joined(separator: "; "))")
    }
}
