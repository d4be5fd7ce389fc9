/// What `run`, `compare-methods` and `claims` write.
struct BenchResults: ResultReader {
    static let schema = ReportJSON.schema

    struct ClaimRecord: Decodable {
        struct Figure: Decodable {
            var name: String
            var unit: String
            var bound: String?
            var claimed: Double?
            var measured: Double?
            var holds: Bool?
        }

        var id: Int
        var title: String
        var claimed: Double?
        var measured: Double?
        var unit: String?
        var holds: Bool
        var figures: [Figure]
    }

    var machine: MachineRecord?
    var command: CommandRecord?
    var warnings: [String]?
    var mode: String?
    var repeats: Int?
    var interrupted: String?
    var claims: [ClaimRecord]?
    var runs: [RunRecord]

    var kind: String { claims == nil ? "Cases" : "Claims for a header queue" }

    var conditions: [(name: String, text: String)] {
        [
            ("mode", mode), ("passes", repeats.map { "\($0) of each case, interleaved" }),
            ("interrupted", interrupted),
        ].compactMap { name, text in text.map { (name, $0) } }
    }

    var parts: [ReportPart] {
        let table = RunTable(runs: runs)
        let driver = table.charts(
            "Driver cycles per packet", parts: ["refill", "harvest", "return"]
        ) { run in
            guard let phases = run.driverCycles else { return nil }
            return (
                [phases.refill, phases.harvest, phases.return].map(\.value),
                Numbers.cycles(run.driverCyclesPerPacket.value)
            )
        }
        let memory = table.charts("Bytes held per packet", parts: ["packet", "wasted"]) { run in
            guard let held = run.bytesHeldPerPacket, let wasted = run.wastedShare else {
                return nil
            }
            return ([held * (1 - wasted), held * wasted], Numbers.fixed(held, 0))
        }
        return claimParts + table.deviceCharts("Device cycles per packet")
            + (claims == nil ? driver + memory : []) + [table.table("All cases")]
    }

    // MARK: Claims

    private var claimParts: [ReportPart] {
        guard let claims else { return [] }
        let panels = claims.compactMap { claim -> BarChart.Panel? in
            guard let claimed = claim.claimed, let measured = claim.measured else { return nil }
            func bar(_ label: String, _ value: Double, _ colour: String) -> BarChart.Bar {
                .init(
                    label: label, colour: colour, parts: [abs(value)],
                    figure: Self.number(value, claim.unit))
            }
            let verdict = claim.holds ? "holds" : "does not hold"
            return .init(
                title: "\(claim.id): \(verdict)",
                bars: [
                    bar("claimed", claimed, "peer"),
                    bar("measured", measured, claim.holds ? "own" : "bad"),
                ])
        }
        let count = claims.count(where: \.holds)
        return [
            .paragraph("\(count) of \(claims.count) claims hold."),
            .chart(.fitting("Claimed and measured, each claim's first figure", panels)),
            claimTable(claims),
        ]
    }

    private func claimTable(_ claims: [ClaimRecord]) -> ReportPart {
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
                    .words(figure.bound ?? "-"),
                    .figure(figure.claimed) { Self.number($0, figure.unit) },
                    .figure(figure.measured) { Self.number($0, figure.unit) },
                    .words(verdict, isBad: figure.holds == false),
                ])
            }
        }
        return .table(table)
    }

    private static func number(_ value: Double, _ unit: String?) -> String {
        let text = Numbers.fixed(value, value == value.rounded() ? 0 : 2)
        guard let unit, !unit.isEmpty else { return text }
        return "\(text) \(unit)"
    }
}
