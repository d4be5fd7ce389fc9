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
        var text = warnings.map { "warning: \($0)\n" }.joined()
        text += Self.table(plan)
        let packets = plan.packetsPerRepeat.map { "\($0)" } ?? "about 50 ms worth of"
        text += "\n\(plan.cases.count) cases, mode \(plan.mode.rawValue), "
        text += "\(plan.repeats) passes of \(packets) packets\n"
        try Stream.output.write(text)
    }

    static func table(_ plan: BenchPlan) -> String {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("packet", alignment: .left),
            .init("method", alignment: .left), .init("report", alignment: .left),
            .init("ring", alignment: .left), .init("buffers", alignment: .left),
            .init("buffer", "bytes"), .init("ring", "size"), .init("burst"), .init("RQs"),
            .init("slots"), .init("slot", "bytes"), .init("header", "queue", alignment: .left),
            .init("hash"), .init("consumer", alignment: .left),
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
        return table.text(style: .plain)
    }
}
