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

        /// One thread that claims and retires `bursts` alternately; everything was claimed and
        /// retired once before.
        /// - Parameter judge: gets the burst's size and its read-modify-writes of either side.
        private func count(
            _ slotReturn: SlotReturn, slotCount: Int, bursts: [Int],
            _ judge: @escaping (ModelRun, Int, _ claim: Int, _ retire: Int) -> Void
        ) throws {
            try expectHolds(Bounds(preemptions: 0, staleReads: 0)) { run in
                let driver = try DriverHeaderQueue(
                    slotSize: 64, slotCount: slotCount, slotReturn: slotReturn, in: space)
                let device = try HeaderQueue(driver.layout, memory: space.memory)
                run.thread("both") {
                    _ = turn(run, driver, device.claimer, slotCount)
                    for wanted in bursts {
                        let (claim, retire) = turn(run, driver, device.claimer, wanted)
                        judge(run, wanted, claim, retire)
                    }
                }
            }
        }

        /// Claims and retires a burst.
        /// - Returns: read-modify-writes of either side.
        private func turn(
            _ run: ModelRun, _ driver: DriverHeaderQueue, _ claimer: HeaderClaimer, _ wanted: Int
        ) -> (claim: Int, retire: Int) {
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: wanted + 1) {
                let list = $0.baseAddress!
                let isByTail = driver.layout.slotReturn == .tail
                let start = run.changeCount
                let claim = isByTail ? claimer.claim(wanted) : claimer.claim(wanted, into: list)
                let claimed = run.changeCount
                run.check(claim.count == wanted, "\(claim.count) of \(wanted)")
                var ranges: [SlotRange] = []
                for number in Int(claim.first)..<Int(claim.first) + claim.count {
                    let slot =
                        isByTail
                        ? UInt32(number & (driver.layout.slotCount - 1))
                        : UInt32(claimer.returns.slot(number, list))
                    if let last = ranges.last, isByTail || last.first + last.count == slot {
                        ranges[ranges.count - 1].count += 1
                    } else {
                        ranges.append(SlotRange(first: slot, count: 1))
                    }
                }
                if !isByTail { claimer.report(list, claim) }
                driver.retire(ranges, count: ranges.count, ring: 0)
                return (claimed - start, run.changeCount - claimed)
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

        @Test("By a shared ring: one for a claim of any size, one to retire it")
        func ring() throws {
            try count(.ring, slotCount: 128, bursts: Self.bursts) { run, wanted, claim, retire in
                run.check(claim == 1, "\(claim) to claim \(wanted)")
                run.check(retire == 1, "\(retire) to retire \(wanted)")
            }
        }

        @Test("In groups: one for a claim that goes beyond a group, at most three to retire it")
        func groups() throws {
            var (claims, slots) = (0, 0)
            try count(.groups, slotCount: 256, bursts: Self.bursts) { run, wanted, claim, retire in
                // Groups of 32 slots.
                let isWithin = slots % 32 != 0 && slots % 32 + wanted <= 32
                run.check(claim == (isWithin ? 0 : 1), "\(claim) to claim \(wanted)")
                // Two words are marked, and one is complete by that.
                run.check((1...3).contains(retire), "\(retire) to retire \(wanted)")
                claims += claim
                slots += wanted
            }
            #expect(claims < Self.bursts.count)
        }
    }
}
