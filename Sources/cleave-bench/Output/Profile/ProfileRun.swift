import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveVirtioNet

/// What was learnt of one case, or of one RQ of another process.
struct ProfileRun {
    var name: String
    var table: StageTable
    /// One turn in so many was measured.
    var period: UInt32
    /// Each RQ by itself.
    var rqs: [ProfileSnapshot]
    /// The last measured turns of each RQ.
    var traces: [[ProfileBlock.Trace]]
    var counterHertz: Double
    /// The case's other figures; nil for another process.
    var bench: BenchResult?

    /// The cases of a report that measured any turn.
    static func all(_ report: BenchReport) -> [ProfileRun] {
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

    /// Cycles per packet of a plain turn, seen from outside: with the way through the engine, and
    /// without reading the clock.
    var plainTurn: Spread? {
        guard let bench, let profile = bench.profile else { return nil }
        let reading = Double(CycleClock.readingCost) / max(1, bench.packetsPerBurst)
        return Spread(profile.plain.map { max(0, $0 - reading) })
    }

    /// How much longer turns take in percent, pass by pass, when some are measured.
    var overhead: Spread? {
        guard let profile = bench?.profile else { return nil }
        return Spread(zip(profile.plain, profile.profiled).map { 100 * ($1 / $0 - 1) })
    }

    /// The same of the fastest passes: the figure that neighbours spoil least.
    var leastOverhead: Double? {
        guard let profile = bench?.profile, let plain = profile.plain.min(),
            let profiled = profile.profiled.min()
        else { return nil }
        return 100 * (profiled / plain - 1)
    }

    /// The bare copy's cycles as a part of the turn's.
    var shareOfCopyLimit: Double? {
        bench?.profile?.copyLimit.map {
            $0.cyclesPerPacket.median / max(0.01, table.turn.median)
        }
    }
}
