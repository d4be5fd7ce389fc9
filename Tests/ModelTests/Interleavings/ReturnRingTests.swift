import CleaveRings
import Testing

@testable import CleaveGuestDriver
@testable import CleaveVirtioNet

extension Interleavings {
    /// Slots that come back out of order: workers take groups from return rings, their own first,
    /// and the driver posts what it has done with.
    @Suite("Return rings")
    struct ReturnRingTests {
        /// How slots come back, and what workers ask for.
        struct Shape {
            var slotReturn = SlotReturn.ring
            var slotCount: Int
            var groupSize = 1
            /// For each worker, the numbers of slots that it asks for, burst by burst.
            var claims: [[Int]]
            /// Entries that the driver writes at the beginning although they are lies.
            var lies: [(group: Int, ring: Int)] = []
            /// A lie that it tells at any time; it retires nothing then.
            var early: (group: Int, ring: Int)?

            static func groups(
                _ slotCount: Int, by groupSize: Int, _ claims: [[Int]],
                lies: [(group: Int, ring: Int)] = [], early: (group: Int, ring: Int)? = nil
            ) -> Shape {
                Shape(
                    slotReturn: .groups, slotCount: slotCount, groupSize: groupSize,
                    claims: claims, lies: lies, early: early)
            }
        }

        private let space: GuestSpace

        init() throws { space = try GuestSpace(byteCount: 1 << 29) }

        /// Both halves of a queue, with names for their words.
        private func makeQueue(
            _ run: ModelRun, _ shape: Shape
        ) throws -> (driver: DriverHeaderQueue, device: HeaderQueue) {
            let driver = try DriverHeaderQueue(
                slotSize: 64, slotCount: shape.slotCount, slotReturn: shape.slotReturn,
                rqCount: shape.claims.count, groupSize: shape.groupSize, in: space)
            let device = try HeaderQueue(driver.layout, memory: space.memory)
            let returns = device.claimer.returns
            run.quiet(device.claimer.reportedHead.cellAddress)
            run.quiet(device.claimer.brokenWord.cellAddress)
            for ring in 0..<returns.ringCount {
                let words = returns.words(ring)
                run.word("lock", words.lock.cellAddress)
                run.word("taken", words.taken.cellAddress)
                run.word("reserved", driver.reservedAddress(ring))
                // Of one RQ, or of whoever has the lock.
                for word in [words.duplicates, words.accepted] { run.quiet(word.cellAddress) }
                for word in [words.group, words.next, words.look] { run.quiet(word.cellAddress) }
                for group in 0..<returns.groupCount {
                    run.word("entry", returns.entries + ring * returns.ringStride + 4 * group)
                }
            }
            for group in 0..<returns.groupCount {
                run.word("owner", returns.owner(UInt32(group)).cellAddress)
                let word = driver.wordAddress(group)
                run.word("word \(group)", word)
                // Resetting it belongs to one lap, marking it to the next.
                run.requireOrdered(word)
            }
            return (driver, device)
        }

        /// Slots in a row.
        private func ranges(_ slots: [Int]) -> [(first: Int, count: Int)] {
            var ranges: [(first: Int, count: Int)] = []
            for slot in slots {
                if let last = ranges.last, last.first + last.count == slot {
                    ranges[ranges.count - 1].count += 1
                } else {
                    ranges.append((slot, 1))
                }
            }
            return ranges
        }

        /// Claims, writes and reports a burst.
        /// - Parameter given: which slots the driver has given and nobody claimed; nil if it lies.
        /// - Returns: the burst's slots.
        private func place(
            _ run: ModelRun, _ wanted: Int, _ claimer: HeaderClaimer, _ given: inout [Bool]?
        ) -> [Int] {
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: wanted + 1) {
                let list = $0.baseAddress!
                let claim = claimer.claim(wanted, into: list)
                run.check(claim.count <= wanted, "\(claim.count) for \(wanted)")
                run.check(claim.retries <= 2 * HeaderClaimer.maximumTries, "it waits")
                let slots = (0..<claim.count).map {
                    claimer.returns.slot(Int(claim.first) + $0, list)
                }
                for slot in slots {
                    run.check(given?[slot] != false, "an honest driver's slot comes twice")
                    given?[slot] = false
                    run.writes("slot", slot)
                }
                claimer.report(list, claim)
                return slots
            }
        }

