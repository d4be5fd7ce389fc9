import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// Measures latency under load.
struct LatencyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "latency",
        abstract: "Measure latency under load, from submission to the driver's used ring.",
        discussion: """
            Runs \(DefaultConfiguration.latency.relativePath) unless told otherwise. Every case is \
            verified; then the highest rate is searched at which nothing is lost; then shares of \
            that rate are offered, all cases interleaved. A packet's latency counts from the time \
            at which it was due, whatever kept it from being sent: so it is corrected for \
            coordinated omission. The time from its sending is recorded beside it.

            A rate loses nothing if no packet is dropped and, when the last one is due, no more \
            wait than the rings hold. It fails if it fails twice in succession.

            threads: the first CPU sends and is the driver, others are the device, each for the \
            RQs that it gets; cores: both on the CPU of each RQ; one-core: all on one.

            'cleave-bench --latency' is the same.

            Examples:
              latency --json latency.json --hgrm latency
              latency --packet 1500 --rqs 1 --method whole,d --loads 50,90
              latency --arrivals poisson --pass-time 1000
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var latency: LatencyOptions
    @OptionGroup var output: OutputOptions

    @Option(
        help: .example(
            "Write the report as CSV, one row per case and load; - is standard output.",
            "--csv latency.csv", "file"))
    var csv: String?

    @Option(
        help: .example(
            "Write each distribution into this folder, in the text form that HdrHistogram's "
                + "plotters read, in microseconds.", "--hgrm latency", "folder"))
    var hgrm: String?

    /// Settings of a plan that say how packets are carried as fast as possible, or how threads wait
    /// that have nothing to do.
    private static let unfitting: [Setting] = [
        .packets, .idle, .parkAfter, .wakeLatency, .oversubscribe,
    ]

    func run() throws {
        var request = try options.request()
        for (setting, _) in request.settings where Self.unfitting.contains(setting) {
            throw Failure.usage(
                "--\(setting.rawValue): a load is offered by the clock, and no thread waits: "
                    + "see --pass-time")
        }
        request.standard = .latency
        request.startsFromStandard = true
        request.leavesOutContradictions = true
        var (plan, warnings) = try PlanBuilder.plan(request)
        try latency.apply(to: &plan.latency)
        let files = try ResultFiles(["--json": output.json, "--csv": csv])
        let folder = try hgrm.map { path throws(Failure) in try HgrmFolder(path) }
        let report = try Measuring.latency(of: plan, warnings: warnings, isQuiet: output.quiet)
        let document = LatencyDocument(report, command: ProgramRun.commandLine)
        Measuring.announce(report.interruption?.description)
        try folder?.fill(report)
        try files.fill(
            { $0 == "--csv" ? LatencyCSV.text(document) : ResultJSON.text(document) },
            table: LatencyText(style: output.style, isQuiet: output.quiet)
                .text(report, document))
        if let failure = Measuring.failure(report) { throw failure }
    }
}
