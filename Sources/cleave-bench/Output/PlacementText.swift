import CleaveBench
import CleaveEngine
import CleaveHost

/// Where RQs run and where their memory lies.
enum PlacementText {
    /// `plan` and one line for each RQ; then one line for memory, or one for each piece of it that
    /// the kernel did not confirm.
    static func lines(_ report: BenchReport) -> [String] {
        lines(report.queuePlan, report.residence)
    }

    static func lines(_ plan: QueuePlan?, _ residence: [PageResidence]) -> [String] {
        guard let plan else { return [] }
        var lines = plan.description.split(separator: "\n").enumerated().map {
            ($0 == 0 ? "plan     " : "         ") + $1
        }
        let doubtful = residence.filter { !$0.isConfirmed }
        let pages = residence.reduce(0) { $0 + $1.pageCounts.values.reduce(0, +) }
        if doubtful.isEmpty {
            lines.append("memory   the kernel confirms all \(pages) pages on their nodes")
        } else {
            lines += doubtful.enumerated().map { ($0 == 0 ? "memory   " : "         ") + "\($1)" }
        }
        return lines
    }
}
