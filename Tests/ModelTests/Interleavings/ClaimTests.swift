import Testing

@testable import CleaveVirtioNet

extension Interleavings {
    /// Workers claim and write slots, a driver thread reads and retires them and so moves the tail.
    @Suite("Claim")
    struct ClaimTests {
        /// `claims` has, for each worker, the numbers of slots that it asks for, burst by burst.
        private func setUp(
            _ run: ModelRun, slotCount: Int, claims: [[Int]], retires: Bool = true
        ) throws {
            let rig = try HeaderQueueRig(run, slotCount: slotCount)
            let channels = claims.map { _ in Channel(run) }
            for (index, bursts) in claims.enumerated() {
                let name = "worker \(index)"
                run.thread(name) {
                    for wanted in bursts {
                        let claim = rig.claim(wanted, as: name)
                        run.check(claim.count <= wanted, "\(claim.count) claimed for \(wanted)")
                        if claim.count == 0 { continue }
                        rig.report(rig.slots(claim))
                        channels[index].send(first: rig.slots(claim)[0], count: claim.count)
                    }
                }
            }
            if retires {
                run.thread("driver") {
                    while run.wait(until: { channels.contains { !$0.isEmpty } }) {
                        for channel in channels {
                            for burst in channel.receive() {
                                rig.consume(first: burst.first, count: burst.count)
                            }
                        }
                    }
                }
            }
            run.finally { rig.checkAccounts() }
        }

        @Test(
            "No slot has two owners, and an honest queue is never broken",
            arguments: [
                (1, [[1, 1], [1, 1]]), (2, [[2, 1], [1, 2]]), (8, [[6], [5, 4]]),
            ])
        func twoWorkers(_ slotCount: Int, _ claims: [[Int]]) throws {
            try expectHolds(Bounds(preemptions: 2, staleReads: 1)) {
                try setUp($0, slotCount: slotCount, claims: claims)
            }
        }

        @Test("Three workers share what there is")
        func threeWorkers() throws {
            try expectHolds(Bounds(preemptions: 1, staleReads: 1)) {
                try setUp($0, slotCount: 4, claims: [[2], [1], [3]])
            }
            try expectHolds(Bounds(preemptions: 2, staleReads: 1)) {
                try setUp($0, slotCount: 4, claims: [[2], [1], [3]], retires: false)
            }
        }

        @Test("H1 and H2 are needed, and V2")
        func weakened() throws {
            let bounds = Bounds(preemptions: 2, staleReads: 1)
            for (word, part, words) in [
                ("used", Weakening.Part.release, "race"), ("used", .acquire, "race"),
                ("tail", .release, "race"), ("tail", .acquire, "race"),
                ("head", .release, "broken"), ("head", .acquire, "broken"),
            ] {
                try expectFinds(words, bounds, without: Weakening(part: part, word: word)) {
                    try setUp($0, slotCount: 1, claims: [[1, 1], [1, 1]])
                }
            }
        }

        @Test("A claim without its bound takes what is not free")
        func unbounded() throws {
            try expectFinds(
                "claimed by", Bounds(preemptions: 0, staleReads: 0), bug: .claimWithoutBound
            ) { try setUp($0, slotCount: 4, claims: [[3], [3]], retires: false) }
        }
    }
}
