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
    /// alone. Of an interrupted run the table comes last, so that it is what the terminal shows.
    func frame(_ report: BenchReport, table: String, legend: String) -> String {
        var sections: [String] = []
        if !isQuiet {
            let passes = report.repeats == 1 ? "1 timed pass" : "\(report.repeats) timed passes"
            sections.append(
                facts(
                    report,
                    mode: "\(report.mode.rawValue), \(passes) of each case, interleaved"))
        }
        let remarks =
            Remarks(style: style).lines(report.results.map(RunRecord.init)) + counters(report)
        let below = remarks.map { $0 + "\n" }.joined()
        if report.interruption != nil {
            sections += [below, table]
        } else {
            sections += [table, below]
            if !isQuiet {
                sections.append(
                    TextWrap.text(legend, width: style.width ?? TextWrap.usualWidth, indentation: 2)
                )
            }
        }
        return sections.filter { !$0.isEmpty }.joined(separator: "\n")
    }

    /// Machine, build, places and warnings, a line each.
    func facts(_ report: BenchReport, mode: String) -> String {
        MachineText.lines(
            MachineText.facts(report.machine) + PlacementText.lines(report) + ["mode     \(mode)"],
            warnings: report.warnings, style)
    }

    private func table(_ report: BenchReport) -> String {
        ShortNames.table(of: report.results.map(\.benchCase.displayName), style: style) {
            table(report, names: $0)
        }
    }

    private func table(_ report: BenchReport, names: [String]) -> TextTable {
        let hasConsumer = report.results.contains { $0.benchCase.consumer != .none }
        var table = TextTable(columns: columns(hasConsumer: hasConsumer))
        for (result, name) in zip(report.results, names) {
            table.append(
                cells(of: result, name, hasConsumer: hasConsumer), isBad: result.verify.bad > 0)
        }
        return table
    }

    private func columns(hasConsumer: Bool) -> [TextTable.Column] {
        var columns: [TextTable.Column] = [
            .init("case", alignment: .left), .init("rate", "Mpps"), .init("", "Gbit/s", rank: 4),
            .init("device", "cycles/packet"), .init("driver", "cycles/packet"),
        ]
        if hasConsumer { columns.append(.init("consumer", "cycles/pkt", rank: 3)) }
        return columns + [
            .init("split", "%", rank: 2), .init("fallb.", "%", rank: 5), .init("drops", rank: 1),
            .init("headers", "KiB", rank: 7), .init("", "%", rank: 7),
            .init("verified", "packets/bad", rank: 6),
        ]
    }

    private func cells(
        of result: BenchResult, _ name: String, hasConsumer: Bool
    ) -> [String] {
        let fallbacks = result.fallback.values.reduce(0, &+)
        let drops = result.dropped.values.reduce(0, &+)
        let splits = result.benchCase.method != .whole
        let hasHeaders = result.memory.headerBytes > 0
        var cells = [
            name, Numbers.marked(result.mpps, Numbers.rate),
            Numbers.marked(result.gbps, Numbers.rate),
            Numbers.cycles(result.deviceCyclesPerPacket),
            Numbers.cycles(result.driverCyclesPerPacket),
        ]
        if hasConsumer {
            cells.append(Numbers.marked(result.consumerCyclesPerPacket, Numbers.cycles))
        }
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
        let heading =
            "\(interruption)"
            + (interruption.counters.isEmpty ? "" : "; counters:")
        return [style.yellow(heading)]
            + interruption.counters.map { name, counters in
                TextWrap.text(
                    "\(name): packets \(counters.packets), bytes \(counters.bytes), "
                        + "split \(counters.split), fallback \(counters.fallbackTotal), "
                        + "dropped \(counters.droppedTotal), bursts \(counters.bursts), "
                        + "claim retries \(counters.claimRetries)",
                    width: style.width, indentation: 2)
            }
    }

    private func legend(_ report: BenchReport) -> String {
        let who =
            report.mode == .oneCore
            ? "one thread that does both sides" : "all RQs' threads together"
        return """
            rate: of delivered packets, median of \(who); cycles: TSC ticks per delivered packet, \
            median (min-max) of the passes.
            device: parse, translate, check, place, publish; driver: harvest, retire headers, \
            post buffers.
            split: headers in a place of their own; fallb.: placed whole though split was on; \
            headers: memory of slots or header buffers, and its share of data memory.
            verified: packets compared with their source byte by byte before timing / corrupt or \
            lost.

            """
    }
}
