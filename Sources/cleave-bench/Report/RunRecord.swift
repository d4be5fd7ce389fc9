/// A case with its figures, as `cleave-bench/1` and `cleave-bench-scale/1` hold it.
struct RunRecord: Decodable {
    struct Phases: Decodable {
        var refill: SpreadRecord
        var harvest: SpreadRecord
        var `return`: SpreadRecord
    }

    struct Verify: Decodable {
        var packets: Int
        var corrupt: Int
        var lost: Int
    }

    struct Memory: Decodable {
        var headerBytes: Int
    }

    var name: String
    var method: String
    var report: String?
    var ring: String
    var rqs: Int
    var packetBytes: PacketRecord
    var mpps: SpreadRecord
    var gbps: SpreadRecord
    var deviceCyclesPerPacket: SpreadRecord
    var driverCyclesPerPacket: SpreadRecord
    var driverCycles: Phases?
    var bytesHeldPerPacket: Double?
    var wastedShare: Double?
    var payloadAloneShare: Double?
    var pageAlignedShare: Double?
    var packets: Double
    var split: Double
    var verify: Verify
    var memory: Memory

    /// As short as a bar's name has to be: `whole`, `A`, `D used`, `D net`.
    var methodLabel: String {
        guard method != "whole" else { return "whole" }
        let letter = method.uppercased()
        switch report {
        case "netHeader": return "\(letter) net"
        case "usedElement": return "\(letter) used"
        default: return letter
        }
    }

    /// Style class; what this version has no colour for is drawn in ink.
    var colour: String {
        guard ["whole", "a", "b", "c", "d"].contains(method) else { return "ink" }
        return "m-\(method)" + (method == "d" && report == "netHeader" ? "-net" : "")
    }

    var splitShare: Double { packets > 0 ? split / packets : .nan }
}

/// Charts and a table of cases.
struct RunTable {
    let runs: [RunRecord]

    /// Rings in the order of the file.
    private var rings: [String] {
        runs.map(\.ring).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// A chart for each ring: a panel for each traffic with a bar for each method, or a bar for
    /// each case by its full name where the cases differ in more than that.
    func charts(
        _ title: String, parts: [String] = [],
        _ bar: (RunRecord) -> (parts: [Double], figure: String)?
    ) -> [ReportPart] {
        rings.compactMap { ring in
            let runs = runs.filter { $0.ring == ring }
            let panels = panels(runs, bar)
            if panels.allSatisfy(\.bars.isEmpty) { return nil }
            return .chart(.fitting("\(title), \(ring) ring", partNames: parts, panels))
        }
    }

    private func panels(
        _ runs: [RunRecord], _ bar: (RunRecord) -> (parts: [Double], figure: String)?
    ) -> [BarChart.Panel] {
        func one(_ run: RunRecord, _ label: String) -> BarChart.Bar? {
            bar(run).map {
                .init(label: label, colour: run.colour, parts: $0.parts, figure: $0.figure)
            }
        }
        let keys = Set(runs.map { "\($0.packetBytes.text)/\($0.methodLabel)" })
        if keys.count < runs.count {
            // Of all rings, so that a ring's chart still says which of them it is.
            let all = zip(self.runs, BarChart.telling(self.runs.map(\.name)))
            return [
                .init(
                    title: "",
                    bars: all.filter { $0.0.ring == runs.first?.ring }.compactMap {
                        one($0, $1)
                    })
            ]
        }
        let traffic = runs.map(\.packetBytes.text).reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        return traffic.map { packet in
            let of = runs.filter { $0.packetBytes.text == packet }
            return .init(title: packet, bars: of.compactMap { one($0, $0.methodLabel) })
        }
    }

    func deviceCharts(_ title: String) -> [ReportPart] {
        charts(title) {
            let cycles = $0.deviceCyclesPerPacket.value
            return ([cycles], Numbers.cycles(cycles))
        }
    }

    func table(_ title: String) -> ReportPart {
        var table = SortableTable(
            title: title,
            columns: [
                .words("case"), .words("ring"), .init(name: "rate", unit: "Mpps"),
                .init(name: "rate", unit: "Gbit/s"), .init(name: "device", unit: "cycles/packet"),
                .init(name: "", unit: "range"), .init(name: "driver", unit: "cycles/packet"),
                .init(name: "split", unit: "%"), .init(name: "held", unit: "bytes/packet"),
                .init(name: "wasted", unit: "%"), .init(name: "payload alone", unit: "%"),
                .init(name: "page-aligned", unit: "%"), .init(name: "verified", unit: "packets"),
                .init(name: "bad", unit: "packets"),
            ])
        table.rows = runs.map(Self.row)
        return .table(table)
    }

    private static func row(_ run: RunRecord) -> [SortableTable.Cell] {
        let bad = run.verify.corrupt + run.verify.lost
        var badCell = SortableTable.Cell.count(bad)
        badCell.isBad = bad > 0
        return [
            .words(run.name), .words(run.ring), .figure(run.mpps.median, Numbers.rate),
            .figure(run.gbps.median, Numbers.rate),
            .figure(run.deviceCyclesPerPacket.median, Numbers.cycles),
            .init(text: run.deviceCyclesPerPacket.range, value: run.deviceCyclesPerPacket.min),
            .figure(run.driverCyclesPerPacket.median, Numbers.cycles),
            .figure(run.splitShare, Numbers.percent),
            .figure(run.bytesHeldPerPacket) { Numbers.fixed($0, 0) },
            .figure(run.wastedShare, Numbers.percent),
            .figure(run.payloadAloneShare, Numbers.percent),
            .figure(run.pageAlignedShare, Numbers.percent), .count(run.verify.packets), badCell,
        ]
    }
}
