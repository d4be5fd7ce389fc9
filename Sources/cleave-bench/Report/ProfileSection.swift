import CleaveBench

extension ProfileDocument: ResultSection {
    var kind: String { "Cycles by stage" }

    var conditions: [(name: String, text: String)] {
        [
            ("process", processID.map { "attached to process \($0)" }),
            ("interrupted", interrupted),
        ].compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [SectionPart] {
        let panels = runs.map { run in
            BarChart.Panel(
                title: run.name,
                bars: run.stages.map { stage in
                    let cycles = stage.cyclesPerPacket
                    return .init(
                        label: stage.name, colour: stage.name == run.costliest ? "own" : "peer",
                        parts: [cycles.median], figure: Numbers.marked(cycles, Numbers.cycles),
                        range: cycles)
                })
        }
        return [
            .chart(BarChart("Cycles per packet by stage, the costliest in colour", panels)),
            pollTable, stageTable,
        ]
    }

    private var pollTable: SectionPart {
        var table = SortableTable(
            title: "Polls",
            columns: [
                .words("case"), .words("costliest stage"),
                .init(name: "poll", unit: "cycles/packet"), .init(name: "", unit: "range"),
                .init(name: "plain poll", unit: "cycles/packet"),
                .init(name: "profiling adds", unit: "%, fastest passes"),
                .init(name: "bare copy", unit: "cycles/packet"),
                .init(name: "copy's share", unit: "% of the poll"), .init(name: "packets"),
            ])
        table.rows = runs.map { run in
            let poll = run.turnCyclesPerPacket
            return [
                .words(run.name), .words(run.costliest ?? "-"),
                .median(poll, Numbers.cycles), .range(poll),
                .figure(run.plainTurnCyclesPerPacket?.median, Numbers.cycles),
                .figure(run.leastOverheadPercent) { Numbers.fixed($0, 1) },
                .figure(run.copyLimit?.cyclesPerPacket.median, Numbers.cycles),
                // A part is not more than the whole: one of the two was disturbed.
                .figure(run.copyLimit?.share.flatMap { $0 <= 1 ? 100 * $0 : nil }) {
                    Numbers.fixed($0, 0)
                },
                .figure(run.packets.map { Double($0) }) { Numbers.fixed($0, 0) },
            ]
        }
        return .table(table)
    }

    private var stageTable: SectionPart {
        var table = SortableTable(
            title: "Stages",
            columns: [
                .words("case"), .words("stage"), .init(name: "cycles", unit: "per packet"),
                .init(name: "", unit: "range"), .init(name: "cycles", unit: "per burst"),
                .init(name: "99 % within", unit: "cycles/packet"),
                .init(name: "read", unit: "bytes/packet"),
                .init(name: "written", unit: "bytes/packet"),
            ])
        for run in runs {
            table.rows += run.stages.map { stage in
                let cycles = stage.cyclesPerPacket
                return [
                    .words(run.name), .words(stage.name), .median(cycles, Numbers.cycles),
                    .range(cycles),
                    .figure(stage.cyclesPerBurst, Numbers.cycles),
                    .figure(stage.perPacket?.p99, Numbers.cycles),
                    .figure(stage.bytesRead, Numbers.rate),
                    .figure(stage.bytesWritten, Numbers.rate),
                ]
            }
        }
        return .table(table)
    }
}
