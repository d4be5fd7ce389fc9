import CleaveBench

/// What the parser benchmark of Benchmarks writes: Cleave's header parser beside DPDK's.
struct ParserResults: ResultSection {
    static let schema = "cleave-parser-bench/1"

    struct Row: Decodable {
        var mix: String
        var order: String
        var cleave: Spread
        var dpdk: Spread?
        var ratio: Double?

        var orderWords: String { order == "inOrder" ? "in order" : order }
    }

    var machine: MachineRecord?
    var command: CommandRecord?
    var warnings: [String]?
    var unit: String
    /// Version of DPDK, if it was there.
    var dpdk: String?
    var cpu: Int
    var frames: Int
    var passes: Int
    var results: [Row]

    var kind: String { "Header parsers" }

    var conditions: [(name: String, text: String)] {
        [
            ("versions", dpdk ?? "no rival"),
            ("passes", "\(passes) of each parser, interleaved, on CPU \(cpu)"),
            ("figures", "\(unit), mixes of \(frames) frames"),
        ]
    }

    var parts: [SectionPart] {
        let panels = results.map {
            BarChart.Panel(title: "\($0.mix), \($0.orderWords)", dpdk: $0.dpdk, cleave: $0.cleave)
        }
        var table = SortableTable(
            title: "All mixes",
            columns: [.words("mix"), .words("order")]
                + SortableTable.Column.contenders(unit: "cycles/packet"))
        table.rows = results.map {
            [.words($0.mix), .words($0.orderWords)]
                + SortableTable.Cell.contenders(dpdk: $0.dpdk, cleave: $0.cleave, ratio: $0.ratio)
        }
        return [.chart(BarChart("Cycles per packet by mix", panels)), .table(table)]
    }
}
