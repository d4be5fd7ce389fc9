import CleaveBench
import CleaveProgramSupport

/// What profiling costs one case.
struct OverheadFigures {
    let run: ProfileRun
    let rounds: [OverheadRival.Round]

    /// Percent that passes with measured polls take more, the fastest of each kind.
    var on: Double { run.leastOverhead ?? .nan }

    /// Percent that this program, profiling off, takes more than one without it: fastest rounds.
    var off: Double? {
        guard let without = rounds.map(\.without).min(), let off = rounds.map(\.off).min() else {
            return nil
        }
        return 100 * (off / without - 1)
    }

    /// The same round by round.
    var offSpread: Spread? { Spread(rounds.map { 100 * ($0.off / $0.without - 1) }) }
}

/// Overheads for people and programs.
struct OverheadText {
    let figures: [OverheadFigures]
    let period: UInt32

    func text(style: Style) -> String {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("plain poll", "cycles/packet"),
            .init("on", "% (fastest)"), .init("pass by pass", "% (min-max)"),
            .init("off", "% (fastest)"), .init("round by round", "% (min-max)"),
        ])
        for one in figures {
            table.append([
                one.run.name, one.run.plainTurn.map(Numbers.cycles) ?? "-",
                Numbers.fixed(one.on, 2), one.run.overhead.map(Self.spread) ?? "-",
                one.off.map { Numbers.fixed($0, 2) } ?? "-",
                one.offSpread.map(Self.spread) ?? "-",
            ])
        }
        return table.text(style: style)
            + """

            on: 1 poll in \(period) measured, against passes in which none is, alternating in one \
            process.
            off: this program with profiling off, against --against, one without it; they alternate.

            """
    }

    struct Document: Encodable {
        struct Run: Encodable {
            let name: String
            let onPercent: Double
            let onPercentByPass: Spread?
            let offPercent: Double?
            let offPercentByRound: Spread?
        }

        var schema = "cleave-profile-overhead/1"
        let period: UInt32
        let command: [String]
        let runs: [Run]
    }

    func document(command: [String]) -> Document {
        Document(
            period: period, command: command,
            runs: figures.map { one in
                .init(
                    name: one.run.name, onPercent: one.on, onPercentByPass: one.run.overhead,
                    offPercent: one.off, offPercentByRound: one.offSpread)
            })
    }

    private static func spread(_ spread: Spread) -> String {
        "\(Numbers.fixed(spread.median, 2)) (\(Numbers.fixed(spread.min, 2)) to "
            + "\(Numbers.fixed(spread.max, 2)))"
    }
}
