/// What the DPDK benchmark of Benchmarks writes: rte_vhost and libcleave on the same virtqueues.
struct DpdkResults: ResultReader {
    static let schema = "cleave-dpdk/1"

    struct Facts: Decodable {
        var versions: String
        var cpu: Int
        var repeats: Int
    }

    struct Row: Decodable {
        var op: String
        var ring: String
        var buffers: String
        var method: String
        /// Plain, or what they ask for.
        var packets: String?
        var packetBytes: Int
        var ringSize: Int
        var warm: Bool
        var cleave: SpreadRecord
        var dpdk: SpreadRecord
        var ratio: Double?
        var ratioFromMbufs: Double?

        var title: String {
            let method = method == "d" ? "D" : method
            return packets.map { $0 == "plain" ? method : "\(method), \($0)" } ?? method
        }

        var shape: String {
            "\(buffers) buffers, ring of \(ringSize), \(warm ? "warm" : "cold") sources"
        }
    }

    struct Bar: Decodable {
        var name: String
        var limit: Double
        var ratio: Double?
    }

    struct Threads: Decodable {
        var ring: String
        var packetBytes: Int
        var ringSize: Int
        var cleave: SpreadRecord
        var dpdk: SpreadRecord
        var ratio: Double?
    }

    struct Abi: Decodable {
        var swift: SpreadRecord
        var c: SpreadRecord
        var difference: Double?
    }

    var machine: MachineRecord?
    var command: CommandRecord?
    var warnings: [String]?
    var unit: String
    var burst: Int
    var facts: Facts
    var runs: [Row]
    var bars: [Bar]
    var abi: Abi?
    var threads: [Threads]?

    var kind: String { "Beside DPDK's vhost library" }

    var conditions: [(name: String, text: String)] {
        [
            ("versions", facts.versions),
            ("passes", "\(facts.repeats) of each contender, interleaved, on CPU \(facts.cpu)"),
            ("figures", "\(unit), bursts of \(burst)"),
        ]
    }

    var parts: [ReportPart] {
        cycleCharts + threadParts + barParts + abiParts + [runTable]
    }

    /// One chart for each operation and ring, of the conditions that the file begins with: the
    /// table has all of them.
    private var cycleCharts: [ReportPart] {
        guard let shape = runs.first?.shape else { return [] }
        let shown = runs.filter { $0.shape == shape }
        let names = shown.map { "\($0.op), \($0.ring) ring" }.reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        let charts = names.map { name -> ReportPart in
            let rows = shown.filter { "\($0.op), \($0.ring) ring" == name }
            let panels = rows.map { row in
                BarChart.Panel(
                    title: "\(row.packetBytes) B, \(row.title)",
                    bars: Self.pair(dpdk: row.dpdk, cleave: row.cleave, Numbers.cycles))
            }
            return .chart(.fitting("Cycles per packet, \(name)", panels))
        }
        return [.paragraph("Charts: \(shape). The table below has all conditions.")] + charts
    }

    private static func pair(
        dpdk: SpreadRecord, cleave: SpreadRecord, _ format: (Double) -> String
    ) -> [BarChart.Bar] {
        [("DPDK", "peer", dpdk), ("Cleave", "own", cleave)].map { label, colour, spread in
            .init(
                label: label, colour: colour, parts: [spread.value], figure: format(spread.value))
        }
    }

    private var threadParts: [ReportPart] {
        guard let threads, !threads.isEmpty else { return [] }
        let panels = threads.map { one in
            BarChart.Panel(
                title: "\(one.ring) ring of \(one.ringSize), \(one.packetBytes) B",
                bars: Self.pair(dpdk: one.dpdk, cleave: one.cleave, Numbers.rate))
        }
        var table = SortableTable(
            title: "Device and driver on a core each",
            columns: [
                .words("ring"), .init(name: "packet", unit: "bytes"), .init(name: "ring size"),
                .init(name: "DPDK", unit: "Mpps"), .init(name: "", unit: "range"),
                .init(name: "Cleave", unit: "Mpps"), .init(name: "", unit: "range"),
                .init(name: "ratio", unit: "Cleave / DPDK"),
            ])
        table.rows = threads.map { one in
            [
                .words(one.ring), .count(one.packetBytes), .count(one.ringSize),
                .figure(one.dpdk.median, Numbers.rate),
                .init(text: one.dpdk.range, value: one.dpdk.min),
                .figure(one.cleave.median, Numbers.rate),
                .init(text: one.cleave.range, value: one.cleave.min),
                .figure(one.ratio) { Numbers.fixed($0, 2) },
            ]
        }
        return [
            .chart(.fitting("Throughput with device and driver on a core each, Mpps", panels)),
            .table(table),
        ]
    }

    private var barParts: [ReportPart] {
        if bars.isEmpty { return [] }
        var table = SortableTable(
            title: "Bars: ratios promised, Cleave / DPDK",
            columns: [
                .words("case"), .init(name: "at most"), .init(name: "measured"), .words("verdict"),
            ])
        table.rows = bars.map { bar in
            let holds = bar.ratio.map { $0 <= bar.limit }
            return [
                .words(bar.name), .figure(bar.limit) { Numbers.fixed($0, 2) },
                .figure(bar.ratio) { Numbers.fixed($0, 2) },
                .words(
                    holds.map { $0 ? "holds" : "does not hold" } ?? "not measured",
                    isBad: holds == false),
            ]
        }
        return [.table(table)]
    }

    private var abiParts: [ReportPart] {
        guard let abi else { return [] }
        let bars = [("C", "second", abi.c), ("Swift", "own", abi.swift)].map {
            BarChart.Bar(
                label: $0, colour: $1, parts: [$2.value], figure: Numbers.cycles($2.value))
        }
        return [
            .chart(
                .fitting(
                    "A burst through the C functions and through the Swift class, cycles",
                    [.init(title: "64 B, split ring", bars: bars)]))
        ]
    }

    private var runTable: ReportPart {
        var table = SortableTable(
            title: "All cases",
            columns: [
                .words("op"), .words("ring"), .words("method"), .words("packets"),
                .init(name: "packet", unit: "B"),
                .words("buffers"), .init(name: "ring size"), .words("sources"),
                .init(name: "DPDK", unit: "cycles/packet"), .init(name: "", unit: "range"),
                .init(name: "Cleave", unit: "cycles/packet"), .init(name: "", unit: "range"),
                .init(name: "ratio"), .init(name: "ratio", unit: "from mbufs"),
            ])
        table.rows = runs.map { row in
            [
                .words(row.op), .words(row.ring), .words(row.method),
                .words(row.packets ?? "plain"),
                .count(row.packetBytes),
                .words(row.buffers), .count(row.ringSize), .words(row.warm ? "warm" : "cold"),
                .figure(row.dpdk.median, Numbers.cycles),
                .init(text: row.dpdk.range, value: row.dpdk.min),
                .figure(row.cleave.median, Numbers.cycles),
                .init(text: row.cleave.range, value: row.cleave.min),
                .figure(row.ratio) { Numbers.fixed($0, 2) },
                .figure(row.ratioFromMbufs) { Numbers.fixed($0, 2) },
            ]
        }
        return .table(table)
    }
}
