import CleaveBench
import CleaveProgramSupport

/// One line on standard error that rewrites itself; silent unless that is a terminal.
struct ProgressLine {
    private let isShown: Bool

    init(isQuiet: Bool) { isShown = !isQuiet && Stream.error.isTerminal }

    /// Shows where a benchmark is.
    func show(_ progress: BenchProgress) {
        guard isShown else { return }
        // The last column stays empty: some terminals wrap as soon as it is filled.
        put(String(Self.text(progress).prefix((Stream.error.columnCount ?? 80) - 1)))
    }

    /// Removes the line.
    func clear() {
        if isShown { put("") }
    }

    /// Such as `[ 3/40] verifying 64 whole mergeable`.
    static func text(_ progress: BenchProgress) -> String {
        let total = String(progress.total)
        let done = String(progress.done)
        let blanks = String(repeating: " ", count: max(0, total.count - done.count))
        let phase = progress.phase == .warmingUp ? "warming up" : progress.phase.rawValue
        return "[\(blanks)\(done)/\(total)] \(phase) \(progress.name)"
    }

    /// A lost progress line is no reason to stop a benchmark.
    private func put(_ text: String) { try? Stream.error.write("\r\(text)\u{1B}[K") }
}
