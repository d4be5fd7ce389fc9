import CleaveBench
import CleaveProgramSupport

/// What a table has no room for, in lines: reasons, failures, notes.
struct Remarks {
    let style: Style

    func lines(_ runs: [RunRecord]) -> [String] {
        runs.flatMap(details(of:)) + EventText.lines(runs) + notes(runs)
    }

    /// What a row has no room for, one line for each kind.
    private func details(of run: RunRecord) -> [String] {
        var lines: [String] = []
        let fallbacks = Numbers.reasons(run.fallback ?? [:])
        if !fallbacks.isEmpty { lines.append("\(run.name): placed whole: \(fallbacks)") }
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

    /// The notes of cases; a note that several have appears once.
    private func notes(_ runs: [RunRecord]) -> [String] {
        var order: [String] = []
        var names: [String: [String]] = [:]
        for run in runs {
            for note in run.notes ?? [] {
                if names[note] == nil { order.append(note) }
                names[note, default: []].append(run.name)
            }
        }
        return order.map { note in
            let who = names[note] ?? []
            if who.count == 1 { return "\(who[0]): \(note)" }
            return who.count == runs.count
                ? "all cases: \(note)" : "\(who.count) of \(runs.count) cases: \(note)"
        }
    }
}
