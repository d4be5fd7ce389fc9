import CleaveBench

/// Charts and a table of cases.
struct RunTable {
    let runs: [RunRecord]
    /// How panels and bars are arranged; nil for a bar for each case by its full name.
    var comparison: Comparison?

    /// A chart for each ring: a panel for each traffic, in it a bar for each method, or for each
    /// case by the part of its name that tells it from the others.
    private func charts(
        _ title: String, parts: [String] = [],
        _ bar: (RunRecord) -> (parts: [Double], figure: String, range: Spread?)?
    ) -> [SectionPart] {
        let rings = (comparison ?? Comparison(runs)).rings
        return rings.compactMap { ring in
            let panels = panels(ring) { run, label in
                bar(run).map {
                    BarChart.Bar(
                        label: label, colour: run.column.colour, parts: $0.parts,
                        figure: $0.figure, range: $0.range)
                }
            }
            if panels.allSatisfy(\.bars.isEmpty) { return nil }
            return .chart(BarChart("\(title), \(ring) ring", partNames: parts, panels))
        }
    }

    private func panels(
        _ ring: String, _ bar: (RunRecord, String) -> BarChart.Bar?
    ) -> [BarChart.Panel] {
        if let comparison {
            let columns = comparison.columns(of: ring)
            return comparison.groups.map { group in
                .init(
                    title: group.title,
                    bars: columns.compactMap { column in
                        group.runs[column].flatMap { bar($0, column.label) }
                    })
            }
        }
        let packets = runs.map(\.packetBytes).reduce(into: [PacketRecord]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        return packets.map { packet in
            // Of all rings, so that a ring's chart still says which of them it is.
            let members = runs.filter { $0.packetBytes == packet }
            let named = zip(members, ShortNames(members.map(\.name)).names)
            return .init(
                title: packet.title,
                bars: named.filter { $0.0.ring == ring }.compactMap { bar($0, $1) })
        }
    }

    func deviceCharts(_ title: String) -> [SectionPart] {
        charts(title) {
            let cycles = $0.deviceCyclesPerPacket
            return ([cycles.median], Numbers.marked(cycles, Numbers.cycles), cycles)
        }
    }

    func driverCharts(_ title: String) -> [SectionPart] {
        charts(title, parts: ["refill", "harvest", "return"]) { run in
            run.driverCycles.map {
                (
                    [$0.refill, $0.harvest, $0.giveBack].map(\.median),
                    Numbers.marked(run.driverCyclesPerPacket, Numbers.cycles),
                    run.driverCyclesPerPacket
                )
            }
        }
    }

    func memoryCharts(_ title: String) -> [SectionPart] {
        charts(title, parts: ["packet", "wasted"]) { run in
            guard let held = run.bytesHeldPerPacket, let wasted = run.wastedShare else {
                return nil
            }
            return ([held * (1 - wasted), held * wasted], Numbers.fixed(held, 0), nil)
        }
    }

    /// What the mark of disturbed figures means, if there are any.
    var noiseParts: [SectionPart] {
        let count = runs.count(where: \.isNoisy)
        return Numbers.noiseRemark(count, of: runs.count, "cases").map { [.warning($0)] } ?? []
    }

    func table(_ title: String) -> SectionPart {
        var table = SortableTable(
            title: title,
            columns: [
                .words("case"), .words("ring"), .init(name: "rate", unit: "Mpps"),
                .init(name: "", unit: "range"), .init(name: "rate", unit: "Gbit/s"),
                .init(name: "device", unit: "cycles/packet"), .init(name: "", unit: "range"),
                .init(name: "driver", unit: "cycles/packet"), .init(name: "", unit: "range"),
                .init(name: "split", unit: "%"), .init(name: "held", unit: "bytes/packet"),
                .init(name: "wasted", unit: "%"), .init(name: "payload alone", unit: "%"),
                .init(name: "page-aligned", unit: "%"), .init(name: "verified", unit: "packets"),
                .init(name: "bad", unit: "packets"),
            ])
        table.rows = runs.map(Self.row)
        return .table(table)
    }

    private static func row(_ run: RunRecord) -> [SortableTable.Cell] {
        var badCell = SortableTable.Cell.count(run.verify.bad)
        badCell.isBad = run.verify.bad > 0
        return [
            .words(run.name), .words(run.ring), .median(run.mpps, Numbers.rate),
            .range(run.mpps, Numbers.rate), .median(run.gbps, Numbers.rate),
            .median(run.deviceCyclesPerPacket, Numbers.cycles),
            .range(run.deviceCyclesPerPacket),
            .median(run.driverCyclesPerPacket, Numbers.cycles),
            .range(run.driverCyclesPerPacket),
            .figure(run.splitShare, Numbers.percent),
            .figure(run.bytesHeldPerPacket) { Numbers.fixed($0, 0) },
            .figure(run.wastedShare, Numbers.percent),
            .figure(run.payloadAloneShare, Numbers.percent),
            .figure(run.pageAlignedShare, Numbers.percent), .count(run.verify.packets), badCell,
        ]
    }
}
