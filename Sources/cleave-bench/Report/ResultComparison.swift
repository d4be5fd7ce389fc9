import CleaveBench
import CleaveProgramSupport

/// Two files of results of one kind, figure by figure.
///
/// A figure is better or worse if two things are so: the middle halves of its passes lie apart (all
/// passes, where a file does not tell quartiles), and the medians differ by more than a threshold.
struct ResultComparison {
    enum Verdict: String, Codable { case same, better, worse }

    struct Row {
        let old: ComparedFigure
        let new: Spread
        let verdict: Verdict

        /// Percent that the new median is above the old one; endless above nothing.
        var change: Double {
            let difference = new.median - old.spread.median
            return difference == 0 ? 0 : 100 * difference / abs(old.spread.median)
        }
    }

    let rows: [Row]
    /// What one of the files has alone, by subject.
    let onlyOld: [String]
    let onlyNew: [String]

    /// - Parameter threshold: in percent.
    init(old: [ComparedFigure], new: [ComparedFigure], threshold: Double) {
        let after = Dictionary(
            zip(Self.keys(new), new), uniquingKeysWith: { first, _ in first })
        rows = zip(Self.keys(old), old).compactMap { key, figure in
            after[key].map {
                Row(
                    old: figure, new: $0.spread,
                    verdict: Self.verdict(figure, $0.spread, threshold))
            }
        }
        func alone(_ one: [ComparedFigure], _ other: [ComparedFigure]) -> [String] {
            let known = Set(other.map(\.subject))
            return one.map(\.subject).reduce(into: []) {
                if !known.contains($1) && !$0.contains($1) { $0.append($1) }
            }
        }
        (onlyOld, onlyNew) = (alone(old, new), alone(new, old))
    }

    /// A name for each figure that no other has: cases of one name are told apart by their order.
    private static func keys(_ figures: [ComparedFigure]) -> [String] {
        var counts: [String: Int] = [:]
        return figures.map { figure in
            let name = "\(figure.subject)\u{0}\(figure.name)\u{0}\(figure.unit)"
            counts[name, default: 0] += 1
            return "\(name)\u{0}\(counts[name, default: 0])"
        }
    }

    private static func verdict(
        _ old: ComparedFigure, _ new: Spread, _ threshold: Double
    ) -> Verdict {
        guard let before = old.spread.middle, let after = new.middle, !before.overlaps(after)
        else { return .same }
        let difference = new.median - old.spread.median
        guard abs(difference) > threshold / 100 * abs(old.spread.median) else { return .same }
        return (difference > 0) == (old.better == .more) ? .better : .worse
    }

    func count(_ verdict: Verdict) -> Int { rows.count { $0.verdict == verdict } }
}

/// A comparison for people.
struct ResultComparisonText {
    let style: Style
    /// Rows that did not change are shown as well.
    let showsAll: Bool

    func text(_ comparison: ResultComparison, threshold: Double) -> String {
        let shown = comparison.rows.filter { showsAll || $0.verdict != .same }
        var sections: [String] = []
        if !shown.isEmpty { sections.append(table(shown)) }
        let count = comparison.rows.count
        let bound = Numbers.claimed(threshold, "%")
        var lines = [
            "\(count) figures compared: \(comparison.count(.worse)) worse, "
                + "\(comparison.count(.better)) better, \(comparison.count(.same)) the same "
                + "(ranges overlap, or medians differ by \(bound) at most)"
        ]
        for (name, subjects) in [("old", comparison.onlyOld), ("new", comparison.onlyNew)]
        where !subjects.isEmpty {
            lines.append("in the \(name) file alone: \(subjects.joined(separator: "; "))")
        }
        let noisy = shown.count { $0.old.spread.isNoisy || $0.new.isNoisy }
        if let remark = Numbers.noiseRemark(noisy, of: shown.count, "figures shown") {
            lines.append(remark)
        }
        sections.append(
            lines.map { TextWrap.text($0, width: style.width, indentation: 2) + "\n" }.joined())
        return sections.joined(separator: "\n")
    }

    private func table(_ rows: [ResultComparison.Row]) -> String {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("figure", alignment: .left),
            .init("unit", alignment: .left, rank: 1), .init("old", "median"),
            .init("new", "median"), .init("change", "%"),
            .init("ranges", "old, new", alignment: .left, rank: 2), .init("", alignment: .left),
        ])
        for row in rows {
            table.append(
                [
                    row.old.subject, row.old.name, row.old.unit, Self.median(row.old.spread),
                    Self.median(row.new), Self.change(row.change),
                    Self.ranges(row.old.spread, row.new),
                    row.verdict == .same ? "" : row.verdict.rawValue,
                ], isBad: row.verdict == .worse)
        }
        return table.text(style: style)
    }

    private static func median(_ spread: Spread) -> String {
        Numbers.marked(spread, ZeroCopyText.figure)
    }

    /// What is compared of both; a dash is a single figure.
    private static func ranges(_ old: Spread, _ new: Spread) -> String {
        let texts = [old, new].map { spread in
            guard let middle = spread.middle, middle.lowerBound != middle.upperBound else {
                return "-"
            }
            return "\(ZeroCopyText.figure(middle.lowerBound))-"
                + "\(ZeroCopyText.figure(middle.upperBound))"
        }
        return texts == ["-", "-"] ? "-" : texts.joined(separator: ", ")
    }

    private static func change(_ percent: Double) -> String {
        percent.isInfinite ? (percent > 0 ? "from 0" : "below 0") : Numbers.signed(percent)
    }
}

/// What `compare` writes.
struct ResultComparisonDocument: Encodable {
    struct File: Encodable {
        let path: String
        let schema: String
        let program: ProgramRecord?
        let started: String?

        init(_ document: ResultDocument) {
            (path, schema) = (document.path, document.schema)
            (program, started) = (document.content.program, document.content.started)
        }
    }

    struct Figure: Encodable {
        let `case`: String
        let figure: String
        let unit: String
        let old: Spread
        let new: Spread
        let changePercent: Double
        let verdict: ResultComparison.Verdict
    }

    var schema = "cleave-compare/1"
    let program = ProgramRecord.current
    let command: [String]
    let old: File
    let new: File
    let thresholdPercent: Double
    let onlyOld: [String]
    let onlyNew: [String]
    let figures: [Figure]

    init(
        _ comparison: ResultComparison, old: ResultDocument, new: ResultDocument,
        threshold: Double, command: [String]
    ) {
        self.command = command
        (self.old, self.new) = (File(old), File(new))
        thresholdPercent = threshold
        (onlyOld, onlyNew) = (comparison.onlyOld, comparison.onlyNew)
        figures = comparison.rows.map {
            Figure(
                case: $0.old.subject, figure: $0.old.name, unit: $0.old.unit, old: $0.old.spread,
                new: $0.new, changePercent: $0.change, verdict: $0.verdict)
        }
    }
}
