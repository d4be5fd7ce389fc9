import CleaveBench

// DPDK's figures beside Cleave's, as the comparisons of Benchmarks show them.

extension BarChart.Panel {
    /// Without a bar for DPDK if it was not there.
    init(
        title: String, dpdk: Spread?, cleave: Spread, _ format: (Double) -> String = Numbers.cycles
    ) {
        self.title = title
        bars = [("DPDK", "peer", dpdk), ("Cleave", "own", cleave)].compactMap {
            label, colour, spread in
            guard let spread else { return nil }
            return .init(
                label: label, colour: colour, parts: [spread.median],
                figure: Numbers.marked(spread, format), range: spread)
        }
    }
}

extension SortableTable.Column {
    static func contenders(unit: String) -> [SortableTable.Column] {
        ["DPDK", "Cleave"].flatMap {
            [.init(name: $0, unit: unit), .init(name: "", unit: "range")]
        }
            + [.init(name: "ratio", unit: "Cleave / DPDK")]
    }
}

extension SortableTable.Cell {
    static func contenders(
        dpdk: Spread?, cleave: Spread, ratio: Double?,
        _ format: (Double) -> String = Numbers.cycles
    ) -> [SortableTable.Cell] {
        [dpdk, cleave].flatMap { [.median($0, format), .range($0, format)] } + [.ratio(ratio)]
    }

    static func ratio(_ ratio: Double?) -> SortableTable.Cell {
        .figure(ratio) { Numbers.fixed($0, 2) }
    }
}
