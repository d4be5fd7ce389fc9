import CleaveBench
import Foundation

/// Numbers for people.
enum Numbers {
    /// With `decimals` decimals; `-` for a value that is no number.
    static func fixed(_ value: Double, _ decimals: Int) -> String {
        value.isFinite ? String(format: "%.\(decimals)f", value) : "-"
    }

    /// Three or four digits, as many as a measurement deserves: 14.31, 204.6, 1146.
    static func rate(_ value: Double) -> String {
        fixed(value, abs(value) < 99.995 ? 2 : abs(value) < 999.95 ? 1 : 0)
    }

    /// Cycles: 38.2, 204, 1146.
    static func cycles(_ value: Double) -> String { fixed(value, abs(value) < 99.95 ? 1 : 0) }

    /// `38.2 (37.9-41.0)`, least and largest; without a range if there was only one pass.
    static func cycles(_ spread: Spread) -> String {
        let median = marked(spread, cycles)
        if spread.min == spread.max || spread.median.isNaN { return median }
        return "\(median) (\(cycles(spread.min))-\(cycles(spread.max)))"
    }

    /// The median, marked if the passes lie too far apart: `38.2~`.
    static func marked(_ spread: Spread, _ format: (Double) -> String) -> String {
        format(spread.median) + (spread.isNoisy ? noiseMark : "")
    }

    /// After a figure that is less certain than it looks.
    static let noiseMark = "~"

    /// What the mark means, for below a table; nil for no marked figure.
    /// - Parameters:
    ///   - count: how many of `total` have one.
    ///   - what: what is counted, such as `cases`.
    static func noiseRemark(_ count: Int, of total: Int, _ what: String) -> String? {
        if count == 0 { return nil }
        let bound = fixed(100 * Spread.noiseBound, 0)
        return
            "\(noiseMark) the middle half of the passes spans more than \(bound) % of the median "
            + "(\(count) of \(total) \(what)): disturbed, no fact; a quiet machine or more "
            + "--repeats help"
    }

    /// With a sign; `-` for a value that is no number.
    static func signed(_ value: Double) -> String {
        (value >= 0 && value.isFinite ? "+" : "") + fixed(value, 1)
    }

    /// Whole numbers without decimals, others with two; and the unit.
    static func claimed(_ value: Double, _ unit: String) -> String {
        let text = fixed(value, value == value.rounded() ? 0 : 2)
        return unit.isEmpty ? text : "\(text) \(unit)"
    }

    /// `part` of `whole` in percent: 0 and 100 only if it is none and all.
    static func percent(_ part: UInt64, of whole: UInt64) -> String {
        if whole == 0 { return "-" }
        if part == 0 { return "0" }
        if part >= whole { return "100" }
        let share = 100 * Double(part) / Double(whole)
        return share < 0.05 ? "<0.1" : share > 99.95 ? "99.9" : fixed(share, 1)
    }

    /// A share from 0 to 1 in percent, by the same rules.
    static func percent(_ share: Double) -> String {
        share.isFinite ? percent(UInt64(max(0, min(1, share)) * 1e9), of: 1_000_000_000) : "-"
    }

    /// `32 KiB`, `1.5 MiB`: powers of 1024, one decimal where it says something.
    static func bytes(_ count: Int) -> String {
        var value = Double(count)
        var units = ["B", "KiB", "MiB", "GiB", "TiB"][...]
        while value >= 1024 && units.count > 1 {
            value /= 1024
            units.removeFirst()
        }
        let text = fixed(value, value == value.rounded() || value >= 100 ? 0 : 1)
        return "\(text) \(units.first ?? "B")"
    }

    /// `a 3, b 1`, the largest first; empty for no reasons.
    static func reasons(_ counts: [String: UInt64]) -> String {
        counts.filter { $0.value > 0 }
            .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }
}
