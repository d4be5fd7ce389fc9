import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// Runs a benchmark: builds every case, verifies each, warms up, then measures them interleaved.
///
/// One at a time in a process; `run` blocks the caller and works on a pinned thread of its own.
public final class BenchRunner: @unchecked Sendable {
    // SAFETY: `measures` is touched by `init`, then by the one thread that `run` starts and joins.

    public let plan: BenchPlan
    private let machine: BenchMachine
    private var mode: BenchMode { machine.mode }
    private let measures: [BenchMeasure]

    /// Checks the plan against the machine and builds all cases.
    /// - Throws: one sentence naming what is impossible: geometry, CPU, node, packets, memory.
    public init(_ plan: BenchPlan) throws(SetupError) {
        try plan.validate()
        self.plan = plan
        let machine = try BenchMachine(plan)
        self.machine = machine
        var testbeds = TestbedMaker(plan)
        var measures: [BenchMeasure] = []
        for one in plan.cases {
            if let interruption = BenchInterruption(
                done: 0, total: Self.stepCount(plan), measures.map(\.testbed))
            {
                throw SetupError(interruption.description)
            }
            let testbed = try testbeds.make(one, on: try machine.queuePlan(rqs: one.rqs))
            measures.append(
                try BenchMeasure(
                    testbed, mode: machine.mode, packetsPerPass: plan.packetsPerRepeat,
                    countsEvents: plan.countsEvents, profilePeriod: plan.profilePeriod))
        }
        self.measures = measures
    }

    /// Runs all passes.
    /// - Parameter progress: called from the measuring thread before each step, never inside one.
    /// - Throws: when a case gets stuck or the device breaks the protocol.
    public func run(
        progress: @escaping @Sendable (BenchProgress) -> Void
    ) throws(SetupError) -> BenchReport {
        let watch = try RunWatch(
            preempting: plan.preempts
                ? machine.usedCPUs(by: measures.map(\.testbed.queuePlan)) : [])
        let interruption = try MeasuringThread.run(cpu: machine.cpus[0]) {
            () throws(SetupError) in try self.steps(progress)
        }
        watch.end()
        let facts = MachineFacts.current()
        var report = BenchReport(
            machine: facts, mode: mode, repeats: plan.repeats,
            results: measures.filter(\.hasSamples).map { $0.result(isPreempted: plan.preempts) },
            warnings: watch.warnings(facts, plan: machine.warnings))
        report.started = watch.started
        report.preemptedCPUs = watch.preemptedCPUs
        report.interruption = interruption
        let largest = measures.max { $0.testbed.benchCase.rqs < $1.testbed.benchCase.rqs }
        report.queuePlan = largest?.testbed.queuePlan
        report.residence = largest?.testbed.residence ?? []
        return report
    }

    /// Each case is verified, warmed up, and measured as often as the plan says.
    private static func stepCount(_ plan: BenchPlan) -> Int {
        plan.cases.count * (2 + plan.repeats)
    }

    private func steps(
        _ progress: @Sendable (BenchProgress) -> Void
    ) throws(SetupError) -> BenchInterruption? {
        let total = Self.stepCount(plan)
        var done = 0
        func interrupted() -> BenchInterruption? {
            BenchInterruption(done: done, total: total, measures.map(\.testbed))
        }
        func step(_ phase: BenchProgress.Phase, _ measure: BenchMeasure) {
            progress(
                BenchProgress(
                    phase: phase, done: done, total: total,
                    name: measure.testbed.benchCase.displayName))
            done += 1
        }
        for measure in measures {
            step(.verifying, measure)
            try measure.verify(packets: plan.verifyPackets)
            if let interruption = interrupted() { return interruption }
        }
        for measure in measures {
            step(.warmingUp, measure)
            try measure.warmUp()
            if let interruption = interrupted() { return interruption }
        }
        for _ in 0..<plan.repeats {
            for measure in measures {
                step(.measuring, measure)
                try measure.measure()
                if let interruption = interrupted() { return interruption }
            }
        }
        return nil
    }
}
