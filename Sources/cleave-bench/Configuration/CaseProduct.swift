import CleaveBench
import CleaveProgramSupport

/// Values for some axes; every combination of them is a case.
struct CaseProduct {
    /// A value, and where it was given, for errors that show only when it is used.
    struct Entry: Equatable {
        var value: SettingValue
        var place: String
    }

    /// More cases than this in one run are a typing error.
    static let maximumCaseCount = 10_000

    /// Axes without an entry keep what the base case has.
    var entries: [Axis: [Entry]] = [:]

    /// `base` with every combination of the values, the first axis varying slowest.
    /// - Throws: what is wrong with which value, at its place.
    func cases(from base: BenchCase) throws(Failure) -> [BenchCase] {
        var cases = [base]
        for axis in Axis.allCases {
            guard let values = entries[axis] else { continue }
            guard cases.count * values.count <= Self.maximumCaseCount else {
                throw .usage(
                    "\(values.first?.place ?? axis.rawValue): "
                        + "more than \(Self.maximumCaseCount) cases")
            }
            var next: [BenchCase] = []
            for one in cases {
                for entry in values {
                    var changed = one
                    do { try axis.set(entry.value, in: &changed) } catch {
                        throw .usage("\(entry.place): \(axis.rawValue): \(error.problem)")
                    }
                    next.append(changed)
                }
            }
            cases = next
        }
        return cases
    }

    /// `cases` without those that would measure the same as an earlier one of the same name.
    static func unique(_ cases: [BenchCase]) -> [BenchCase] {
        var seen: Set<String> = []
        return cases.filter { seen.insert(identity(of: $0)).inserted }
    }

    /// Everything that a case's figures depend on, and the name the user gave it.
    private static func identity(of one: BenchCase) -> String {
        var parts = [
            one.name, one.packet, one.method.rawValue, one.effectiveReport?.rawValue ?? "",
            one.buffers.rawValue,
        ]
        parts += Axis.allCases.map { $0.label(of: one) ?? "" }
        return parts.joined(separator: "\u{0}")
    }
}

/// Gives every case of a plan a name of its own.
enum CaseNames {
    /// Names without a user's: packet, method, report and buffers; then, to all that would be
    /// called the same, what they differ in.
    static func assign(to cases: [BenchCase]) -> [BenchCase] {
        var named = cases.map { one in
            var one = one
            if one.name.isEmpty { one.name = base(of: one) }
            return one
        }
        for group in Dictionary(grouping: named.indices, by: { named[$0].name }).values
        where group.count > 1 {
            let members = group.map { named[$0] }
            let varying = differences(of: members)
            for (order, index) in group.enumerated() {
                let said = varying.compactMap { $0(named[index]) }
                // Nothing tells them apart: the user gave the same case twice.
                let suffix = varying.isEmpty ? "#\(order + 1)" : said.joined(separator: " ")
                if !suffix.isEmpty { named[index].name += " \(suffix)" }
            }
        }
        return named
    }

    private static func base(of one: BenchCase) -> String {
        return "\(one.trafficName) \(how(one)) \(one.buffers.rawValue)"
    }

    private static func how(_ one: BenchCase) -> String {
        one.effectiveReport.map { "\(one.method.rawValue)/\($0.rawValue)" } ?? one.method.rawValue
    }

    /// Each case's part of a name, for every axis in which `cases` differ.
    private static func differences(of cases: [BenchCase]) -> [(BenchCase) -> String?] {
        let sayings: [(BenchCase) -> String?] =
            [\.packetName, { how($0) }, \.buffers.rawValue]
            + Axis.allCases.map { axis in { axis.label(of: $0) } }
        return sayings.filter { say in Set(cases.map { say($0) }).count > 1 }
    }
}
