import CleaveHost
import CleaveRings
import Testing

extension Interleavings {
    /// One thread pushes, one pops; whatever either sees of the other's cursor, elements arrive
    /// once, in order, and no element is written while it may be read.
    @Suite("SPSC ring")
    struct SPSCTests {
        /// A ring, its ends, and what was pushed and popped.
        private final class Rig {
            let memory: UnsafeMutableRawPointer
            var producer: SPSCProducer<UInt64>
            var consumer: SPSCConsumer<UInt64>
            var pushed = 0
            var popped: [UInt64] = []

            init(capacity: Int) {
                memory = .allocate(
                    byteCount: SPSCRing<UInt64>.byteCount(capacity: capacity),
                    alignment: CacheLine.byteCount)
                let ring = SPSCRing<UInt64>(memory: memory, capacity: capacity)
                producer = ring.makeProducer()
                consumer = ring.makeConsumer()
            }

            deinit { memory.deallocate() }

            func pop() {
                withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 2) {
                    let count = consumer.pop(into: $0.baseAddress!, count: 2)
                    popped += $0.prefix(count)
                }
            }
        }

        /// Pushes `bursts` one after the other, each of which may find no room, and pops as often.
        private func setUp(_ run: ModelRun, capacity: Int, bursts: [Int]) {
            let rig = Rig(capacity: capacity)
            func slots(_ old: UInt64, _ new: UInt64) -> [Int] {
                (old..<new).map { Int($0) % capacity }
            }
            // An end is done with the elements that its store of the cursor hands over.
            run.word("tail", rig.memory) { old, new in
                for slot in slots(old, new) { run.writes("slot", slot) }
            }
            run.word("head", rig.memory + CacheLine.byteCount) { old, new in
                for slot in slots(old, new) { run.reads("slot", slot) }
            }
            run.thread("producer") {
                for count in bursts {
                    let elements = (0..<count).map { UInt64(rig.pushed + $0) }
                    rig.pushed += rig.producer.push(elements, count: count)
                }
            }
            run.thread("consumer") {
                for _ in bursts { rig.pop() }
            }
            run.finally {
                while rig.popped.count < rig.pushed {
                    let before = rig.popped.count
                    rig.pop()
                    if rig.popped.count == before { break }
                }
                run.check(
                    rig.popped == (0..<UInt64(rig.pushed)).map { $0 },
                    "pushed \(rig.pushed), popped \(rig.popped)")
            }
        }

        @Test(
            "Elements arrive once and in order",
            arguments: [(1, [1, 1, 1]), (2, [1, 2, 1]), (2, [2, 2, 2]), (4, [3, 2, 2])])
        func order(_ capacity: Int, _ bursts: [Int]) throws {
            try expectHolds(Bounds(preemptions: 5, staleReads: 3)) {
                setUp($0, capacity: capacity, bursts: bursts)
            }
        }

        @Test("Each end of R1 and R2 is needed", arguments: ["tail", "head"])
        func weakened(_ word: String) throws {
            for part in [Weakening.Part.release, .acquire] {
                try expectFinds(
                    "race", Bounds(preemptions: 2, staleReads: 0),
                    without: Weakening(part: part, word: word)
                ) { setUp($0, capacity: 2, bursts: [2, 2]) }
            }
        }
    }
}
