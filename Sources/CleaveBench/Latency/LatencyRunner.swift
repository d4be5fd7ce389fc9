import CleaveEngine
import CleaveHost
import CleaveVirtioNet

/// Measures latency under load: verifies every case, finds its highest lossless rate, then offers
/// every case every load, interleaved, as often as the plan says. The search warms up as well.
///
/// One at a time in a process; `run` blocks the caller and works on a pinned thread of its own.
public final class LatencyRunner: @unchecked Sendable {
    // SAFETY: `measures` and `cases` are touched by `init`, then by the one thread that `run`
    // starts and joins.

    private let plan: BenchPlan
    private var settings: LatencySettings { plan.latency }
    private let machine: BenchMachine
    private let measures: [LatencyMeasure]
    private var cases: [LatencyCase] = []

    /// After the end of a trial in the search, packets that were due are sent for so long, as a
    /// share of the trial; a rate that needs longer is lost anyway.
    private static let searchGrace = 0.25
    /// The same after a pass under load, whose packets are all to arrive.
    private static let loadGraceSeconds = 10.0
    /// Packets that are carried to find a first guess, after as many that warm up.
    private static let floodPackets = 5_000

    /// Checks the plan against the machine and builds all cases.
    /// - Throws: one sentence naming what is impossible.
    public init(_ plan: BenchPlan) throws(SetupError) {
        try plan.validate()
        self.plan = plan
        let machine = try BenchMachine(plan, sharesDevices: true)
        self.machine = machine
        var testbeds = TestbedMaker(plan)
        var measures: [LatencyMeasure] = []
        for one in plan.cases {
            if let interruption = BenchInterruption(
                done: 0, total: Self.stepCount(plan), measures.map(\.testbed))
            {
                throw SetupError(interruption.description)
            }
            let testbed = try testbeds.make(one, on: try machine.queuePlan(rqs: one.rqs))
            measures.append(LatencyMeasure(testbed, mode: machine.mode))
        }
        self.measures = measures
    }

    /// Runs all passes.
    /// - Parameter progress: called from the measuring thread before each step, never inside one.
    /// - Throws: when a case gets stuck, carries nothing, or the device breaks the protocol.
    public func run(
        progress: @escaping @Sendable (BenchProgress) -> Void
    ) throws(SetupError) -> LatencyReport {
        cases = measures.map { LatencyCase($0) }
        let watch = try RunWatch(
            preempting: plan.preempts
                ? machine.usedCPUs(by: measures.map(\.testbed.queuePlan)) : [])
        let method = LatencyMethod.measured()
        let interruption = try MeasuringThread.run(cpu: machine.cpus[0]) {
            () throws(SetupError) in try self.steps(progress)
        }
        watch.end()
        let facts = MachineFacts.current()
        let largest = measures.max { $0.testbed.benchCase.rqs < $1.testbed.benchCase.rqs }
        let results = cases.filter(\.hasPasses).map { $0.result(preempted: plan.preempts) }
        return LatencyReport(
            machine: facts, started: watch.started, mode: machine.mode, repeats: plan.repeats,
            settings: settings, method: method, results: results,
            warnings: watch.warnings(facts, plan: machine.warnings) + Self.stalls(results),
            preemptedCPUs: watch.preemptedCPUs, queuePlan: largest?.testbed.queuePlan,
            residence: largest?.testbed.residence ?? [], interruption: interruption)
    }

    /// What the largest latencies have in them that is not the device's.
    private static func stalls(_ results: [LatencyResult]) -> [String] {
        var all = LatencyStalls()
        for load in results.flatMap(\.loads) {
            for pass in load.passes { all.add(pass.stalls) }
        }
        if all.count == 0 { return [] }
        let longest = Int(all.longestMicroseconds.rounded())
        return [
            "The benchmark's threads stood still \(all.count) times for more than "
                + "\(Int(LatencyStalls.thresholdMicroseconds)) us, \(longest) us at most: the "
                + "kernel or the host ran something else. The largest latencies are of that."
        ]
    }

    // MARK: Steps

    /// Each case is verified, its rate is searched, and it is offered each load.
    private static func stepCount(_ plan: BenchPlan) -> Int {
        plan.cases.count * (2 + plan.repeats * plan.latency.loads.count)
    }

