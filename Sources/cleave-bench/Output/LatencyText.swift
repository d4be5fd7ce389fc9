import CleaveBench
import CleaveProgramSupport

/// Latencies as tables for people: machine above, legend below.
struct LatencyText {
    let style: Style
    /// Prints the tables and what does not fit into them, without facts and legend.
    var isQuiet = false

    func text(_ report: LatencyReport, _ document: LatencyDocument) -> String {
        var sections: [String] = []
        if !isQuiet {
            sections.append(
                MachineText.lines(
                    MachineText.facts(report.machine) + places(report)
                        + ["mode     \(mode(document))", "method   \(Self.method(document))"],
                    warnings: report.warnings, style))
        }
        if !document.runs.isEmpty {
            sections += [rates(document.runs), latencies(document.runs)]
        }
        sections.append(remarks(document.runs).map { $0 + "\n" }.joined())
        if !isQuiet && report.interruption == nil {
            sections.append(
                TextWrap.text(
                    Self.legend, width: style.width ?? TextWrap.usualWidth, indentation: 2))
        }
        return sections.filter { !$0.isEmpty }.joined(separator: "\n")
    }

    // MARK: Facts

    private func places(_ report: LatencyReport) -> [String] {
        PlacementText.lines(report.queuePlan, report.residence)
    }

    private func mode(_ document: LatencyDocument) -> String {
        let count = document.repeats ?? 0
        let passes = count == 1 ? "1 pass" : "\(count) passes"
        return "\(document.mode ?? ""), \(passes) of \(document.passMilliseconds) ms of each case "
            + "and load, interleaved; arrivals \(document.arrivals); highest lossless rate "
            + "within \(document.tolerancePercent) %"
    }

    /// What measuring costs, and how often the driver looked.
    private static func method(_ document: LatencyDocument) -> String {
        let passes = document.runs.flatMap(\.loads).flatMap(\.passes)
        let rounds = Spread(passes.map(\.roundNanoseconds))
        let looks = rounds.map {
            "; the driver looked every \(Numbers.fixed($0.min, 0)) to "
                + "\(Numbers.fixed($0.max, 0)) ns in the mean"
        }
        let cost = document.measuring
        return "a reading of the clock takes \(Numbers.fixed(cost.clockNanoseconds, 1)) ns, "
            + "the records of a packet \(Numbers.fixed(cost.bookkeepingNanoseconds, 1)) ns"
            + (looks ?? "")
    }

    // MARK: Tables

    private func rates(_ runs: [LatencyDocument.Run]) -> String {
        ShortNames.table(of: runs.map(\.name), style: style) { names in
            var table = TextTable(columns: [
                .init("highest lossless rate", alignment: .left), .init("rate", "Mpps"),
                .init("trials", rank: 2), .init("split", "%", rank: 1),
                .init("verified", "packets/bad", rank: 1),
            ])
            for (run, name) in zip(runs, names) {
                table.append(
                    [
                        name, Numbers.rate(run.losslessMpps), "\(run.trials.count)",
                        run.method == "whole" ? "-" : Numbers.percent(run.split, of: run.packets),
                        "\(run.verify.packets)/\(run.verify.bad)",
                    ], isBad: run.verify.bad > 0)
            }
            return table
        }
    }

    private func latencies(_ runs: [LatencyDocument.Run]) -> String {
        ShortNames.table(of: runs.map(\.name), style: style) { latencies(runs, names: $0) }
    }

    private func latencies(_ runs: [LatencyDocument.Run], names: [String]) -> TextTable {
        var table = TextTable(columns: [
            .init("latency", alignment: .left), .init("offered", "Mpps"), .init("p50", "us"),
            .init("p99", "us"), .init("p99.9", "us"), .init("max", "us"),
            .init("sent:", "p50 us", rank: 3), .init("", "p99 us", rank: 1),
            .init("", "max us", rank: 2), .init("lost", rank: 4),
        ])
        let empty = Array(repeating: "", count: 9)
        for percent in Self.percents(runs) {
            table.append(["load \(percent) %"] + empty)
            for (run, name) in zip(runs, names) {
                guard let load = run.loads.first(where: { $0.loadPercent == percent }) else {
                    continue
                }
                let (response, service) = (load.response, load.service)
                table.append(
                    [
                        "  \(name)", Numbers.rate(load.offeredMpps), Self.time(response.p50),
                        Self.time(response.p99), Self.time(response.p999),
                        Self.plain(response.max), Self.time(service.p50),
                        Self.time(service.p99), Self.plain(service.max), "\(load.lost)",
                    ], isBad: load.lost > 0)
            }
        }
        return table
    }

    /// All loads, the lowest first.
    static func percents(_ runs: [LatencyDocument.Run]) -> [Int] {
        Set(runs.flatMap(\.loads).map(\.loadPercent)).sorted()
    }

    /// A median in microseconds, marked if the passes lie too far apart.
    static func time(_ nanoseconds: Spread) -> String {
        Numbers.marked(nanoseconds) { Numbers.rate($0 / 1000) }
    }

    /// The same without a mark: largest latencies never agree.
    private static func plain(_ nanoseconds: Spread) -> String {
        Numbers.rate(nanoseconds.median / 1000)
    }

    // MARK: Remarks

    private func remarks(_ runs: [LatencyDocument.Run]) -> [String] {
        let loads = runs.flatMap { run in run.loads.map { (run.name, $0) } }
        let noisy = loads.count { _, load in
            [load.response.p50, load.response.p99, load.response.p999].contains(where: \.isNoisy)
        }
        let noise = Numbers.noiseRemark(noisy, of: loads.count, "rows").map { style.yellow($0) }
        let lost = loads.filter { $0.1.lost > 0 }.map { name, load in
            style.red(
                "\(name), load \(load.loadPercent) %: \(load.dropped) dropped, \(load.unsent) "
                    + "never sent: the case did not keep up, and its latencies are too low")
        }
        return ([noise].compactMap(\.self) + lost).map {
            TextWrap.text($0, width: style.width, indentation: 2)
        } + Remarks(style: style).lines(of: runs)
    }

    private static let legend = """
        latency: from the time at which a packet was due to be sent until the driver had found it \
        in the used ring, so corrected for coordinated omission; medians of the passes. sent: the \
        same from the time at which it was sent, uncorrected.
        load: in percent of the case's own highest lossless rate: the highest at which no packet \
        was dropped and no more waited, when the last one was due, than the rings hold.
        max: of a pass, the median of the passes; on a virtual machine or a busy one it is the \
        time for which something else ran.

        """
}
