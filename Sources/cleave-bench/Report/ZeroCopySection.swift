import CleaveBench

extension ZeroCopyDocument: ResultSection {
    var kind: String { "TCP received by mapping" }

    var conditions: [(name: String, text: String)] {
        [
            ("through", ZeroCopyText.conditions(self)),
            ("passes", "\(pairs.count) pairs, one copied and one mapped, alternately"),
            ("interrupted", interrupted),
        ].compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [SectionPart] {
        let note = ratio?.note.map { [SectionPart.paragraph($0)] } ?? []
        return note + [.chart(BarChart("Throughput and the receiver's CPU", panels)), table]
    }

    private var panels: [BarChart.Panel] {
        let ways = [("by copy", "peer", copied), ("mapped", "own", mapped)]
        func panel(_ title: String, _ figure: (Way) -> Spread) -> BarChart.Panel {
            .init(
                title: title,
                bars: ways.compactMap { name, colour, way in
                    way.map(figure).map {
                        .init(
                            label: name, colour: colour, parts: [$0.median],
                            figure: Numbers.marked($0, ZeroCopyText.figure), range: $0)
                    }
                })
        }
        return [
            panel("throughput, GB/s", \.gigabytesPerSecond),
            panel("receiver's CPU, s/GB", \.cpuSecondsPerGigabyte),
            .init(
                title: "proposal, GB/s",
                bars: [
                    ("by copy", proposal.copiedGigabytesPerSecond),
                    ("mapped", proposal.mappedGigabytesPerSecond),
                ].map {
                    .init(label: $0, colour: "second", parts: [$1], figure: Numbers.rate($1))
                }),
        ]
    }

    private var table: SectionPart {
        var table = SortableTable(
            title: "Streams",
            columns: [
                .init(name: "pair"), .words("received"), .init(name: "throughput", unit: "GB/s"),
                .init(name: "receiver's CPU", unit: "ms/GB"), .init(name: "mapped", unit: "%"),
                .init(name: "pages"), .init(name: "calls"),
            ])
        table.rows = pairs.enumerated().flatMap { index, pair in
            ReceiveWay.allCases.map { way in
                let receipt = pair[way]
                return [
                    .count(index + 1), .words(way.rawValue),
                    .figure(receipt.gigabytesPerSecond, ZeroCopyText.figure),
                    .figure(1000 * receipt.cpuSecondsPerGigabyte, ZeroCopyText.figure),
                    .figure(receipt.mappedShare, Numbers.percent), .count(receipt.mappedPages),
                    .count(receipt.calls),
                ]
            }
        }
        return .table(table)
    }
}
