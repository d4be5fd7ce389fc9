import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveProgramSupport
import CleaveVirtioNet

/// Shows where the cycles of a packet go.
struct ProfileCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile",
        abstract: "Show what each stage of the receive path costs, here or in another process.",
        discussion: """
            Without arguments it runs \(DefaultConfiguration.profile.relativePath) and prints \
            the stages of a poll with their cycles, and the costliest. Axes given as flags \
            replace those of the configuration.

            Examples:
              cleave-bench profile
              cleave-bench profile --packet 64 --method whole --svg profile.svg
              cleave-bench profile --config configs/profile/packed.yaml --trace rx.json
              cleave-bench profile --attach 4711 --seconds 2
              cleave-bench profile --json a.json; cleave-bench profile diff a.json b.json
              cleave-bench profile overhead
            """,
        subcommands: [
            ProfileRunCommand.self, ProfileDiffCommand.self, ProfileOverheadCommand.self,
        ],
        defaultSubcommand: ProfileRunCommand.self)
}

/// Runs a configuration and profiles it, or attaches to a process.
struct ProfileRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Profile a configuration, or a running process (the default of profile).",
        discussion: """
            Each timed pass is followed by one in which some polls are measured, stage by stage. \
            With --attach the RQs of a running program that embeds Cleave are read through \
            shared memory: it is not stopped, and measures only meanwhile.
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var profile: ProfileOutputOptions

    @Option(
        help: .init(
            "Read the RQs of this process, in place of running anything.",
            discussion: "Example: --attach 4711", valueName: "pid"))
    var attach: Int32?

    @Option(
        help: .init(
            "How long to read another process, in seconds.",
            discussion: "Example: --seconds 5", valueName: "number"))
    var seconds: Double?

    func run() throws {
        let period = profile.period ?? RxProfile.defaultPeriod
        guard (1...BenchPlan.maximumProfilePeriod).contains(period) else {
            throw Failure.usage(
                "--period: \(period) is not between 1 and \(BenchPlan.maximumProfilePeriod)")
        }
        var request = try options.request()
        if let attach {
            guard request.isBlank else {
                throw Failure.usage("--attach reads a process and runs nothing: leave out the plan")
            }
            return try ProfileAttach(
                processID: attach, seconds: seconds ?? 1, period: period, output: output,
                profile: profile
            ).run()
        }
        guard seconds == nil else { throw Failure.usage("--seconds goes with --attach") }
        request.standard = .profile
        request.startsFromStandard = true
        request.leavesOutContradictions = true
        var (plan, warnings) = try PlanBuilder.plan(request)
        plan.profilePeriod = period
        let files = try profile.files(json: output.json)
        let report = try Measuring.report(of: plan, warnings: warnings, isQuiet: output.quiet)
        let runs = ProfileRun.all(report)
        let facts = ReportText(style: output.style).facts(
            report, mode: "\(report.mode.rawValue), \(report.repeats) pairs of passes")
        let document = ProfileDocument(
            runs, started: report.started, warnings: report.warnings,
            command: ProgramRun.commandLine, interrupted: report.interruption?.description)
        Measuring.announce(report.interruption?.description)
        try files.fill(
            { ProfileOutputOptions.text($0, runs, document) },
            table: ProfileText(style: output.style, isQuiet: output.quiet)
                .text(runs, facts: facts, remarks: []))
        if let failure = Measuring.failure(report) { throw failure }
        if runs.isEmpty {
            throw Failure.run("no poll was measured: more packets or a lower --period")
        }
    }
}
