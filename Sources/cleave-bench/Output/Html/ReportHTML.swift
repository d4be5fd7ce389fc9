import CleaveBench
import CleaveVirtioNet

/// A comparison as one page that stands alone: charts drawn in the page, tables, the machine and
/// the command. No script, no file beside it, no network.
struct ReportHTML {
    private let report: BenchReport
    private let command: [String]
    private let comparison: Comparison

    /// - Parameter command: the command line that gave the report.
    init(_ report: BenchReport, command: [String]) {
        self.report = report
        self.command = command
        comparison = Comparison(report.results)
    }

    var text: String {
        Page.text(
            heading: "Header/data split: methods side by side",
            sections: [summary, cycles, memory, shares, table, remarks])
    }

    // MARK: Sections

    private var summary: String {
        let passes = report.repeats == 1 ? "1 timed pass" : "\(report.repeats) timed passes"
        let who =
            report.mode == .turns
            ? "one thread does both sides in turns"
            : "port and driver on one CPU, each RQ on another"
        let facts =
            MachineText.facts(report.machine).map(Self.fact).joined()
            + Self.fact("mode     \(who); \(passes) of each case, interleaved")
            + Self.fact("command  \(command.joined(separator: " "))")
        return Markup.text(
            "p", [:],
            "Where a virtio-net device puts headers and payload, by method: whole (not split); "
                + "A, headers in the first descriptor of a chain; B, headers in a page of their "
                + "own; C, small and page buffers posted alternately; D, a header queue, its "
                + "slot reported by the used entry (used) or in the virtio-net header (net). "
                + "All cases were measured in one run, after every packet had been verified.")
            + Markup.element("dl", [:], facts)
            + Page.warnings(report.warnings)
    }

    /// A line of facts, its first nine columns saying what it is about.
    private static func fact(_ line: String) -> String {
        let name = line.prefix(9).split(separator: " ").joined(separator: " ")
        return Page.fact(name, String(line.dropFirst(9)))
    }

    private var cycles: String {
        section(
            "Cycles by method and size",
            "TSC ticks per packet, median of the passes. Each panel has its own scale."
        ) { ring in
            figure("Device, \(ring.rawValue) ring") { result in
                (
                    [result.deviceCyclesPerPacket.median],
                    Numbers.cycles(result.deviceCyclesPerPacket.median)
                )
            }(ring)
                + figure(
                    "Driver, \(ring.rawValue) ring", parts: ["refill", "harvest", "return"]
                ) { result in
                    let cycles = result.driverCycles
                    return (
                        [cycles.refill, cycles.harvest, cycles.giveBack].map(\.median),
                        Numbers.cycles(cycles.total.median)
                    )
                }(ring)
        }
    }

    private var memory: String {
        section(
            "Memory by method and traffic",
            "Bytes of buffers and header slot that a packet occupies. Each panel has its own scale."
        ) { ring in
            figure("\(ring.rawValue) ring", parts: ["packet", "wasted"]) { result in
                let use = result.bufferUse
                let wasted = use.bytesHeldPerPacket * use.wastedShare
                return (
                    [use.bytesHeldPerPacket - wasted, max(0, wasted)],
                    Numbers.fixed(use.bytesHeldPerPacket, 0)
                )
            }(ring)
        }
    }

    private var shares: String {
        section(
            "Split share, and where payload lies",
            "Percent of packets: headers and payload apart; no header of any kind in the payload's "
                + "buffers; payload starting at the start of a page."
        ) { ring in
            let columns = comparison.columns(of: ring)
            func block(_ title: String, _ share: @escaping (BenchResult) -> Double)
                -> ShareGrid.Block
            {
                ShareGrid.Block(
                    title: title,
                    shares: comparison.groups.map { group in
                        columns.map { group.results[$0].map(share) }
                    })
            }
            let grid = ShareGrid(
                title: "\(ring.rawValue) ring", rows: comparison.groups.map(\.title),
                columns: columns.map(\.label),
                blocks: [
                    block("split %") { Double($0.split) / Double(max(1, $0.packets)) },
                    block("payload alone %", \.payload.aloneShare),
                    block("page-aligned %", \.payload.pageAlignedShare),
                ])
            return Page.figure(grid.title, grid.svg)
        }
    }

    private var table: String {
        let figures = ComparisonFigure.all(report)
        let tables = comparison.rings.map { ring in
            Markup.element(
                "div", ["class": "wide"],
                ComparisonTable(comparison, ring: ring, figures: figures).markup)
        }
        let terms = figures.map { Page.fact($0.name, $0.meaning) }
        return Markup.text("h2", [:], "All figures")
            + Markup.text("p", [:], "Medians of the passes; below cycles, least to largest.")
            + tables.joined(separator: "\n") + Markup.element("dl", [:], terms.joined())
    }

    /// What cases have to say about themselves: fallbacks and drops by reason, memory.
    private var remarks: String {
        let lines = ReportText(style: .plain).remarks(report)
        if lines.isEmpty { return "" }
        return Markup.text("h2", [:], "Remarks")
            + Markup.element("ul", [:], lines.map { Markup.text("li", [:], $0) }.joined())
    }

    // MARK: Parts of sections

    private func section(
        _ title: String, _ caption: String, _ content: (RingFormat) -> String
    ) -> String {
        Markup.text("h2", [:], title) + Markup.text("p", [:], caption)
            + comparison.rings.map(content).joined(separator: "\n")
    }

    /// A bar chart of one ring: a panel for each traffic, a bar for each method.
    private func figure(
        _ title: String, parts: [String] = [],
        _ bar: @escaping (BenchResult) -> (parts: [Double], figure: String)
    ) -> (RingFormat) -> String {
        { ring in
            let columns = comparison.columns(of: ring)
            let panels = comparison.groups.map { group in
                BarChart.Panel(
                    title: group.title,
                    bars: columns.compactMap { column in
                        group.results[column].map(bar).map {
                            BarChart.Bar(
                                label: column.label, colour: PageStyle.colour(of: column),
                                parts: $0.parts, figure: $0.figure)
                        }
                    })
            }
            return Page.figure(
                title, BarChart(title: title, partNames: parts, panels: panels).svg)
        }
    }
}
