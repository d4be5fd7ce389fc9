import CleaveHost
import CleaveProfiling
import CleaveVirtioNet

/// A case's cycles by stage, from passes in which polls were measured, each after a plain one.
public struct BenchProfile: Sendable {
    /// One poll in `period` was measured.
    public var period: UInt32
    /// What each pass measured, all RQs together.
    public var passes: [ProfileSnapshot]
    /// What each RQ measured in all passes.
    public var rqs: [ProfileSnapshot]
    /// The last measured polls of each RQ.
    public var traces: [[ProfileBlock.Trace]]
    /// Cycles per packet of a device's poll, timed from outside: in plain passes.
    public var plain: [Double]
    /// The same in passes with measured polls among the others.
    public var profiled: [Double]
    /// The bare copy of the same packets.
    public var copyLimit: CopyLimit?
    public var workingSet: WorkingSet
}

/// Bytes that are touched again and again; an estimate from the plan.
public struct WorkingSet: Sendable, Codable, Equatable {
    /// All of them.
    public var bytes = 0
    /// Source packets.
    public var sources = 0
    /// Buffers, as far as packets fill them.
    public var buffers = 0
    /// Header slots, as far as headers may fill them.
    public var slots = 0
    /// Virtqueues, and the RQs' own memory.
    public var queues = 0

    init(_ testbed: Testbed) {
        let one = testbed.benchCase
        sources = testbed.pool.totalBytes
        let mean = testbed.pool.totalBytes / max(1, testbed.pool.count)
        let buffer = testbed.memory.dataBytes / max(1, one.ringSize * one.rqs)
        buffers = one.rqs * one.ringSize * min(mean, buffer)
        slots = testbed.memory.headerBytes
        // Descriptor, available and used entry; reference, plan and shadow.
        queues = one.rqs * (one.ringSize * 26 + one.burst * 64)
        bytes = sources + buffers + slots + queues
    }
}

/// Takes the figures of `BenchProfile` for one case.
final class BenchProfiler {
    private let testbed: Testbed
    private let period: UInt32
    private let copyLimit: CopyLimitMeasure
    private var passes: [ProfileSnapshot] = []
    private var rqs: [ProfileSnapshot]
    private var plain: [Double] = []
    private var profiled: [Double] = []

    /// - Throws: in a build without profiling.
    init(_ testbed: Testbed, period: UInt32) throws(SetupError) {
        self.testbed = testbed
        self.period = period
        guard testbed.engine.profile(0) != nil else {
            throw SetupError(
                "this program was built without profiling: build it with the trait Profiling")
        }
        let mean = max(1, testbed.pool.totalBytes / testbed.pool.count)
        copyLimit = try CopyLimitMeasure(testbed, packets: max(2000, 30_000_000 / (80 + mean)))
        rqs = Array(repeating: ProfileSnapshot(), count: testbed.engine.count)
    }

    private var blocks: [ProfileBlock] {
        testbed.engine.rqs.compactMap { testbed.engine.profile($0)?.block }
    }

    /// One pass with measured polls, after a plain one.
    /// - Parameter plainPass: the figures of that one.
    func measure(
        after plainPass: PassFigures, pass: () throws(SetupError) -> PassFigures
    ) throws(SetupError) {
        let before = blocks.map { ProfileSnapshot($0) }
        for block in blocks { block.period.store(period) }
        let figures: PassFigures
        do { figures = try pass() } catch {
            for block in blocks { block.period.store(0) }
            throw error
        }
        for block in blocks { block.period.store(0) }
        let spent = zip(blocks.map { ProfileSnapshot($0) }, before).map { $0 - $1 }
        if let sum = ProfileSnapshot.sum(spent) { passes.append(sum) }
        for index in rqs.indices {
            rqs[index] = rqs[index].packets == 0 ? spent[index] : rqs[index] + spent[index]
        }
        plain.append(plainPass.deviceCyclesPerPacket)
        profiled.append(figures.deviceCyclesPerPacket)
        copyLimit.measure()
    }

    var result: BenchProfile {
        BenchProfile(
            period: period, passes: passes, rqs: rqs, traces: blocks.map { $0.readTraces() },
            plain: plain, profiled: profiled, copyLimit: copyLimit.result,
            workingSet: WorkingSet(testbed))
    }
}

extension PassFigures {
    var deviceCyclesPerPacket: Double { perPacket(deviceCycles) }
}