    private func steps(
        _ progress: @Sendable (BenchProgress) -> Void
    ) throws(SetupError) -> BenchInterruption? {
        let total = Self.stepCount(plan)
        var done = 0
        func interrupted() -> BenchInterruption? {
            BenchInterruption(done: done, total: total, measures.map(\.testbed))
        }
        func step(_ phase: BenchProgress.Phase, _ index: Int) {
            progress(
                BenchProgress(
                    phase: phase, done: done, total: total,
                    name: measures[index].testbed.benchCase.displayName))
            done += 1
        }
        for index in measures.indices {
            step(.verifying, index)
            try measures[index].verify(packets: plan.verifyPackets)
            if let interruption = interrupted() { return interruption }
        }
        for index in measures.indices {
            step(.searching, index)
            cases[index].begin(try search(measures[index]), loads: settings.loads)
            if let interruption = interrupted() { return interruption }
        }
        for pass in 0..<plan.repeats {
            for load in settings.loads.indices {
                for index in measures.indices {
                    step(.measuring, index)
                    try cases[index].measure(load) { rate throws(SetupError) in
                        try measures[index].pass(
                            offer(
                                rate, seed: UInt64(pass * 1000 + load) << 16,
                                graceSeconds: Self.loadGraceSeconds))
                    }
                    if let interruption = interrupted() { return interruption }
                }
            }
        }
        return nil
    }

    private func offer(_ rate: Double, seed: UInt64, graceSeconds: Double) -> LatencyOffer {
        LatencyOffer(
            packetsPerSecond: rate, seconds: passSeconds, arrivals: settings.arrivals, seed: seed,
            graceSeconds: graceSeconds)
    }

    private var passSeconds: Double { Double(settings.passMilliseconds) / 1000 }

    private func search(_ measure: LatencyMeasure) throws(SetupError) -> LosslessSearch.Outcome {
        _ = try measure.floodRate(packets: Self.floodPackets)
        let flood = try measure.floodRate(packets: Self.floodPackets)
        let name = measure.testbed.benchCase.displayName
        guard flood > 0 else {
            if StopSignal.received != nil { return .init(packetsPerSecond: 0, trials: []) }
            throw SetupError("\(name): no packet is delivered")
        }
        var search = LosslessSearch()
        search.tolerance = Double(settings.tolerancePercent) / 100
        let outcome = try search.run(from: 0.9 * flood) { rate throws(SetupError) in
            let pass = try measure.pass(
                offer(rate, seed: 0, graceSeconds: Self.searchGrace * passSeconds))
            if StopSignal.received != nil { return nil }
            return pass.isLossless(at: rate, backlog: measure.ringCapacity)
        }
        guard outcome.packetsPerSecond > 0 || StopSignal.received != nil else {
            throw SetupError("\(name): packets are lost at every rate that was tried")
        }
        return outcome
    }
}

/// One case and what was measured of it.
private struct LatencyCase {
    private let measure: LatencyMeasure
    private var search = LosslessSearch.Outcome(packetsPerSecond: 0, trials: [])
    private var loads: [LatencyLoad] = []
    /// Counters when the loads began.
    private var before = RxCounters()

    init(_ measure: LatencyMeasure) { self.measure = measure }

    var hasPasses: Bool { loads.contains { !$0.passes.isEmpty } }

    mutating func begin(_ outcome: LosslessSearch.Outcome, loads percents: [Int]) {
        search = outcome
        loads = percents.map {
            LatencyLoad(
                percent: $0, packetsPerSecond: outcome.packetsPerSecond * Double($0) / 100)
        }
        before = measure.testbed.engine.counters
    }

    mutating func measure(
        _ load: Int, _ pass: (_ rate: Double) throws(SetupError) -> LatencyPass
    ) throws(SetupError) {
        loads[load].add(try pass(loads[load].packetsPerSecond))
    }

    func result(preempted: Bool) -> LatencyResult {
        let testbed = measure.testbed
        let counters = testbed.engine.counters
        let fallback = BenchMeasure.difference(counters.fallback, before.fallback, \.name)
        let packets = counters.packets - before.packets
        return LatencyResult(
            benchCase: testbed.benchCase, search: search,
            loads: loads.filter { !$0.passes.isEmpty }, verify: measure.verification,
            packets: packets, split: counters.split - before.split, fallback: fallback,
            dropped: BenchMeasure.difference(counters.dropped, before.dropped, \.name),
            noSlot: SlotAdvice(
                testbed, fallback: fallback, packets: packets, isPreempted: preempted),
            notes: testbed.notes)
    }
}
