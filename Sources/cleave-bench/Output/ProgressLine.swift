import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// One line on standard error that rewrites itself; silent unless that is a terminal.
final class ProgressLine: @unchecked Sendable {
    // SAFETY: a benchmark shows its progress from one thread, which has ended when `clear` is
    // called.
    private let isShown: Bool
    private var clock = StepClock()

    init(isQuiet: Bool) { isShown = !isQuiet && Stream.error.isTerminal }

    /// Shows where a benchmark is.
    func show(_ progress: BenchProgress) {
        guard isShown else { return }
        let left = clock.secondsLeft(progress, at: Double(SystemClock.monotonic) / 1e9)
        // The last column stays empty: some terminals wrap as soon as it is filled.
        put(String(Self.text(progress, left).prefix((Stream.error.columnCount ?? 80) - 1)))
    }

    /// Removes the line.
    func clear() {
        if isShown { put("") }
    }

    /// Such as `[ 3/40] 12 s left: measuring 64 whole mergeable`.
    static func text(_ progress: BenchProgress, _ secondsLeft: Double?) -> String {
        let total = String(progress.total)
        let done = String(progress.done)
        let blanks = String(repeating: " ", count: max(0, total.count - done.count))
        let phase = progress.phase == .warmingUp ? "warming up" : progress.phase.rawValue
        let left = secondsLeft.map { "\(words($0)) left: " } ?? ""
        return "[\(blanks)\(done)/\(total)] \(left)\(phase) \(progress.name)"
    }

    private static func words(_ seconds: Double) -> String {
        seconds < 99.5
            ? "\(Numbers.fixed(seconds, 0)) s" : "\(Numbers.fixed(seconds / 60, 0)) min"
    }

    /// A lost progress line is no reason to stop a benchmark.
    private func put(_ text: String) { try? Stream.error.write("\r\(text)\u{1B}[K") }
}

/// How long the steps of a benchmark take, and so how long the others will.
struct StepClock {
    private typealias Phase = BenchProgress.Phase

    private var spent: [Phase: (steps: Int, seconds: Double)] = [:]
    private var last: (phase: Phase, time: Double)?

    /// A warm-up carries a quarter of the packets of a pass.
    private static let passPerWarmUp = 4.0

    /// Seconds until the end; nil until a step like the ones to come has been seen.
    /// - Parameter time: seconds since any moment, when the step that `progress` names begins.
    mutating func secondsLeft(_ progress: BenchProgress, at time: Double) -> Double? {
        if let last {
            let before = spent[last.phase] ?? (0, 0)
            spent[last.phase] = (before.steps + 1, before.seconds + time - last.time)
        }
        last = (progress.phase, time)
        let left = progress.total - progress.done
        let pass = mean(.measuring)
        let warmUp = mean(.warmingUp)
        switch progress.phase {
        case .verifying, .searching: return nil
        case .measuring:
            return (pass ?? warmUp.map { $0 * Self.passPerWarmUp }).map { $0 * Double(left) }
        case .warmingUp:
            guard let warmUp else { return nil }
            // Each case was verified once, and will be warmed up once.
            let cases = spent[.verifying]?.steps ?? 0
            let warmUpsLeft = max(0, cases - (spent[.warmingUp]?.steps ?? 0))
            let passesLeft = max(0, left - warmUpsLeft)
            return warmUp * (Double(warmUpsLeft) + Self.passPerWarmUp * Double(passesLeft))
        }
    }

    private func mean(_ phase: Phase) -> Double? {
        spent[phase].flatMap { $0.steps > 0 ? $0.seconds / Double($0.steps) : nil }
    }
}
