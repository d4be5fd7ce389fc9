import CleaveBench
import CleaveProgramSupport

/// A report as a table for people: machine above, legend below.
struct ReportText {
    let style: Style
    /// Prints the table and what does not fit into it, without facts and legend.
    var isQuiet = false

    func text(_ report: BenchReport) -> String {
        frame(report, table: table(report), legend: legend(report))
    }

    /// A table with what belongs above and below it; without the legend if the table is printed
    /// alone.
    func frame(_ report: BenchReport, table: String, legend: String) -> String {
        var sections: [String] = []
        if !isQuiet {
            let passes = report.repeats == 1 ? "1 timed pass" : "\(report.repeats) timed passes"
            let lines =
                MachineText.facts(report.machine)
                + PlacementText.lines(report)
                + ["mode     \(report.mode.rawValue), \(passes) of each case, interleaved"]
                + MachineText.warnings(report.warnings, style)
            sections.append(lines.map { $0 + "\n" }.joined())
        }
        sections.append(table)
        let remarks =
            Remarks(style: style).lines(report.results.map(RunRecord.init)) + counters(report)
        if !remarks.isEmpty { sections.append(remarks.map { $0 + "\n" }.joined()) }
        if !isQuiet { sections.append(legend) }
        return sections.joined(separator: "\n")
    }

    private func table(_ report: BenchReport) -> String {
        let hasConsumer = report.results.contains { $0.benchCase.consumer != .none }
        var table = TextTable(columns: columns(hasConsumer: hasConsumer))
        for result in report.results {
            table.append(cells(of: result, hasConsumer: hasConsumer), isBad: result.verify.bad > 0)
        }
        return table.text(style: style)
    }

    private func columns(hasConsumer: Bool) -> [TextTable.Column] {
        var columns: [TextTable.Column] = [
            .init("case", alignment: .left), .init("rate", "Mpps"), .init("", "Gbit/s"),
            .init("device", "cycles/packet"), .init("driver", "cycles/packet"),
        ]
        if hasConsumer { columns.append(.init("consumer", "cycles/pkt")) }
        return columns + [
            .init("split", "%"), .init("fallb.", "%"), .init("drops"),
            .init("headers", "KiB"), .init("", "%"), .init("verified", "packets/bad"),
        ]
    }

    private func cells(of result: BenchResult, hasConsumer: Bool) -> [String] {
        let fallbacks = result.fallback.values.reduce(0, &+)
        let drops = result.dropped.values.reduce(0, &+)
        let splits = result.benchCase.method != .whole
        let hasHeaders = result.memory.headerBytes > 0
        var cells = [
            result.benchCase.displayName, Numbers.rate(result.mpps.median),
            Numbers.rate(result.gbps.median), Numbers.cycles(result.deviceCyclesPerPacket),
            Numbers.cycles(result.driverCyclesPerPacket),
        ]
        if hasConsumer { cells.append(Numbers.cycles(result.consumerCyclesPerPacket.median)) }
        return cells + [
            splits ? Numbers.percent(result.split, of: result.packets) : "-",
            splits ? Numbers.percent(fallbacks, of: result.packets) : "-",
            "\(drops)",
            hasHeaders ? Numbers.rate(Double(result.memory.headerBytes) / 1024) : "-",
            hasHeaders ? Numbers.fixed(result.memory.headerPercent, 1) : "-",
            "\(result.verify.packets)/\(result.verify.bad)",
        ]
    }

    /// What an interrupted benchmark carried.
    private func counters(_ report: BenchReport) -> [String] {
        guard let interruption = report.interruption else { return [] }
        return [style.yellow("\(interruption); counters:")]
            + interruption.counters.map { name, counters in
                "\(name): packets \(counters.packets), bytes \(counters.bytes), "
                    + "split \(counters.split), fallback \(counters.fallbackTotal), "
                    + "dropped \(counters.droppedTotal), bursts \(counters.bursts), "
                    + "claim retries \(counters.claimRetries)"
            }
    }

    private func legend(_ report: BenchReport) -> String {
        let who =
            report.mode == .oneCore
            ? "one thread that does both sides" : "all RQs' threads together"
        return """
            rate: median of \(who); cycles: TSC ticks per packet, median (min-max) of the passes.
            device: parse, translate, check, place, publish; driver: harvest, retire headers, \
            post buffers.
            split: headers in a place of their own; fallb.: placed whole though split was on; \
            headers: memory of slots
            or header buffers, and its share of data memory;
            verified: packets compared with their source byte by byte before timing / corrupt or \
            lost.

            """
    }
}
