import CleaveBench

extension BenchDocument: ResultSection {
    var kind: String { claims == nil ? "Cases" : "Claims for a header queue" }

    /// As this version calls it.
    var modeName: String? { mode.map { BenchMode(rawValue: $0)?.rawValue ?? $0 } }

    var conditions: [(name: String, text: String)] {
        [
            ("mode", mode), ("passes", repeats.map { "\($0) of each case, interleaved" }),
            ("preempted", preemptedCPUs.map(Facts.preempted)), ("interrupted", interrupted),
        ].compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [SectionPart] {
        let table = RunTable(runs: runs)
        let cases: [SectionPart] = [table.table("All cases")]
        if claims != nil {
            return claimParts + table.deviceCharts("Device cycles per packet")
                + table.noiseParts + cases
        }
        if Comparison.telling(runs) != nil { return comparisonParts + cases }
        return table.deviceCharts("Device cycles per packet")
            + table.driverCharts("Driver cycles per packet")
            + table.memoryCharts("Bytes held per packet") + table.noiseParts + cases
    }

    // MARK: Methods side by side

    /// Charts and a table with a column for each method.
    var comparisonParts: [SectionPart] {
        let comparison = Comparison(runs)
        let table = RunTable(runs: runs, comparison: comparison)
        let figures = ComparisonFigure.all(self)
        let remarks = Remarks(style: .plain).lines(runs)
        func part(_ heading: String, _ caption: String) -> [SectionPart] {
            [.heading(heading), .paragraph(caption)]
        }
        var parts = part(
            "Cycles by method and size",
            "TSC ticks per packet delivered, median of the passes. Each panel has its own scale."
        )
        parts += table.deviceCharts("Device") + table.driverCharts("Driver")
        parts += part(
            "Memory by method and traffic",
            "Bytes of buffers and header slot that a packet occupies. Each panel has its own scale."
        )
        parts += table.memoryCharts("Bytes held")
        parts += part(
            "All figures",
            "Medians of the passes; below cycles, least to largest. Shares of packets are the "
                + "deeper in colour the larger they are."
        )
        parts += comparison.rings.map {
            .comparison(ComparisonTable(comparison, ring: $0, figures: figures))
        }
        parts.append(.facts(figures.map { ($0.name, $0.meaning) }))
        if !remarks.isEmpty { parts += [.heading("Remarks"), .list(remarks)] }
        return parts
    }

    // MARK: Claims

    private var claimParts: [SectionPart] {
        guard let claims else { return [] }
        let panels = claims.compactMap { claim -> BarChart.Panel? in
            guard let claimed = claim.claimed, let measured = claim.measured else { return nil }
            func bar(_ label: String, _ value: Double, _ colour: String) -> BarChart.Bar {
                .init(
                    label: label, colour: colour, parts: [value],
                    figure: Numbers.claimed(value, claim.unit ?? ""))
            }
            let verdict = claim.holds ? "holds" : "does not hold"
            let figure = claim.headline.map { ". Shown: \($0.name)" } ?? ""
            return .init(
                title: "\(claim.id). \(claim.title): \(verdict)\(figure)",
                bars: [
                    bar("claimed", claimed, "peer"),
                    bar("measured", measured, claim.holds ? "own" : "bad"),
                ])
        }
        let count = claims.count(where: \.holds)
        return [
            .paragraph(
                "\(count) of \(claims.count) claims hold. Cycles are the least of the passes, and "
                    + "rates the largest."),
            .chart(
                BarChart("Claimed and measured, a figure of each claim", panels)),
            claimTable(claims),
        ]
    }

    private func claimTable(_ claims: [Claim]) -> SectionPart {
        var table = SortableTable(
            title: "Claims",
            columns: [
                .init(name: "claim"), .words("title"), .words("figure"), .words("bound"),
                .init(name: "claimed"), .init(name: "measured"), .words("verdict"),
            ])
        for claim in claims {
            for figure in claim.figures {
                let verdict = figure.holds.map { $0 ? "holds" : "does not hold" } ?? "-"
                table.rows.append([
                    .count(claim.id), .words(claim.title), .words(figure.name),
                    .words(figure.bound?.rawValue ?? "-"),
                    .figure(figure.claimed) { Numbers.claimed($0, figure.unit) },
                    .figure(figure.measured) { Numbers.claimed($0, figure.unit) },
                    .words(verdict, isBad: figure.holds == false),
                ])
            }
        }
        return .table(table)
    }
}
