import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveProgramSupport
import CleaveVirtioNet

/// Measures what profiling costs, switched on and switched off.
struct ProfileOverheadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overhead",
        abstract: "Measure what profiling itself costs: on against off, off against compiled out.",
        discussion: """
            On against off: passes with and without measured polls alternate in this process. \
            With --against, the cost of being there and off as well: this program and one that \
            was built without the trait Profiling run alternately, as processes of their own \
            (make profile-overhead builds that one and does this). Compared are the fastest \
            passes, which neighbours disturb least.

            Example: profile overhead --packet 64,1500
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var output: OutputOptions

    @Option(
        help: .init(
            "One poll in so many is measured when on.", discussion: "Example: --period 64",
            valueName: "count"))
    var period: UInt32 = RxProfile.defaultPeriod

    @Option(
        help: .init(
            "A cleave-bench built with --disable-default-traits.",
            discussion: "Example: --against .build-plain/release/cleave-bench",
            valueName: "program"))
    var against: String?

    @Option(
        help: .init(
            "How often each program runs (--against; default: 5).",
            discussion: "Example: --rounds 9", valueName: "count"))
    var rounds: Int?

    func run() throws {
        let rounds = rounds ?? 5
        guard rounds > 0 else { throw Failure.usage("--rounds: must be at least 1") }
        if against == nil && self.rounds != nil {
            throw Failure.usage("--rounds goes with --against: without it one program runs, once")
        }
        guard (1...BenchPlan.maximumProfilePeriod).contains(period) else {
            throw Failure.usage("--period: \(period) is out of range")
        }
        var request = try options.request()
        request.standard = .profile
        request.startsFromStandard = true
        request.leavesOutContradictions = true
        var (plan, warnings) = try PlanBuilder.plan(request)
        plan.profilePeriod = period
        let files = try ResultFiles(["--json": output.json])
        let report = try Measuring.report(of: plan, warnings: warnings, isQuiet: output.quiet)
        if let failure = Measuring.failure(report) { throw failure }
        var compared: [String: [OverheadRival.Round]] = [:]
        if let against {
            compared = try OverheadRival(program: against, request: request).measure(rounds)
        }
        let figures = ProfileRun.all(report).map {
            OverheadFigures(run: $0, rounds: compared[$0.name] ?? [])
        }
        let text = OverheadText(figures: figures, period: period, started: report.started)
        try files.fill(
            { _ in ResultJSON.text(text.document(command: ProgramRun.commandLine)) },
            table: text.text(style: output.style))
    }
}
