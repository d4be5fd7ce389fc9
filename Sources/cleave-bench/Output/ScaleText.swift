import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet

/// What `scale` found as tables for people.
struct ScaleText {
    let style: Style
    /// The tables alone, without facts and legend.
    let isQuiet: Bool

    func text(_ report: ScaleReport) -> String {
        var sections: [String] = []
        if !isQuiet {
            let places = (report.threads ?? report.oneCore).map(PlacementText.lines) ?? []
            sections.append(
                MachineText.lines(
                    MachineText.facts(report.machine) + places, warnings: report.allWarnings,
                    style))
        }
        let results = report.parts.flatMap(\.results)
        let noise = Numbers.noiseRemark(
            results.map(RunRecord.init).count(where: \.isNoisy), of: results.count, "cases")
        for part in report.parts { sections.append(table(part)) }
        if !report.pairs.isEmpty { sections.append(table(report.pairs)) }
        if !report.stall.isEmpty { sections.append(table(report.stall)) }
        let noSlot = report.parts.flatMap { part in
            part.results.compactMap { result in
                Remarks.noSlot(RunRecord(result)).map { "\(part.mode.rawValue): \($0)" }
            }
        }
        if !noSlot.isEmpty {
            sections.append(
                noSlot.map { TextWrap.text($0, width: style.width, indentation: 2) + "\n" }
                    .joined())
        }
        if let noise {
            let text = TextWrap.text(noise, width: style.width, indentation: 2)
            sections.append(style.yellow(text) + "\n")
        }
        if !isQuiet && report.interruption == nil {
            sections.append(
                TextWrap.text(
                    Self.legend, width: style.width ?? TextWrap.usualWidth, indentation: 2))
        }
        return sections.joined(separator: "\n")
    }

    private func table(_ part: BenchReport) -> String {
        ShortNames.table(of: part.results.map(\.benchCase.displayName), style: style) {
            table(part, names: $0)
        }
    }

    private func table(_ part: BenchReport, names: [String]) -> TextTable {
        var table = TextTable(columns: [
            .init(part.mode.rawValue, alignment: .left), .init("rate", "Mpps"),
            .init("device", "cycles/packet"), .init("driver", "cycles/packet", rank: 5),
            .init("split", "%", rank: 1), .init("retries", "/100 bursts", rank: 2),
            .init("headers", "KiB", rank: 6), .init("", "KiB/RQ", rank: 6),
            .init("verified", "packets/bad", rank: 4),
        ])
        for (result, name) in zip(part.results, names) {
            let kibibytes = Double(result.memory.headerBytes) / 1024
            let bad = result.verify.bad
            table.append(
                [
                    name, Numbers.marked(result.mpps, Numbers.rate),
                    Numbers.cycles(result.deviceCyclesPerPacket),
                    Numbers.cycles(result.driverCyclesPerPacket),
                    Numbers.percent(result.split, of: result.packets),
                    Numbers.fixed(ScaleReport.retries(result), 2), Numbers.rate(kibibytes),
                    Numbers.rate(kibibytes / Double(result.benchCase.rqs)),
                    "\(result.verify.packets)/\(bad)",
                ], isBad: bad > 0)
        }
        return table
    }

    private func table(_ pairs: [ScaleReport.Pair]) -> String {
        var table = TextTable(columns: [
            .init("shared against private", alignment: .left), .init("mode", alignment: .left),
            .init("device", "least c/p", rank: 1), .init("", "least c/p", rank: 1),
            .init("sharing", "%"), .init("", "% by pass", rank: 2),
            .init("headers", "KiB", rank: 3), .init("", "KiB", rank: 3),
        ])
        for pair in pairs {
            table.append([
                pair.shared.benchCase.displayName, pair.mode.rawValue,
                Numbers.cycles(pair.shared.deviceCyclesPerPacket.min),
                Numbers.cycles(pair.own.deviceCyclesPerPacket.min),
                pair.overheadPercent.map(Numbers.signed) ?? Numbers.noiseMark,
                pair.overheadByPass.map(Self.range) ?? "-",
                Numbers.rate(Double(pair.shared.memory.headerBytes) / 1024),
                Numbers.rate(Double(pair.own.memory.headerBytes) / 1024),
            ])
        }
        return table.text(style: style)
    }

    /// `-1.0 to +2.5`, the middle half of the passes.
    private static func range(_ spread: Spread) -> String {
        guard let middle = spread.middle else { return "-" }
        return "\(Numbers.signed(middle.lowerBound)) to \(Numbers.signed(middle.upperBound))"
    }

    private func table(_ stall: [StallPoint]) -> String {
        var table = TextTable(columns: [
            .init("stall", "slots"), .init("length", "packets"), .init("tail", "split %"),
            .init("", "model %"), .init("ring", "split %"), .init("", "model %"),
            .init("groups", "split %"), .init("", "model %"), .init("lost"),
        ])
        func share(_ split: Int, _ point: StallPoint) -> String {
            Numbers.percent(UInt64(split), of: UInt64(point.offered))
        }
        for tail in stall where tail.slotReturn == .tail {
            var row = ["\(tail.slots)", "\(tail.offered)"]
            var lost = 0
            for way in SlotReturn.allCases {
                let point = stall.first {
                    $0.slotReturn == way && $0.slots == tail.slots && $0.offered == tail.offered
                }
                lost += point?.lost ?? 0
                row.append(point.map { share($0.split, $0) } ?? "-")
                row.append(point.map { share($0.expectedSplit, $0) } ?? "-")
            }
            row.append("\(lost)")
            table.append(row, isBad: lost > 0)
        }
        return table.text(style: style)
    }

    private static let legend = """
        one-core: one thread works for all RQs in turn, the claims of the others in between; \
        cores: each RQ and its driver on a CPU of their own; threads: a CPU for all drivers, one \
        per RQ.
        retries: claims that another RQ's claim sent round again; sharing: device cycles that a \
        shared header queue adds, by the least of the passes; by pass: the middle half of them.
        stall: RQ 0's driver stops harvesting; length: packets of the healthy RQs meanwhile; \
        model: by the tail, what was free when the stalled RQ had filled its ring; by the ring and \
        in groups, all while slots are left.

        """
}
