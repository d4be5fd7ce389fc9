import CleaveBench

/// Latencies for spreadsheets: a heading and one row per case and load; times are nanoseconds.
enum LatencyCSV {
    private static let first = [
        "name", "mode", "method", "report", "ring", "buffers", "ringSize", "burst", "rqs",
        "sharing", "slotReturn", "slotSize", "slots", "packetBytes", "arrivals", "losslessMpps",
        "loadPercent", "offeredMpps", "packets", "dropped", "unsent",
    ]

    private static let percentiles = ["P50", "P90", "P99", "P999", "Max"]

    static let heading =
        first
        + ["response", "service"].flatMap { clock in
            percentiles.flatMap { ["\(clock)\($0)Median", "\(clock)\($0)Min", "\(clock)\($0)Max"] }
        } + ["noSlot"]

    static func text(_ document: LatencyDocument) -> String {
        ReportCSV.text(
            heading: heading,
            document.runs.flatMap { run in run.loads.map { row(document, run, $0) } })
    }

    private static func row(
        _ document: LatencyDocument, _ run: LatencyDocument.Run, _ load: LatencyDocument.Load
    ) -> [String] {
        let values: [Any?] = [
            run.name, document.mode, run.method, run.report, run.ring, run.buffers, run.ringSize,
            run.burst, run.rqs, run.sharing, run.slotReturn, run.slotSize, run.slots,
            run.packetBytes.name, document.arrivals, run.losslessMpps, load.loadPercent,
            load.offeredMpps, load.packets, load.dropped, load.unsent,
        ]
        let spreads = (load.response.named + load.service.named).map(\.spread)
        return values.map(ReportCSV.field)
            + spreads.flatMap { spread -> [Double] in [spread.median, spread.min, spread.max] }
            .map { ReportCSV.field($0) }
            + [ReportCSV.field(run.noSlot?.packets ?? 0)]
    }
}