        private func setUp(_ run: ModelRun, _ shape: Shape) throws {
            let (driver, device) = try makeQueue(run, shape)
            func post(_ lie: (group: Int, ring: Int)) {
                driver.retire(
                    first: lie.group * shape.groupSize, count: shape.groupSize, ring: lie.ring)
            }
            shape.lies.forEach(post)
            let isHonest = shape.lies.isEmpty && shape.early == nil
            var given = isHonest ? [Bool](repeating: true, count: shape.slotCount) : nil
            var claimed = shape.claims.map { _ in 0 }
            let channels = shape.claims.map { _ in Channel(run) }
            for (index, bursts) in shape.claims.enumerated() {
                let claimer = device.claimer(ring: shape.slotReturn == .ring ? 0 : index)
                run.thread("worker \(index)") {
                    for wanted in bursts {
                        let slots = place(run, wanted, claimer, &given)
                        claimed[index] += slots.count
                        for range in ranges(slots) {
                            channels[index].send(first: range.first, count: range.count)
                        }
                    }
                }
            }
            if let early = shape.early {
                run.thread("driver") { post(early) }
            } else if isHonest {
                run.thread("driver") {
                    while run.wait(until: { channels.contains { !$0.isEmpty } }) {
                        for (ring, channel) in channels.enumerated() {
                            for burst in channel.receive() {
                                for slot in burst.first..<burst.first + burst.count {
                                    run.reads("slot", slot)
                                    given?[slot] = true
                                }
                                driver.retire(
                                    first: burst.first, count: burst.count,
                                    ring: shape.slotReturn == .ring ? 0 : ring)
                            }
                        }
                    }
                }
            }
            run.finally {
                run.check(!device.isBroken, "the queue is broken")
                run.check(
                    device.claimedCount == claimed.reduce(0, +),
                    "\(device.claimedCount) slots count as claimed, not \(claimed)")
                if !isHonest { return }
                run.check(device.duplicateCount == 0, "an honest driver's entry was skipped")
                let waiting = (0..<driver.layout.groupCount).reduce(0) {
                    $0 + driver.wordAddress($1).load(as: UInt64.self).nonzeroBitCount
                }
                run.check(
                    device.freeCount + waiting == shape.slotCount,
                    "\(device.freeCount) slots are free, \(waiting) wait of \(shape.slotCount)")
            }
        }

        @Test("No slot has two owners, and none is lost, by a shared ring")
        func shared() throws {
            // A worker that finds another at the ring tries again: many schedules.
            for bounds in [
                Bounds(preemptions: 1, staleReads: 1), Bounds(preemptions: 2, staleReads: 0),
            ] {
                try expectHolds(bounds) {
                    try setUp($0, Shape(slotCount: 2, claims: [[1, 1], [2]]))
                }
            }
        }

        @Test(
            "No slot has two owners, and none is lost, by a ring for each RQ",
            arguments: [
                // Both run dry and take what the other gets back; groups of one and of two slots.
                Shape.groups(2, by: 1, [[2, 1], [1]]), .groups(4, by: 2, [[1, 2], [3]]),
            ])
        func groups(_ shape: Shape) throws {
            for bounds in [
                Bounds(preemptions: 1, staleReads: 1), Bounds(preemptions: 2, staleReads: 0),
            ] {
                try expectHolds(bounds) { try setUp($0, shape) }
            }
        }

