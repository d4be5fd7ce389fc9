import CleaveHost
import CleaveProfiling
import CleaveVirtioNet

/// The profile of one case, or of one RQ of another process.
public struct ProfileRun: Sendable {
    public var name: String
    public var table: StageTable
    /// One poll in `period` was measured.
    public var period: UInt32
    /// Each RQ by itself.
    public var rqs: [ProfileSnapshot]
    /// The last measured polls of each RQ.
    public var traces: [[ProfileBlock.Trace]]
    public var counterHertz: Double
    /// The case's other figures; nil for another process.
    public var bench: BenchResult?

    public init(
        name: String, table: StageTable, period: UInt32, rqs: [ProfileSnapshot],
        traces: [[ProfileBlock.Trace]], counterHertz: Double, bench: BenchResult? = nil
    ) {
        (self.name, self.table, self.period) = (name, table, period)
        (self.rqs, self.traces) = (rqs, traces)
        (self.counterHertz, self.bench) = (counterHertz, bench)
    }

    /// The cases of a report in which any poll was measured.
    public static func all(_ report: BenchReport) -> [ProfileRun] {
        report.results.compactMap { result in
            guard let profile = result.profile,
                let table = StageTable(passes: profile.passes)
            else { return nil }
            return ProfileRun(
                name: result.benchCase.displayName, table: table, period: profile.period,
                rqs: profile.rqs, traces: profile.traces,
                counterHertz: report.machine.tscHertz, bench: result)
        }
    }

    /// Cycles per packet of a plain poll, timed from outside: with the way through the engine, and
    /// without reading the clock.
    public var plainTurn: Spread? {
        guard let bench, let profile = bench.profile else { return nil }
        let reading = Double(CycleClock.readingCost) / max(1, bench.packetsPerBurst)
        return Spread(profile.plain.map { max(0, $0 - reading) })
    }

    /// How much longer polls take in percent, pass by pass, when some are measured.
    public var overhead: Spread? {
        guard let profile = bench?.profile else { return nil }
        return Spread(zip(profile.plain, profile.profiled).map { 100 * ($1 / $0 - 1) })
    }

    /// The share of the median that the middle half of the passes spans, plain or measured, if that
    /// is beyond the bound: their difference is then no cost of measuring.
    public var noise: Double? {
        guard let profile = bench?.profile else { return nil }
        return [Spread(profile.plain), Spread(profile.profiled)].compactMap { $0?.noise }
            .filter { $0 > Spread.noiseBound }.max()
    }

    /// The same of the fastest passes: the figure that neighbours disturb least. Nil where passes
    /// lie too far apart.
    public var leastOverhead: Double? {
        guard noise == nil, let profile = bench?.profile,
            let plain = Spread(profile.plain)?.min, let profiled = Spread(profile.profiled)?.min
        else { return nil }
        return 100 * (profiled / plain - 1)
    }

    /// The bare copy's cycles as a share of the poll's. Nil where it was not the faster of the two:
    /// it is part of the poll, so something disturbed one of them.
    public var shareOfCopyLimit: Double? {
        guard let limit = bench?.profile?.copyLimit, table.poll.median > 0 else { return nil }
        let share = limit.cyclesPerPacket.median / table.poll.median
        return share <= 1 ? share : nil
    }
}
