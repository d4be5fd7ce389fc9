import CleaveProfiling
import CleaveVirtioNet
import Testing

@Suite("Tables, stacks and differences")
struct TableTests {
    private static func figure(_ name: String, _ median: Double) -> ProfileDiff.Figure {
        .init(
            name: name,
            cyclesPerPacket: ProfileSpread(median: median, min: median - 1, max: median + 1))
    }

    private static func spread(_ median: Double) -> ProfileSpread {
        ProfileSpread(median: median, min: median - 1, max: median + 1)
    }

    @Test("A difference names the stages that moved beyond their spread, the largest first")
    func diff() {
        let before = [("parse", 20.0), ("claim", 5), ("placePayload", 100), ("publish", 7)]
        let after = [("parse", 31.0), ("claim", 6.5), ("placePayload", 80), ("publish", 7.2)]
        let diff = ProfileDiff(
            before: before.map(Self.figure), after: after.map(Self.figure),
            polls: (Self.spread(132), Self.spread(124.7)))
        #expect(diff.stages.map(\.name) == before.map(\.0))
        #expect(diff.changes.map(\.name) == ["placePayload", "parse"])
        #expect(diff.changes.map(\.difference) == [-20, 11])
        #expect(diff.poll.isChange && diff.poll.name == "poll")
    }

    @Test("A run compared with itself has not changed; unknown stages are left out")
    func same() {
        let figures = [Self.figure("parse", 20)]
        let polls = (Self.spread(20), Self.spread(20))
        #expect(ProfileDiff(before: figures, after: figures, polls: polls).changes.isEmpty)
        let other = ProfileDiff(before: figures, after: [Self.figure("new", 1)], polls: polls)
        #expect(other.stages.isEmpty)
    }

    @Test("Nothing measured gives no table, no stacks, no traffic")
    func empty() {
        #expect(StageTable(passes: []) == nil)
        #expect(StageTable(passes: [ProfileSnapshot()]) == nil)
        var stacks = FoldedStacks()
        stacks.add(ProfileSnapshot(), under: ["RQ 0"], period: 1)
        #expect(stacks.text == "")
        #expect(StageTraffic(.placePayload, ProfileSnapshot()).total == 0)
        #expect(ProfileSpread([]) == nil)
        #expect(
            ProfileSpread([4, 1, 2])
                == ProfileSpread(median: 2, min: 1, max: 4, q1: 1.5, q3: 3))
    }
}
