import CleaveBench
import CleaveProgramSupport

/// Claims as a table for people: each with its verdict, under it the figures.
struct ClaimsText {
    let style: Style
    /// Prints the table and what does not fit into it, without facts and legend.
    var isQuiet = false

    func text(_ claims: [Claim], _ report: BenchReport) -> String {
        ReportText(style: style, isQuiet: isQuiet).frame(
            report, table: table(claims) + "\n" + verdict(claims), legend: Self.legend)
    }

    private func table(_ claims: [Claim]) -> String {
        var table = TextTable(columns: [
            .init("claim", alignment: .left), .init("claimed"), .init("measured"),
            .init("", alignment: .left),
        ])
        for claim in claims {
            table.append(["", "", "", ""])
            table.append(
                ["\(claim.id)  \(claim.title)", "", "", Self.word(claim.holds)],
                isBad: !claim.holds)
            for figure in claim.figures {
                table.append([
                    (figure.isPart ? "     " : "   ") + figure.name, Self.claimed(figure),
                    Numbers.claimed(figure.measured ?? .nan, figure.unit),
                    figure.holds == false ? "does not hold" : "",
                ])
            }
        }
        return table.text(style: style)
    }

    private func verdict(_ claims: [Claim]) -> String {
        let failing = claims.filter { !$0.holds }.map { "\($0.id)" }
        let count = claims.count - failing.count
        let rest = failing.isEmpty ? "" : "; does not hold: \(failing.joined(separator: ", "))"
        let missing = ClaimJudge.count - claims.count
        let unmeasured = missing == 0 ? "" : "; not measured: \(missing)"
        return "\(count) of \(claims.count) claims hold\(rest)\(unmeasured)\n"
    }

    private static func word(_ holds: Bool) -> String { holds ? "holds" : "does not hold" }

    private static func claimed(_ figure: ClaimFigure) -> String {
        guard let value = figure.claimed else { return "-" }
        let sign =
            switch figure.bound {
            case .equal, .atMostCut, nil: ""
            case .atMost: "<= "
            case .atLeast: ">= "
            case .moreThan: "> "
            }
        return sign + Numbers.claimed(value, figure.unit)
    }

    private static let legend = """
        x: ratio of cycles per packet (each phase's least of the passes) or of rates (largest).
        guest's core: driver and application; the device has another.
        -: nothing is claimed of it; it is there to compare with.

        """
}
