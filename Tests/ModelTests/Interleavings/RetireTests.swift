import CleaveRings
import Testing

@testable import CleaveVirtioNet

extension Interleavings {
    /// Consumers retire slots in any order; a worker writes them again as soon as it gets them.
    @Suite("Retire")
    struct RetireTests {
        /// `ranges` has, for each consumer, first slot and number of slots, one after the other.
        /// Every slot was claimed and reported before.
        private func setUp(
            _ run: ModelRun, slotCount: Int, ranges: [[(first: Int, count: Int)]],
            again wanted: Int = 0
        ) throws {
            let rig = try HeaderQueueRig(run, slotCount: slotCount)
            let all = rig.device.claimer.claim(slotCount)
            rig.report(rig.slots(all))
            for (index, mine) in ranges.enumerated() {
                run.thread("consumer \(index)") {
                    for range in mine { rig.consume(first: range.first, count: range.count) }
                }
            }
            if wanted > 0 {
                let channel = Channel(run)
                run.thread("worker") {
                    let tail = rig.device.claimer.driverTail.cellAddress
                    let start = UInt32(slotCount)
                    _ = run.wait(until: { tail.load(as: UInt32.self) != start })
                    let claim = rig.claim(wanted, as: "worker")
                    if claim.count == 0 { return }
                    rig.report(rig.slots(claim))
                    channel.send(first: rig.slots(claim)[0], count: claim.count)
                }
                // The consumer that comes last in the first lap begins the second.
                run.thread("next lap") {
                    guard run.wait(until: { !channel.isEmpty }) else { return }
                    for burst in channel.receive() {
                        rig.consume(first: burst.first, count: burst.count)
                    }
                }
            }
            run.finally { rig.checkAccounts() }
        }

        @Test("The tail passes whole groups in order, and none waits for nothing")
        func order() throws {
            // Groups of one slot, of two slots; ranges that cross groups and come round.
            try expectHolds(Bounds(preemptions: 4, staleReads: 2)) {
                try setUp($0, slotCount: 4, ranges: [[(1, 1), (2, 2)], [(0, 1)]])
            }
            try expectHolds(Bounds(preemptions: 4, staleReads: 2)) {
                try setUp($0, slotCount: 8, ranges: [[(3, 4)], [(7, 4)]])
            }
            try expectHolds(Bounds(preemptions: 3, staleReads: 1)) {
                try setUp($0, slotCount: 8, ranges: [[(0, 1), (3, 2)], [(1, 2)], [(5, 3)]])
            }
        }

        @Test("A slot that comes back is written anew, and retired in the next lap")
        func nextLap() throws {
            try expectHolds(Bounds(preemptions: 2, staleReads: 1)) {
                try setUp($0, slotCount: 2, ranges: [[(0, 1)], [(1, 1)]], again: 2)
            }
            try expectHolds(Bounds(preemptions: 2, staleReads: 1)) {
                try setUp($0, slotCount: 8, ranges: [[(0, 1)], [(1, 1)]], again: 2)
            }
        }

        @Test("Each end of H1 and H3 is needed")
        func weakened() throws {
            let bounds = Bounds(preemptions: 2, staleReads: 0)
            for (word, part) in [
                ("tail", Weakening.Part.release), ("tail", .acquire), ("word 0", .release),
                ("word 0", .acquire),
            ] {
                try expectFinds("race", bounds, without: Weakening(part: part, word: word)) {
                    try setUp($0, slotCount: 8, ranges: [[(0, 1)], [(1, 1)]], again: 2)
                }
            }
        }

        @Test("Without its order, retiring moves the tail over slots in use")
        func unordered() throws {
            try expectFinds(
                "the tail passes", Bounds(preemptions: 0, staleReads: 0), bug: .retireOutOfOrder
            ) { try setUp($0, slotCount: 8, ranges: [[(2, 2)], [(0, 2)]]) }
            try expectFinds(
                "race", Bounds(preemptions: 2, staleReads: 0), bug: .tailBeforeReset
            ) { try setUp($0, slotCount: 2, ranges: [[(0, 1)], [(1, 1)]], again: 2) }
        }
    }
}
