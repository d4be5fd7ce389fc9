import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// Runs a benchmark: builds every case, verifies each, warms up, then measures them interleaved.
///
/// One at a time in a process; `run` blocks the caller and works on a pinned thread of its own.
public final class BenchRunner: @unchecked Sendable {
    // SAFETY: `measures` is touched by `init`, then by the one thread that `run` starts and joins.

    public let plan: BenchPlan
    private let mode: BenchMode
    private let cpu: Int
    private let warnings: [String]
    private let measures: [BenchMeasure]

    /// Checks the plan against the machine and builds all cases.
    /// - Throws: one sentence naming what is impossible: geometry, CPU, node, packets, memory.
    public init(_ plan: BenchPlan) throws(SetupError) {
        try plan.validate()
        self.plan = plan
        let machine = try BenchMachine(plan)
        mode = machine.mode
        cpu = machine.cpus[0]
        warnings = machine.warnings
        var pools: [String: [Int?: PacketPool]] = [:]
        var measures: [BenchMeasure] = []
        for one in plan.cases {
            if let interruption = BenchInterruption(done: 0, total: 0, measures) {
                throw SetupError(interruption.description)
            }
            let queuePlan = try machine.queuePlan(rqs: one.rqs)
            for node in Set(queuePlan.places.map(\.node)) where pools[one.packet]?[node] == nil {
                do {
                    pools[one.packet, default: [:]][node] = try PacketPool.load(
                        one.packet, count: plan.sourcePackets, flows: plan.flows, node: node)
                } catch { throw SetupError("\(error)") }
            }
            let testbed = try Testbed(
                one, pools: pools[one.packet] ?? [:], plan: queuePlan, idle: plan.idle,
                indirectionSize: plan.indirectionSize)
            measures.append(
                try BenchMeasure(
                    testbed, mode: mode, packetsPerPass: plan.packetsPerRepeat,
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
        let outcome = Outcome()
        do {
            let thread = try PinnedThread(name: "cleave-bench", cpu: cpu) {
                do throws(SetupError) {
                    outcome.interruption = try self.steps(progress)
                } catch { outcome.error = error }
            }
            thread.join()
        } catch { throw SetupError("\(error)") }
        if let error = outcome.error { throw error }
        let machine = MachineFacts.current()
        var report = BenchReport(
            machine: machine, mode: mode, repeats: plan.repeats,
            results: measures.filter(\.hasSamples).map { $0.result() },
            warnings: machine.warnings + warnings)
        report.interruption = outcome.interruption
        let largest = measures.max { $0.testbed.benchCase.rqs < $1.testbed.benchCase.rqs }
        report.queuePlan = largest?.testbed.queuePlan
        report.residence = largest?.testbed.residence ?? []
        return report
    }

    private final class Outcome: @unchecked Sendable {
        // SAFETY: written by the thread, read after its join.
        var error: SetupError?
        var interruption: BenchInterruption?
    }

    private func steps(
        _ progress: @Sendable (BenchProgress) -> Void
    ) throws(SetupError) -> BenchInterruption? {
        let total = measures.count * (2 + plan.repeats)
        var done = 0
        func interrupted() -> BenchInterruption? {
            BenchInterruption(done: done, total: total, measures)
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
