import CleaveBench

/// What the ring benchmark of Benchmarks writes: rings of several projects between two cores.
struct RingResults: ResultSection {
    static let schema = "cleave-ring-bench/1"

    struct Row: Decodable {
        var ring: String
        var burst: Int
        var median: Double?
        var min: Double?
        var max: Double?

        var spread: Spread? {
            median.map { Spread(median: $0, min: min ?? $0, max: max ?? $0) }
        }
    }

    var machine: MachineRecord?
    var command: CommandRecord?
    var warnings: [String]?
    var unit: String
    var elementBytes: Int
    var capacity: Int
    var producerCPU: Int
    var consumerCPU: Int
    var repeats: Int
    var results: [Row]

    var kind: String { "Rings between two cores" }

    var conditions: [(name: String, text: String)] {
        let cpus =
            producerCPU == consumerCPU
            ? "both ends on CPU \(producerCPU), in turns: says nothing about cores"
            : "producer on CPU \(producerCPU), consumer on CPU \(consumerCPU)"
        return [
            ("ring", "\(capacity) slots of \(elementBytes) bytes; \(cpus)"),
            ("passes", "\(repeats) of each ring, interleaved"),
        ]
    }

    var parts: [SectionPart] {
        let panels = Set(results.map(\.burst)).sorted().map { burst in
            BarChart.Panel(
                title: burst == 1 ? "one by one" : "bursts of \(burst)",
                bars: results.filter { $0.burst == burst }.map {
                    .init(
                        label: $0.ring, colour: $0.ring.contains("Cleave") ? "own" : "peer",
                        parts: [$0.median ?? .nan], figure: Numbers.rate($0.median ?? .nan),
                        range: $0.spread)
                })
        }
        var table = SortableTable(
            title: "All rings",
            columns: [
                .words("ring"), .init(name: "burst"), .init(name: "median", unit: unit),
                .init(name: "least"), .init(name: "largest"),
            ])
        table.rows = results.map {
            [
                .words($0.ring), .count($0.burst), .figure($0.median, Numbers.rate),
                .figure($0.min, Numbers.rate), .figure($0.max, Numbers.rate),
            ]
        }
        return [.chart(BarChart("Throughput, \(unit)", panels)), .table(table)]
    }
}
