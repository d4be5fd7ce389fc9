import CleaveRings
import Testing

@testable import CleaveGuestDriver
@testable import CleaveVirtioNet

extension Interleavings {
    /// Slots that come back out of order: workers claim from the free list and refill it with what
    /// the driver posts, one at a time.
    @Suite("Return ring")
    struct ReturnRingTests {
        private let space: GuestSpace

        init() throws { space = try GuestSpace(byteCount: 1 << 28) }

        /// - Parameters:
        ///   - claims: for each worker, the numbers of slots that it asks for, burst by burst.
        ///   - early: the driver posts a slot while its worker still writes it, once.
        private func setUp(
            _ run: ModelRun, slotCount: Int, claims: [[Int]], early: Bool = false
        ) throws {
            let driver = try DriverHeaderQueue(
                slotSize: 64, slotCount: slotCount, slotReturn: .ring, in: space)
            let device = try HeaderQueue(driver.layout, memory: space.memory)
            let claimer = device.claimer
            run.quiet(claimer.publicHead.cellAddress)
            run.quiet(claimer.brokenWord.cellAddress)
            run.word("head", claimer.claimedHead.cellAddress)
            run.word("ready", claimer.returns.ready.cellAddress)
            run.word("lock", claimer.returns.lock.cellAddress)
            for slot in 0..<slotCount {
                run.word("owned", claimer.returns.owned(UInt32(slot)).cellAddress)
                run.word("entry", claimer.returns.entries + 4 * slot)
            }
            /// Which worker has a slot; nil: none.
            var writers = [Int?](repeating: nil, count: slotCount)
            let channels = claims.map { _ in Channel(run) }
            for (index, bursts) in claims.enumerated() {
                run.thread("worker \(index)") {
                    for wanted in bursts {
                        withUnsafeTemporaryAllocation(of: UInt16.self, capacity: wanted) {
                            let list = $0.baseAddress!
                            let claim = claimer.claim(wanted, into: list)
                            run.check(claim.count <= wanted, "\(claim.count) for \(wanted)")
                            let slots = (0..<claim.count).map { Int(list[$0]) }
                            for slot in slots {
                                run.check(writers[slot] == nil, "slot \(slot) has two owners")
                                writers[slot] = index
                                run.writes("slot", slot)
                            }
                            for slot in slots { writers[slot] = nil }
                            claimer.report(list, claim.count)
                            for slot in slots { channels[index].send(first: slot, count: 1) }
                        }
                    }
                }
            }
            run.thread("driver") {
                if early {
                    // Slot 0 has an owner or is in the free list: posting it is a lie.
                    return driver.retire(first: 0, count: 1)
                }
                while run.wait(until: { channels.contains { !$0.isEmpty } }) {
                    for channel in channels {
                        for burst in channel.receive() {
                            run.reads("slot", burst.first)
                            driver.retire(first: burst.first, count: 1)
                        }
                    }
                }
            }
            run.finally {
                run.check(!device.isBroken, "the queue is broken")
                if early { return }
                run.check(
                    device.freeCount == slotCount && claimer.returns.duplicates.load() == 0,
                    "\(device.freeCount) of \(slotCount) slots are free")
            }
        }

        @Test("No slot has two owners, and none is lost")
        func owners() throws {
            // A worker that finds another at the refill checks again: many schedules.
            for bounds in [
                Bounds(preemptions: 1, staleReads: 1), Bounds(preemptions: 2, staleReads: 0),
            ] {
                try expectHolds(bounds) { try setUp($0, slotCount: 2, claims: [[1, 1], [2]]) }
            }
        }

        @Test("A slot that is posted too early has no second owner")
        func early() throws {
            try expectHolds(Bounds(preemptions: 2, staleReads: 1)) {
                try setUp($0, slotCount: 1, claims: [[1], [1]], early: true)
            }
        }

        @Test("H1 and H6 are needed")
        func weakened() throws {
            for part in [Weakening.Part.release, .acquire] {
                try expectFinds(
                    "race", Bounds(preemptions: 2, staleReads: 0),
                    without: Weakening(part: part, word: "owned")
                ) { try setUp($0, slotCount: 1, claims: [[1], [1]], early: true) }
                try expectFinds(
                    "race", Bounds(preemptions: 2, staleReads: 0),
                    without: Weakening(part: part, word: "entry")
                ) { try setUp($0, slotCount: 1, claims: [[1, 1], [1]]) }
            }
        }

        @Test("H4 is needed", arguments: [Weakening.Part.release, .acquire])
        func freeList(_ part: Weakening.Part) throws {
            try expectFinds(
                "race", Bounds(preemptions: 2, staleReads: 1),
                without: Weakening(part: part, word: "ready")
            ) { try setUp($0, slotCount: 1, claims: [[1, 1], [1]]) }
        }

        @Test("H5 is needed", arguments: [Weakening.Part.release, .acquire])
        func refill(_ part: Weakening.Part) throws {
            try expectFinds(
                "slots are free", Bounds(preemptions: 1, staleReads: 4),
                without: Weakening(part: part, word: "lock")
            ) { try setUp($0, slotCount: 2, claims: [[2], [2]]) }
        }
    }
}
