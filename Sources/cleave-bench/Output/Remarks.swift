import CleaveBench
import CleaveProgramSupport

/// A case of which there is something to say below its table.
protocol RemarkedRun {
    var name: String { get }
    var fallback: [String: UInt64]? { get }
    var dropped: [String: UInt64]? { get }
    var noSlot: SlotAdvice? { get }
    var verify: Verification { get }
    var notes: [String]? { get }
}

extension RunRecord: RemarkedRun {}
extension LatencyDocument.Run: RemarkedRun {}

/// What a table has no room for, in lines: reasons, failures, notes.
struct Remarks {
    let style: Style

    func lines(_ runs: [RunRecord]) -> [String] {
        let noise = Numbers.noiseRemark(
            runs.count(where: \.isNoisy), of: runs.count, "cases"
        ).map(style.yellow)
        return
            ([noise].compactMap(\.self) + runs.flatMap { details(of: $0) } + EventText.lines(runs)
            + notes(runs)).map { TextWrap.text($0, width: style.width, indentation: 2) }
    }

    /// The same of runs that have no figures of a pass.
    func lines(of runs: [any RemarkedRun]) -> [String] {
        (runs.flatMap { details(of: $0) } + notes(runs)).map {
            TextWrap.text($0, width: style.width, indentation: 2)
        }
    }

    /// What a row has no room for, one line for each kind.
    private func details(of run: any RemarkedRun) -> [String] {
        var lines: [String] = []
        let fallbacks = Numbers.reasons(run.fallback ?? [:])
        if !fallbacks.isEmpty { lines.append("\(run.name): placed whole: \(fallbacks)") }
        if let noSlot = Self.noSlot(run) { lines.append(noSlot) }
        let drops = Numbers.reasons(run.dropped ?? [:])
        if !drops.isEmpty { lines.append(style.yellow("\(run.name): dropped: \(drops)")) }
        if run.verify.bad > 0 {
            lines.append(
                style.red(
                    "\(run.name): verification: \(run.verify.corrupt) corrupt, "
                        + "\(run.verify.lost) lost"))
        }
        return lines
    }

    /// What to try where packets found no slot free.
    static func noSlot(_ run: any RemarkedRun) -> String? {
        run.noSlot.map { "\(run.name): \($0.words)" }
    }

    /// The notes of cases. A note that several have appears once, and so do notes that differ in
    /// numbers alone.
    private func notes(_ runs: [any RemarkedRun]) -> [String] {
        var order: [String] = []
        var names: [String: [String]] = [:]
        var numbers: [String: [[Int]]] = [:]
        for run in runs {
            for note in run.notes ?? [] {
                let (words, values) = Self.parts(of: note)
                if names[words] == nil { order.append(words) }
                if names[words]?.last != run.name { names[words, default: []].append(run.name) }
                numbers[words, default: []].append(values)
            }
        }
        var lines: [(who: String, subjects: [String], note: String)] = []
        for words in order {
            let cases = names[words] ?? []
            let who =
                cases.count == 1
                ? cases[0]
                : cases.count == runs.count
                    ? "all cases" : "\(cases.count) of \(runs.count) cases"
            let (subject, note) = Self.subject(of: Self.join(words, numbers[words] ?? []))
            // What is said of several pieces of memory is said once.
            let same = lines.firstIndex { $0.who == who && $0.note == note && !subject.isEmpty }
            if let same {
                lines[same].subjects.append(subject)
            } else {
                lines.append((who, subject.isEmpty ? [] : [subject], note))
            }
        }
        return lines.map { who, subjects, note in
            let subject = subjects.isEmpty ? "" : subjects.joined(separator: ", ") + ": "
            return "\(who): \(subject)\(note)"
        }
    }

    /// A note about a piece of memory (`guest memory: ...`) in its two parts.
    private static func subject(of note: String) -> (subject: String, rest: String) {
        guard let match = note.wholeMatch(of: /([A-Za-z]+ memory): (.*)/) else {
            return ("", note)
        }
        return (String(match.1), String(match.2))
    }

    /// Stands for a number; in no note.
    private static let gap: Character = "\u{0}"

    private static func parts(of note: String) -> (words: String, numbers: [Int]) {
        var numbers: [Int] = []
        let words = note.replacing(/[0-9]+/) { match in
            // Longer numbers are words.
            guard let number = Int(match.output) else { return String(match.output) }
            numbers.append(number)
            return String(gap)
        }
        return (words, numbers)
    }

    /// Each gap filled with its number, or with the least and largest.
    private static func join(_ words: String, _ numbers: [[Int]]) -> String {
        let parts = words.split(separator: gap, omittingEmptySubsequences: false)
        var text = String(parts[0])
        for (index, part) in parts.dropFirst().enumerated() {
            let values = numbers.map { $0[index] }
            let (least, most) = (values.min() ?? 0, values.max() ?? 0)
            text += (least == most ? "\(least)" : "\(least) to \(most)") + part
        }
        return text
    }
}
