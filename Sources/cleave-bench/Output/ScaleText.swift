import CleaveBench
import CleaveProgramSupport

/// What `scale` found as tables for people.
struct ScaleText {
    let style: Style
    /// The tables alone, without facts and legend.
    let isQuiet: Bool

    func text(_ report: ScaleReport) -> String {
        var sections: [String] = []
        if !isQuiet {
            var lines = MachineText.facts(report.machine)
            if let part = report.threads ?? report.oneCore { lines += PlacementText.lines(part) }
            lines += MachineText.warnings(report.allWarnings, style)
            sections.append(lines.map { $0 + "\n" }.joined())
        }
        for part in report.parts { sections.append(table(part)) }
        if !report.pairs.isEmpty { sections.append(table(report.pairs)) }
        if !report.stall.isEmpty { sections.append(table(report.stall)) }
        if !isQuiet { sections.append(Self.legend) }
        return sections.joined(separator: "\n")
    }

    private func table(_ part: BenchReport) -> String {
        var table = TextTable(columns: [
            .init(part.mode.rawValue, alignment: .left), .init("rate", "Mpps"),
            .init("device", "cycles/packet"), .init("driver", "cycles/packet"),
            .init("split", "%"), .init("retries", "/100 bursts"), .init("headers", "KiB"),
            .init("", "KiB/RQ"), .init("verified", "packets/bad"),
        ])
        for result in part.results {
            let kibibytes = Double(result.memory.headerBytes) / 1024
            let bad = result.verify.bad
            table.append(
                [
                    result.benchCase.displayName, Numbers.rate(result.mpps.median),
                    Numbers.cycles(result.deviceCyclesPerPacket),
                    Numbers.cycles(result.driverCyclesPerPacket),
                    Numbers.percent(result.split, of: result.packets),
                    Numbers.fixed(ScaleReport.retries(result), 2), Numbers.rate(kibibytes),
                    Numbers.rate(kibibytes / Double(result.benchCase.rqs)),
                    "\(result.verify.packets)/\(bad)",
                ], isBad: bad > 0)
        }
        return table.text(style: style)
    }

    private func table(_ pairs: [ScaleReport.Pair]) -> String {
        var table = TextTable(columns: [
            .init("shared against private", alignment: .left), .init("mode", alignment: .left),
            .init("device", "least c/p"), .init("", "least c/p"), .init("sharing", "%"),
            .init("headers", "KiB"), .init("", "KiB"),
        ])
        for pair in pairs {
            table.append([
                pair.shared.benchCase.displayName, pair.mode.rawValue,
                Numbers.cycles(pair.shared.deviceCyclesPerPacket.min),
                Numbers.cycles(pair.own.deviceCyclesPerPacket.min),
                Numbers.signed(pair.overheadPercent),
                Numbers.rate(Double(pair.shared.memory.headerBytes) / 1024),
                Numbers.rate(Double(pair.own.memory.headerBytes) / 1024),
            ])
        }
        return table.text(style: style)
    }

    private func table(_ stall: [StallPoint]) -> String {
        var table = TextTable(columns: [
            .init("stall", "slots"), .init("length", "packets"), .init("tail", "split %"),
            .init("", "model %"), .init("ring", "split %"), .init("", "model %"), .init("lost"),
        ])
        func share(_ split: Int, _ point: StallPoint) -> String {
            Numbers.percent(UInt64(split), of: UInt64(point.offered))
        }
        for tail in stall where tail.slotReturn == .tail {
            let ring = stall.first {
                $0.slotReturn == .ring && $0.slots == tail.slots && $0.offered == tail.offered
            }
            guard let ring else { continue }
            table.append(
                [
                    "\(tail.slots)", "\(tail.offered)", share(tail.split, tail),
                    share(tail.expectedSplit, tail), share(ring.split, ring),
                    share(ring.expectedSplit, ring), "\(tail.lost + ring.lost)",
                ], isBad: tail.lost + ring.lost > 0)
        }
        return table.text(style: style)
    }

    private static let legend = """
        turns: one thread works for all RQs in turn, the claims of the others in between; cores: \
        each RQ and its driver on a CPU of their own; threads: a CPU for all drivers, one per RQ.
        retries: claims that another RQ's claim sent round again; sharing: device cycles that a \
        shared header queue adds, by the least of the passes.
        stall: RQ 0's driver stops harvesting; length: packets of the healthy RQs meanwhile; \
        model: by the tail, what was free when the stalled RQ had filled its ring; by the ring, \
        all while slots are left.

        """
}
