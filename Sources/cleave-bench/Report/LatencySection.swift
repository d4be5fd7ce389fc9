import CleaveBench

extension LatencyDocument: ResultSection {
    var kind: String { "Latency under load" }

    var conditions: [(name: String, text: String)] {
        [
            ("mode", mode),
            ("passes", repeats.map { "\($0) of \(passMilliseconds) ms of each case and load" }),
            ("arrivals", arrivals), ("highest rate", "within \(tolerancePercent) %"),
            (
                "measuring",
                "clock \(Numbers.fixed(measuring.clockNanoseconds, 1)) ns, records of a packet "
                    + "\(Numbers.fixed(measuring.bookkeepingNanoseconds, 1)) ns"
            ),
            ("preempted", preemptedCPUs.map(Facts.preempted)), ("interrupted", interrupted),
        ].compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [SectionPart] {
        let remarks = Remarks(style: .plain).lines(of: runs)
        return [
            .paragraph(
                "From the time at which a packet was due to be sent until the driver had found it "
                    + "in the used ring: corrected for coordinated omission. Loads are shares of "
                    + "each case's own highest rate at which nothing was lost. Both axes are "
                    + "logarithmic; each step to the right leaves a tenth of the packets. What "
                    + "lies far right is often of the machine, which ran something else."),
            .curves(CurveChart("Latency by percentile, all passes together", panels)), ratesTable,
            table,
        ] + (remarks.isEmpty ? [] : [.heading("Remarks"), .list(remarks)])
    }

    private var panels: [CurveChart.Panel] {
        let names = ShortNames(runs.map(\.name)).names
        return LatencyText.percents(runs).map { percent in
            var seen: [String: Int] = [:]
            var curves: [CurveChart.Curve] = []
            for (run, name) in zip(runs, names) {
                // Counted for every run, so that a case looks the same in all panels.
                let dash = seen[run.colour, default: 0]
                seen[run.colour] = dash + 1
                guard let load = run.loads.first(where: { $0.loadPercent == percent }) else {
                    continue
                }
                curves.append(
                    .init(
                        label: name, colour: run.colour, dash: dash,
                        points: load.responseDistribution, count: load.packets))
            }
            return .init(title: "load \(percent) %", curves: curves)
        }
    }

    private var ratesTable: SectionPart {
        var table = SortableTable(
            title: "Highest lossless rates",
            columns: [
                .words("case"), .words("ring"), .init(name: "rate", unit: "Mpps"),
                .init(name: "trials"), .init(name: "split", unit: "%"),
                .init(name: "verified", unit: "packets"), .init(name: "bad", unit: "packets"),
            ])
        table.rows = runs.map {
            var bad = SortableTable.Cell.count($0.verify.bad)
            bad.isBad = $0.verify.bad > 0
            let share = $0.packets > 0 ? Double($0.split) / Double($0.packets) : nil
            return [
                .words($0.name), .words($0.ring), .figure($0.losslessMpps, Numbers.rate),
                .count($0.trials.count), .figure(share, Numbers.percent),
                .count($0.verify.packets), bad,
            ]
        }
        return .table(table)
    }

    private var table: SectionPart {
        let clocks = ["latency", "from sending"]
        var table = SortableTable(
            title: "Latencies",
            columns: [
                .words("case"), .init(name: "load", unit: "%"),
                .init(name: "offered", unit: "Mpps"), .init(name: "packets"),
            ]
                + clocks.flatMap { clock in
                    ["p50", "p90", "p99", "p99.9", "max"].flatMap { name in
                        [
                            SortableTable.Column(name: "\(clock) \(name)", unit: "us"),
                            SortableTable.Column(name: "", unit: "range"),
                        ]
                    }
                } + [.init(name: "lost", unit: "packets")])
        table.rows = runs.flatMap { run in
            run.loads.map { load in
                var lost = SortableTable.Cell.count(load.lost)
                lost.isBad = load.lost > 0
                return [
                    .words(run.name), .count(load.loadPercent),
                    .figure(load.offeredMpps, Numbers.rate), .count(load.packets),
                ]
                    + (load.response.named + load.service.named).flatMap {
                        [
                            SortableTable.Cell.median($0.spread, Self.microseconds),
                            .range($0.spread, Self.microseconds),
                        ]
                    } + [lost]
            }
        }
        return .table(table)
    }

    private static func microseconds(_ nanoseconds: Double) -> String {
        Numbers.rate(nanoseconds / 1000)
    }

    var comparedFigures: [ComparedFigure] {
        runs.flatMap { run -> [ComparedFigure] in
            let rate = ComparedFigure(
                run.name, "highest lossless rate", "Mpps", run.losslessMpps, better: .more)
            let loads = run.loads.flatMap { load in
                load.response.named.map {
                    ComparedFigure(
                        "\(run.name), load \(load.loadPercent) %", $0.name, "ns", $0.spread,
                        better: .less)
                }
            }
            return ([rate] + loads).compactMap(\.self)
        }
    }
}

extension LatencyDocument.Run {
    /// Style class of its method and report.
    fileprivate var colour: String {
        Comparison.Column(ring: ring, method: method, report: report).colour
    }
}
