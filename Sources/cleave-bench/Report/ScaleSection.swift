import CleaveBench

extension StallPoint {
    fileprivate var modelShare: Double {
        offered > 0 ? Double(expectedSplit) / Double(offered) : .nan
    }
}

extension ScaleDocument: ResultSection {
    var kind: String { "Many RQs over one header queue" }
    var conditions: [(name: String, text: String)] {
        [("preempted", preemptedCPUs.map(Facts.preempted)), ("interrupted", interrupted)]
            .compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [SectionPart] {
        let modes = [("on one core", turns), ("on cores", cores ?? []), ("with threads", threads)]
        var parts: [SectionPart] = []
        for (words, runs) in modes where !runs.isEmpty {
            let table = RunTable(runs: runs, comparison: .telling(runs))
            parts += table.deviceCharts("Device cycles per packet \(words)")
            parts += table.noiseParts + [table.table("Cases \(words)")]
        }
        return parts + pairParts + stallParts
    }

    private var pairParts: [SectionPart] {
        if sharing.isEmpty { return [] }
        let titles = sharing.map(panelTitle).reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        let panels = titles.map { title -> BarChart.Panel in
            let pairs = sharing.filter { panelTitle($0) == title }
            let names = ShortNames(pairs.map(\.shared)).names
            return BarChart.Panel(
                title: title,
                bars: zip(pairs, names).map { pair, name in
                    let percent = pair.deviceOverheadPercent ?? .nan
                    return .init(
                        label: name, colour: "own", parts: [percent],
                        figure: pair.deviceOverheadPercent.map(Numbers.signed)
                            ?? Numbers.noiseMark, range: pair.deviceOverheadByPass)
                })
        }
        var table = SortableTable(
            title: "Shared against private header queues",
            columns: [
                .words("shared"), .words("mode"), .init(name: "RQs"), .init(name: "burst"),
                .init(name: "sharing adds", unit: "% of device cycles, fastest passes"),
                .init(name: "", unit: "range, pass by pass"),
                .init(name: "retries", unit: "per 100 bursts"),
                .init(name: "headers, shared", unit: "bytes"),
                .init(name: "headers, private", unit: "bytes"),
            ])
        table.rows = sharing.map {
            [
                .words($0.shared), .words($0.mode), .count($0.rqs), .count($0.burst),
                .figure($0.deviceOverheadPercent, Numbers.signed),
                .range($0.deviceOverheadByPass),
                .figure($0.claimRetriesPer100Bursts) { Numbers.fixed($0, 2) },
                .count($0.sharedHeaderBytes), .count($0.privateHeaderBytes),
            ]
        }
        return [
            .chart(
                BarChart("Device cycles that sharing adds, percent (fastest passes)", panels)),
            .table(table),
        ]
    }

    /// Mode and traffic.
    private func panelTitle(_ pair: Pair) -> String {
        let mode = BenchMode(rawValue: pair.mode)?.rawValue ?? pair.mode
        let run = (turns + (cores ?? []) + threads).first { $0.name == pair.shared }
        return ([mode] + [run?.packetBytes.title].compactMap(\.self)).joined(separator: ", ")
    }

    private var stallParts: [SectionPart] {
        if stall.isEmpty { return [] }
        let slots = Set(stall.map(\.slots)).sorted()
        let ways = Set(stall.map(\.slotReturn.rawValue)).sorted(by: >)
        let panels = ways.flatMap { way in
            slots.map { count in
                BarChart.Panel(
                    title: "by the \(way), \(count) slots",
                    bars: stall.filter { $0.slots == count && $0.slotReturn.rawValue == way }.map {
                        .init(
                            label: "\($0.offered)", colour: way == "tail" ? "second" : "own",
                            parts: [$0.splitShare], figure: Numbers.percent($0.splitShare))
                    })
            }
        }
        var table = SortableTable(
            title: "Stall curves",
            columns: [
                .words("slots go back by"), .init(name: "slots"), .init(name: "packets"),
                .init(name: "split", unit: "%"), .init(name: "model", unit: "%"),
                .init(name: "lost", unit: "packets"),
            ])
        table.rows = stall.map {
            [
                .words($0.slotReturn.rawValue), .count($0.slots), .count($0.offered),
                .figure($0.splitShare, Numbers.percent), .figure($0.modelShare, Numbers.percent),
                .count($0.lost),
            ]
        }
        return [
            .paragraph(
                "RQ 0's driver stops harvesting; shown is how much of what the other RQs receive "
                    + "meanwhile is still split, by the packets they receive."),
            .chart(BarChart("Split share of the healthy RQs during a stall, percent", panels)),
            .table(table),
        ]
    }
}
