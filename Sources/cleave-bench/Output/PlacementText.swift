import CleaveBench

/// Where RQs run and where their memory lies.
enum PlacementText {
    /// `plan` and one line for each RQ; then one line for memory, or one for each piece of it that
    /// the kernel did not confirm.
    static func lines(_ report: BenchReport) -> [String] {
        guard let plan = report.queuePlan else { return [] }
        var lines = plan.description.split(separator: "\n").enumerated().map {
            ($0 == 0 ? "plan     " : "         ") + $1
        }
        let doubtful = report.residence.filter { !$0.isConfirmed }
        let pages = report.residence.reduce(0) { $0 + $1.pageCounts.values.reduce(0, +) }
        if doubtful.isEmpty {
            lines.append("memory   the kernel confirms all \(pages) pages on their nodes")
        } else {
            lines += doubtful.enumerated().map { ($0 == 0 ? "memory   " : "         ") + "\($1)" }
        }
        return lines
    }

    static func json(_ report: BenchReport) -> JSONValue {
        guard let plan = report.queuePlan else { return .null }
        func optional(_ number: Int?) -> JSONValue { number.map(JSONValue.int) ?? .null }
        return .object([
            (
                "places",
                .array(
                    plan.places.enumerated().map { rq, place in
                        .object([
                            ("rq", .int(rq)), ("cpu", optional(place.cpu)),
                            ("node", optional(place.node)),
                        ])
                    })
            ),
            (
                "memory",
                .array(
                    report.residence.map { part in
                        .object([
                            ("name", .string(part.name)), ("node", optional(part.node)),
                            (
                                "pages",
                                .object(
                                    part.pageCounts.sorted { $0.key < $1.key }.map {
                                        ("\($0.key)", .int($0.value))
                                    })
                            ),
                            ("unknown", .int(part.unknownCount)),
                            ("misplaced", .int(part.misplacedCount)),
                        ])
                    })
            ),
        ])
    }
}
