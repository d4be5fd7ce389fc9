import CleaveBench
import CleaveProgramSupport

/// What profiling costs one case.
struct OverheadFigures {
    let run: ProfileRun
    let rounds: [OverheadRival.Round]

    /// Percent that passes with measured polls take more, the fastest of each kind. Nil where
    /// passes lie too far apart.
    var on: Double? { run.leastOverhead }

    /// The same pass by pass.
    var onSpread: Spread? { run.noise == nil ? run.overhead : nil }

    /// Rounds that lie too far apart, as `ProfileRun.noise` says it of passes.
    var offNoise: Double? {
        [Spread(rounds.map(\.without)), Spread(rounds.map(\.off))].compactMap { $0?.noise }
            .filter { $0 > Spread.noiseBound }.max()
    }

    /// Percent that this program, profiling off, takes more than one without it: fastest rounds.
    var off: Double? {
        guard offNoise == nil, let without = rounds.map(\.without).min(),
            let off = rounds.map(\.off).min()
        else {
            return nil
        }
        return 100 * (off / without - 1)
    }

    /// The same round by round.
    var offSpread: Spread? {
        offNoise == nil ? Spread(rounds.map { 100 * ($0.off / $0.without - 1) }) : nil
    }

    /// Why figures are missing; nil if none is.
    var remark: String? {
        let causes = [(run.noise, "passes"), (offNoise, "rounds")].compactMap { noise, what in
            noise.map { "\(what) spans \(Numbers.fixed(100 * $0, 0)) % of their median" }
        }
        if causes.isEmpty { return nil }
        return "\(run.name): what profiling costs cannot be told here: the middle half of the "
            + causes.joined(separator: ", of the ")
    }
}

/// Overheads for people and programs.
struct OverheadText {
    let figures: [OverheadFigures]
    let period: UInt32
    var started: String?

    func text(style: Style) -> String {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("plain poll", "cycles/packet"),
            .init("on", "% (fastest)"), .init("pass by pass", "% (min-max)", rank: 2),
            .init("off", "% (fastest)", rank: 1), .init("round by round", "% (min-max)", rank: 3),
        ])
        for one in figures {
            table.append([
                one.run.name, one.run.plainTurn.map(Numbers.cycles) ?? "-",
                one.on.map { Numbers.fixed($0, 2) } ?? "-", one.onSpread.map(Self.spread) ?? "-",
                one.off.map { Numbers.fixed($0, 2) } ?? "-",
                one.offSpread.map(Self.spread) ?? "-",
            ])
        }
        let remarks = figures.compactMap(\.remark).map {
            style.yellow(TextWrap.text($0, width: style.width, indentation: 2)) + "\n"
        }
        let legend = """

            on: 1 poll in \(period) measured, against passes in which none is, alternating in one \
            process.
            off: this program with profiling off, against --against, one without it; they alternate.

            """
        return table.text(style: style) + remarks.joined()
            + TextWrap.text(legend, width: style.width ?? TextWrap.usualWidth, indentation: 2)
    }

    struct Document: Encodable {
        struct Run: Encodable {
            let name: String
            let onPercent: Double?
            let onPercentByPass: Spread?
            let offPercent: Double?
            let offPercentByRound: Spread?
        }

        var schema = "cleave-profile-overhead/1"
        var program = ProgramRecord.current
        let started: String?
        let period: UInt32
        let command: [String]
        let runs: [Run]
    }

    func document(command: [String]) -> Document {
        Document(
            started: started, period: period, command: command,
            runs: figures.map { one in
                .init(
                    name: one.run.name, onPercent: one.on, onPercentByPass: one.onSpread,
                    offPercent: one.off, offPercentByRound: one.offSpread)
            })
    }

    private static func spread(_ spread: Spread) -> String {
        "\(Numbers.fixed(spread.median, 2)) (\(Numbers.fixed(spread.min, 2)) to "
            + "\(Numbers.fixed(spread.max, 2)))"
    }
}