        @Test("An RQ whose ring is empty gets every slot of others' rings")
        func others() throws {
            // More rings than one claim looks at.
            for count in [2, 3, 16] {
                try expectHolds(Bounds(preemptions: 0, staleReads: 0)) { run in
                    let claims = [[Int]](repeating: [], count: count)
                    let (_, device) = try makeQueue(run, .groups(32, by: 2, claims))
                    var given: [Bool]? = [Bool](repeating: true, count: 32)
                    run.thread("worker 1") {
                        var (slots, misses) = ([Int](), 0)
                        while slots.count < 32 && misses < 2 {
                            let found = place(run, 1, device.claimer(ring: 1), &given)
                            slots += found
                            misses = found.isEmpty ? misses + 1 : 0
                            // Only where a claim does not look at all rings.
                            run.check(!found.isEmpty || count > 9, "it found none of \(count)")
                        }
                        run.check(Set(slots).count == 32, "it got \(slots)")
                    }
                }
            }
        }

        @Test("What a lying driver posts has no second owner")
        func lies() throws {
            for shape in [
                // A slot that its worker still writes.
                Shape(slotCount: 1, claims: [[1], [1]], early: (0, 0)),
                .groups(2, by: 2, [[1, 1], [1]], early: (0, 0)),
                .groups(2, by: 2, [[1, 1], [1]], early: (0, 1)),
                // A slot twice in a ring, a group in both rings.
                Shape(slotCount: 2, claims: [[2], [1, 1]], lies: [(1, 0)]),
                .groups(2, by: 1, [[1], [2]], lies: [(0, 1)]),
                .groups(2, by: 1, [[1, 1], [2]], lies: [(0, 0), (0, 1)]),
            ] {
                try expectHolds(Bounds(preemptions: 2, staleReads: 1)) { try setUp($0, shape) }
            }
        }

        @Test("H1 and H6 are needed", arguments: [Weakening.Part.release, .acquire])
        func weakened(_ part: Weakening.Part) throws {
            let bounds = Bounds(preemptions: 2, staleReads: 0)
            for shape in [
                Shape(slotCount: 1, claims: [[1], [1]], early: (0, 0)),
                .groups(1, by: 1, [[1], [1]], early: (0, 0)),
            ] {
                try expectFinds(
                    "race", bounds, without: Weakening(part: part, word: "owner")
                ) { try setUp($0, shape) }
            }
            for shape in [
                Shape(slotCount: 1, claims: [[1, 1], [1]]),
                .groups(2, by: 2, [[2, 1], [1]]),
            ] {
                try expectFinds(
                    "race", bounds, without: Weakening(part: part, word: "entry")
                ) { try setUp($0, shape) }
            }
        }

        @Test("H5 is needed", arguments: [Weakening.Part.release, .acquire])
        func takers(_ part: Weakening.Part) throws {
            // By an older `taken` a worker gets a slot that was reported and is being read.
            for shape in [
                Shape(slotCount: 2, claims: [[1], [1]]), .groups(2, by: 1, [[1], [2]]),
            ] {
                try expectFinds(
                    "an honest driver's", Bounds(preemptions: 1, staleReads: 2),
                    without: Weakening(part: part, word: "lock")
                ) { try setUp($0, shape) }
            }
        }

