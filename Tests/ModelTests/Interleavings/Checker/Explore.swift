import CleaveRings
import Testing

/// All tests of interleavings, one after the other: there is one modelled memory at a time.
@Suite("Interleavings", .serialized)
struct Interleavings {}

/// How far a search goes.
struct Bounds {
    /// Switches away from a thread that could go on, in one run.
    var preemptions: Int
    /// Loads that see a value that is not the newest, in one run.
    var staleReads: Int
}

/// Result of a search.
struct Exploration {
    let runCount: Int
    let finding: ModelRun.Finding?
}

/// Runs the threads that `body` sets up, each time anew, along every schedule and every choice of
/// visible values within `bounds`; stops at the first finding.
func explore(
    _ bounds: Bounds, without weakening: Weakening? = nil, bug: SeededBug? = nil,
    _ body: (ModelRun) throws -> Void
) throws -> Exploration {
    let scheduler = try Scheduler()
    defer { scheduler.close() }
    ModelSeam.bugs = bug.map { [$0] } ?? []
    defer { ModelSeam.bugs = [] }
    func run(isTraced: Bool) throws -> ModelRun.Finding? {
        let run = ModelRun(
            scheduler, staleReads: bounds.staleReads, weakening: weakening, isTraced: isTraced)
        try body(run)
        return run.run(preemptions: bounds.preemptions)
    }
    var count = 0
    repeat {
        count += 1
        if try run(isTraced: false) != nil {
            scheduler.choices.rewind()
            return Exploration(runCount: count, finding: try run(isTraced: true))
        }
    } while scheduler.choices.advance()
    return Exploration(runCount: count, finding: nil)
}

/// Expects that every run holds.
func expectHolds(
    _ bounds: Bounds, _ location: SourceLocation = #_sourceLocation,
    _ body: (ModelRun) throws -> Void
) throws {
    let outcome = try explore(bounds, body)
    print("    \(outcome.runCount) runs")
    if let finding = outcome.finding {
        Issue.record("run \(outcome.runCount): \(finding)", sourceLocation: location)
    }
}

/// Expects that some run shows `words`.
func expectFinds(
    _ words: String, _ bounds: Bounds, without weakening: Weakening? = nil,
    bug: SeededBug? = nil, _ location: SourceLocation = #_sourceLocation,
    _ body: (ModelRun) throws -> Void
) throws {
    let outcome = try explore(bounds, without: weakening, bug: bug, body)
    #expect(
        outcome.finding?.what.contains(words) == true,
        "\(outcome.runCount) runs: \(outcome.finding.map { "\($0)" } ?? "nothing found")",
        sourceLocation: location)
}
