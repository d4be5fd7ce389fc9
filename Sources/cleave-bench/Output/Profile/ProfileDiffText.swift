import CleaveProfiling
import CleaveProgramSupport

/// Two profiles of one case side by side.
struct ProfileDiffText {
    let style: Style

    func text(_ name: String, _ diff: ProfileDiff) -> String {
        var table = TextTable(columns: [
            .init("stage", alignment: .left), .init("A", "cycles/packet"),
            .init("B", "cycles/packet"), .init("B - A", "cycles", rank: 1), .init("", "%"),
            .init("", alignment: .left),
        ])
        for row in diff.stages + [diff.poll] {
            let share =
                row.before.median == 0 ? .nan : 100 * row.difference / row.before.median
            table.append(
                [
                    row.name, cycles(row.before), cycles(row.after), Numbers.signed(row.difference),
                    Numbers.signed(share), row.isChange ? "changed" : "",
                ])
        }
        return style.bold(name) + "\n" + table.text(style: style) + "\n"
            + TextWrap.text(verdict(diff), width: style.width) + "\n"
    }

    /// What changed, in one sentence.
    private func verdict(_ diff: ProfileDiff) -> String {
        let poll = Numbers.signed(100 * diff.poll.difference / max(0.01, diff.poll.before.median))
        let changes = diff.changes.map { "\($0.name) (\(Numbers.signed($0.difference)) cycles)" }
        if changes.isEmpty {
            return "No stage changed beyond the spread of its passes; the poll \(poll) %."
        }
        let list = changes.joined(separator: ", ")
        return "Changed: \(list); the poll \(poll) %."
    }

    private func cycles(_ spread: ProfileSpread) -> String {
        "\(Numbers.cycles(spread.median)) (\(Numbers.cycles(spread.min))-"
            + "\(Numbers.cycles(spread.max)))"
    }
}
