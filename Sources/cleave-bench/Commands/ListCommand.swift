import ArgumentParser
import CleaveBench
import CleaveProgramSupport

/// Says what `run` would run.
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the cases that 'run' would run, without running them.",
        discussion: "Takes the same options. Example: list --config configs/bench/imix.yaml")

    @OptionGroup var options: PlanOptions

    func run() throws {
        let (plan, warnings) = try PlanBuilder.plan(try options.request())
        let style = Style(stream: .output, isAllowed: false)
        var text = MachineText.lines([], warnings: warnings, style)
        text += Self.table(plan, style)
        let packets = plan.packetsPerRepeat.map { "\($0)" } ?? "about 50 ms worth of"
        text += "\n\(plan.cases.count) cases, mode \(plan.mode.rawValue), "
        text += "\(plan.repeats) passes of \(packets) packets\n"
        try Stream.output.write(text)
    }

    static func table(_ plan: BenchPlan, _ style: Style) -> String {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("packet", alignment: .left, rank: 9),
            .init("method", alignment: .left, rank: 8),
            .init("report", alignment: .left, rank: 8), .init("ring", alignment: .left, rank: 1),
            .init("buffers", alignment: .left, rank: 7), .init("buffer", "bytes", rank: 3),
            .init("ring", "size", rank: 1), .init("burst", rank: 1), .init("RQs", rank: 1),
            .init("slots", rank: 2), .init("slot", "bytes", rank: 4),
            .init("header", "queue", alignment: .left, rank: 5), .init("hash", rank: 6),
            .init("consumer", alignment: .left, rank: 4),
        ])
        for one in plan.cases {
            let split = one.method == .d
            table.append([
                one.displayName, one.packetName, one.method.rawValue,
                one.effectiveReport?.rawValue ?? "-", one.ring.rawValue, one.buffers.rawValue,
                one.buffers == .single ? "-" : "\(one.bufferByteCount)", "\(one.ringSize)",
                "\(one.burst)", "\(one.rqs)", split ? "\(one.slots)" : "-",
                split ? "\(one.slotSize)" : "-",
                split ? (one.sharedHeaderQueue ? "shared" : "private") : "-",
                one.hashReport ? "yes" : "no", one.consumer.rawValue,
            ])
        }
        return table.text(style: style)
    }
}
