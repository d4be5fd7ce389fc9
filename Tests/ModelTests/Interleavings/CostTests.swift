import CleaveRings
import Testing

@testable import CleaveGuestDriver
@testable import CleaveVirtioNet

extension Interleavings {
    /// Read-modify-writes of a burst, counted in the seam that every shared word passes.
    @Suite("Cost of a burst")
    struct CostTests {
        private let space: GuestSpace

        init() throws { space = try GuestSpace(byteCount: 1 << 24) }

        /// One thread that claims and retires `bursts` alternately.
        /// - Parameter judge: gets the burst's size and its read-modify-writes of either side.
        private func count(
            _ slotReturn: SlotReturn, slotCount: Int, bursts: [Int],
            _ judge: @escaping (ModelRun, Int, _ claim: Int, _ retire: Int) -> Void
        ) throws {
            try expectHolds(Bounds(preemptions: 0, staleReads: 0)) { run in
                let driver = try DriverHeaderQueue(
                    slotSize: 64, slotCount: slotCount, slotReturn: slotReturn, in: space)
                let device = try HeaderQueue(driver.layout, memory: space.memory)
                let claimer = device.claimer
                run.thread("both") {
                    withUnsafeTemporaryAllocation(of: UInt16.self, capacity: slotCount) { list in
                        let list = list.baseAddress!
                        for wanted in bursts {
                            let start = run.changeCount
                            let claim =
                                slotReturn == .ring
                                ? claimer.claim(wanted, into: list) : claimer.claim(wanted)
                            let claimed = run.changeCount
                            run.check(
                                claim.count == wanted,
                                "\(claim.count) of \(wanted), free \(device.freeCount)")
                            var range = SlotRange(
                                first: claim.first & UInt32(slotCount - 1),
                                count: UInt32(claim.count))
                            if slotReturn == .ring {
                                claimer.report(list, claim.count)
                                range.first = UInt32(list[0])
                            }
                            driver.retire(&range, count: 1)
                            judge(run, wanted, claimed - start, run.changeCount - claimed)
                        }
                    }
                }
            }
        }

        private static let bursts = [1, 8, 32, 31, 2, 32, 17, 32, 5, 9, 32, 32, 32, 1, 30]

        @Test("By the tail: one for a claim of any size, at most two to retire it")
        func tail() throws {
            try count(.tail, slotCount: 128, bursts: Self.bursts) { run, wanted, claim, retire in
                run.check(claim == 1, "\(claim) to claim \(wanted)")
                run.check((1...2).contains(retire), "\(retire) to retire \(wanted)")
            }
        }

        @Test("By a ring: one for a claim, one more for a refill, and one to retire it")
        func ring() throws {
            var refills = 0
            try count(.ring, slotCount: 128, bursts: Self.bursts) { run, wanted, claim, retire in
                run.check((1...2).contains(claim), "\(claim) to claim \(wanted)")
                run.check(retire == 1, "\(retire) to retire \(wanted)")
                refills += claim - 1
            }
            // 296 slots, in portions of at least half the free list.
            #expect((1...6).contains(refills), "\(refills) refills")
        }
    }
}
