import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport
import CleaveVirtioNet

/// Measures what sharing a header queue costs and saves, and what a stalled RQ does to the others.
struct ScaleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale",
        abstract: "Measure RQs that share a header queue against RQs with one each; stall curves.",
        discussion: """
            Runs \(DefaultConfiguration.scale.relativePath) unless told otherwise. Every case \
            is measured on one core: one thread works for all RQs, burst by burst, so that the \
            claims of the others come in between; this gives the cost of each RQ whatever the \
            number of CPUs. Cases for which there are CPUs are measured on cores as well, where \
            each RQ has a thread that does both of its sides while the others contend with it, \
            and with threads.

            Then the stall curves: RQ 0's driver stops harvesting, and the split share of the \
            others is counted over the length of the stall and the number of slots, with slots \
            that go back by the tail and out of order. Counts, not times: the same everywhere.

            Examples:
              cleave-bench scale --json scale.json
              cleave-bench scale --packet 64 --rqs 1,2,4 --sharing all,private
              cleave-bench scale --stall-only
            """)

    @OptionGroup var options: PlanOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "Only the stall curves.")
    var stallOnly = false

    @Flag(help: "No stall curves.")
    var noStall = false

    func run() throws {
        if stallOnly && noStall {
            throw Failure.usage("--stall-only and --no-stall leave nothing to measure")
        }
        var request = try options.request()
        if stallOnly && !request.isBlank {
            throw Failure.usage(
                "--stall-only measures the stall curves, which are the same for every plan: "
                    + "leave out the plan")
        }
        if request.settings.contains(where: { $0.setting == .mode }) {
            throw Failure.usage("--mode: scale measures in every mode that there are CPUs for")
        }
        request.standard = .scale
        request.measuresThreads = true
        let (plan, warnings) = try PlanBuilder.plan(request)
        let files = try ResultFiles(["--json": output.json])
        var report = ScaleReport(machine: MachineFacts.current(), warnings: warnings)
        report.started = SystemClock.timestamp
        do { try StopSignal.catchSignals() } catch { throw Failure.run(error.description) }
        if !stallOnly { try measure(plan, into: &report) }
        if !noStall && StopSignal.received == nil { report.stall = try Self.stallCurves() }
        report.interruption =
            report.parts.compactMap(\.interruption?.description).first
            ?? StopSignal.received.map { "interrupted by \(StopSignal.name($0))" }
        Measuring.announce(report.interruption)
        try files.fill(
            { _ in ResultJSON.text(ScaleDocument(report, command: ProgramRun.commandLine)) },
            table: ScaleText(style: output.style, isQuiet: output.quiet).text(report))
        for part in report.parts {
            if let failure = Measuring.failure(part) { throw failure }
        }
        if let signal = StopSignal.received { throw Failure.stopped(signal: signal) }
    }

    private func measure(_ plan: BenchPlan, into report: inout ScaleReport) throws(Failure) {
        var oneCore = plan
        oneCore.mode = .oneCore
        report.oneCore = try measured(oneCore)
        if report.oneCore?.interruption != nil { return }
        var threads = plan
        let cpuCount = (plan.cpus.isEmpty ? CPUSet.allowed().cpus : plan.cpus).count
        if !plan.oversubscribe { threads.cases.removeAll { $0.rqs > cpuCount } }
        let leftOut = plan.cases.count - threads.cases.count
        if leftOut > 0 {
            report.warnings.append(
                "\(leftOut) cases have more RQs than the \(cpuCount) CPUs: on one core alone")
        }
        if cpuCount < 2 || threads.cases.isEmpty {
            report.warnings.append("\(cpuCount) CPU: nothing is measured with threads")
            return
        }
        threads.mode = .cores
        report.cores = try measured(threads)
        if report.cores?.interruption != nil { return }
        threads.mode = .threads
        report.threads = try measured(threads)
    }

    private func measured(_ plan: BenchPlan) throws(Failure) -> BenchReport {
        try Measuring.report(of: plan, warnings: [], isQuiet: output.quiet)
    }

    private static func stallCurves() throws(Failure) -> [StallPoint] {
        var points: [StallPoint] = []
        for slots in [256, 512, 1024, 2048] {
            for length in [64, 256, 512, 1024, 4096, 16384] {
                for slotReturn in SlotReturn.allCases {
                    do {
                        points.append(
                            try StallCurve().point(slotReturn, slots: slots, packets: length))
                    } catch { throw .run("stall: \(error)") }
                    if StopSignal.received != nil { return points }
                }
            }
        }
        return points
    }
}