        /// Each slot of a group was reported to an RQ whose driver has two threads; they retire
        /// one each, and a worker writes what comes back.
        private func setUpThreads(_ run: ModelRun) throws {
            let shape = Shape.groups(2, by: 2, [[]])
            let (driver, device) = try makeQueue(run, shape)
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 3) {
                let claim = device.claimer.claim(2, into: $0.baseAddress!)
                device.claimer.report($0.baseAddress!, claim)
            }
            var given: [Bool]? = [false, false]
            let channel = Channel(run)
            for slot in 0..<2 {
                run.thread("thread \(slot)") {
                    run.reads("slot", slot)
                    given?[slot] = true
                    driver.retire(first: slot, count: 1)
                    // The one that came last in the first lap may begin the second.
                    while slot == 1, run.wait(until: { !channel.isEmpty }) {
                        for burst in channel.receive() {
                            run.reads("slot", burst.first)
                            given?[burst.first] = true
                            driver.retire(first: burst.first, count: burst.count)
                        }
                    }
                }
            }
            run.thread("worker") {
                _ = run.wait(until: { device.freeCountAtRest > 0 })
                for slot in place(run, 1, device.claimer, &given) {
                    channel.send(first: slot, count: 1)
                }
            }
            run.finally {
                run.check(driver.doubleRetireCount == 0, "slots were retired twice")
                let waiting = driver.wordAddress(0).load(as: UInt64.self).nonzeroBitCount
                run.check(
                    device.freeCount + waiting == 2,
                    "\(device.freeCount) slots are free, \(waiting) wait")
            }
        }

        @Test("Threads of a driver complete a group together: H3")
        func threads() throws {
            try expectHolds(Bounds(preemptions: 3, staleReads: 2)) { try setUpThreads($0) }
            let bounds = Bounds(preemptions: 2, staleReads: 1)
            for part in [Weakening.Part.release, .acquire] {
                try expectFinds(
                    "race", bounds, without: Weakening(part: part, word: "word 0")
                ) { try setUpThreads($0) }
            }
            try expectFinds("race", bounds, bug: .postBeforeReset) { try setUpThreads($0) }
        }

        /// A thread of the driver keeps a slot while another one gets the other slot back again and
        /// again, until the first one's position is that of an entry which the other one wrote.
        private func setUpPositions(_ run: ModelRun, _ shape: Shape) throws {
            let (driver, device) = try makeQueue(run, shape)
            for place in 0..<2 {
                let entry = device.claimer.returns.entries + 4 * place
                run.word("entry \(place)", entry)
                run.requireOrdered(entry)
            }
            let channels = [Channel(run), Channel(run)]
            var given: [Bool]? = [true, true]
            var left = 3
            run.thread("worker") {
                for _ in 0..<left {
                    _ = run.wait(until: { device.freeCountAtRest > 0 })
                    for slot in place(run, 2, device.claimer, &given) {
                        channels[slot].send(first: slot, count: 1)
                    }
                }
            }
            for (index, channel) in channels.enumerated() {
                run.thread("thread \(index)") {
                    // The one with slot 1 comes when the other has retired its slot twice.
                    let isDue = { !channel.isEmpty && (index == 0 || left <= 1) }
                    while left > 0, run.wait(until: isDue) {
                        for burst in channel.receive() {
                            left -= 1
                            given?[burst.first] = true
                            driver.retire(first: burst.first, count: 1)
                        }
                        if index == 1 { return }
                    }
                }
            }
        }

        @Test(
            "Who writes a position knows that its last entry was taken: H7",
            arguments: [Shape(slotCount: 2, claims: [[]]), .groups(2, by: 1, [[]])])
        func positions(_ shape: Shape) throws {
            let bounds = Bounds(preemptions: 2, staleReads: 0)
            try expectHolds(bounds) { try setUpPositions($0, shape) }
            for part in [Weakening.Part.release, .acquire] {
                try expectFinds(
                    "race", bounds, without: Weakening(part: part, word: "reserved")
                ) { try setUpPositions($0, shape) }
            }
        }

        @Test("Each step of taking a group is needed")
        func steps() throws {
            let bounds = Bounds(preemptions: 2, staleReads: 0)
            try expectFinds("race", bounds, bug: .acceptOfAnyRing) {
                try setUp($0, .groups(2, by: 1, [[1, 1], [2]], lies: [(0, 0), (0, 1)]))
            }
            try expectFinds("race", bounds, bug: .takeNobodysByStore) {
                try setUp($0, .groups(2, by: 1, [[1], [2]], lies: [(0, 1)]))
            }
            try expectFinds("an honest driver's", bounds, bug: .unlockTooEarly) {
                try setUp($0, Shape(slotCount: 2, claims: [[1], [1]]))
            }
        }
    }
}

extension HeaderQueue {
    /// Free slots as they are in memory, without asking the scheduler.
    fileprivate var freeCountAtRest: Int {
        let memory = ModelSeam.memory
        ModelSeam.memory = nil
        defer { ModelSeam.memory = memory }
        return freeCount
    }
}
