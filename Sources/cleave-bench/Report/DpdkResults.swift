import CleaveBench

/// What the DPDK benchmark of Benchmarks writes: rte_vhost and libcleave on the same virtqueues.
struct DpdkResults: ResultSection {
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
        /// Plain, or the offloads that they ask for.
        var packets: String?
        var packetBytes: Int
        var ringSize: Int
        var warm: Bool
        var cleave: Spread
        var dpdk: Spread
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
        var cleave: Spread
        var dpdk: Spread
        var ratio: Double?
    }

    struct Abi: Decodable {
        var swift: Spread
        var c: Spread
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

    var parts: [SectionPart] {
        cycleCharts + threadParts + barParts + abiParts + [runTable]
    }

    /// One chart for each operation and ring, of the conditions that the file begins with: the
    /// table has all of them.
    private var cycleCharts: [SectionPart] {
        guard let shape = runs.first?.shape else { return [] }
        let shown = runs.filter { $0.shape == shape }
        let names = shown.map { "\($0.op), \($0.ring) ring" }.reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        let charts = names.map { name -> SectionPart in
            let rows = shown.filter { "\($0.op), \($0.ring) ring" == name }
            let panels = rows.map {
                BarChart.Panel(
                    title: "\($0.packetBytes) B, \($0.title)", dpdk: $0.dpdk, cleave: $0.cleave)
            }
            return .chart(BarChart("Cycles per packet, \(name)", panels))
        }
        return [.paragraph("Charts: \(shape). The table below has all conditions.")] + charts
    }

    private var threadParts: [SectionPart] {
        guard let threads, !threads.isEmpty else { return [] }
        let panels = threads.map {
            BarChart.Panel(
                title: "\($0.ring) ring of \($0.ringSize), \($0.packetBytes) B", dpdk: $0.dpdk,
                cleave: $0.cleave, Numbers.rate)
        }
        var table = SortableTable(
            title: "Device and driver on a core each",
            columns: [
                .words("ring"), .init(name: "packet", unit: "bytes"), .init(name: "ring size"),
            ] + SortableTable.Column.contenders(unit: "Mpps"))
        table.rows = threads.map {
            [.words($0.ring), .count($0.packetBytes), .count($0.ringSize)]
                + SortableTable.Cell.contenders(
                    dpdk: $0.dpdk, cleave: $0.cleave, ratio: $0.ratio, Numbers.rate)
        }
        return [
            .chart(BarChart("Throughput with device and driver on a core each, Mpps", panels)),
            .table(table),
        ]
    }

    private var barParts: [SectionPart] {
        if bars.isEmpty { return [] }
        var table = SortableTable(
            title: "Bars: ratios promised, Cleave / DPDK",
            columns: [
                .words("case"), .init(name: "at most"), .init(name: "measured"), .words("verdict"),
            ])
        table.rows = bars.map { bar in
            let holds = bar.ratio.map { $0 <= bar.limit }
            return [
                .words(bar.name), .ratio(bar.limit), .ratio(bar.ratio),
                .words(
                    holds.map { $0 ? "holds" : "does not hold" } ?? "not measured",
                    isBad: holds == false),
            ]
        }
        return [.table(table)]
    }

    private var abiParts: [SectionPart] {
        guard let abi else { return [] }
        let bars = [("C", "second", abi.c), ("Swift", "own", abi.swift)].map {
            BarChart.Bar(
                label: $0, colour: $1, parts: [$2.median],
                figure: Numbers.marked($2, Numbers.cycles), range: $2)
        }
        return [
            .chart(
                BarChart(
                    "A burst through the C functions and through the Swift class, cycles",
                    [.init(title: "64 B, split ring", bars: bars)]))
        ]
    }

    private var runTable: SectionPart {
        var table = SortableTable(
            title: "All cases",
            columns: [
                .words("op"), .words("ring"), .words("method"), .words("packets"),
                .init(name: "packet", unit: "B"),
                .words("buffers"), .init(name: "ring size"), .words("sources"),
            ] + SortableTable.Column.contenders(unit: "cycles/packet")
                + [.init(name: "ratio", unit: "from mbufs")])
        table.rows = runs.map { row in
            let shape: [SortableTable.Cell] = [
                .words(row.op), .words(row.ring), .words(row.method),
                .words(row.packets ?? "plain"), .count(row.packetBytes), .words(row.buffers),
                .count(row.ringSize), .words(row.warm ? "warm" : "cold"),
            ]
            return shape
                + SortableTable.Cell.contenders(
                    dpdk: row.dpdk, cleave: row.cleave, ratio: row.ratio) + [
                    .ratio(row.ratioFromMbufs)
                ]
        }
        return .table(table)
    }
}
