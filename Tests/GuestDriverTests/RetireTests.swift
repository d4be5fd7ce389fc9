// Slots come back in any order, the tail moves by what is contiguous, and never too far.
import CleaveGuestDriver
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// A header queue's driver half beside a naive one: a set of retired slots.
private final class TwinQueue {
    let queue: DriverHeaderQueue
    let start: UInt32
    private let tailWord: SharedWord32
    /// Free-running numbers: all slots below `claimed` were given to the device's user.
    private(set) var claimed = 0
    private(set) var outstanding: Set<Int> = []

    init(slotCount: Int, start: UInt32 = 0) throws {
        let space = try GuestSpace(byteCount: slotCount * 64 + 4096, pages: .small)
        queue = try DriverHeaderQueue(slotSize: 64, slotCount: slotCount, in: space)
        self.start = start
        tailWord = SharedWord32(space.memory.translate(queue.layout.control, byteCount: 4)!)
        tailWord.store(tailWord.load() &+ start)
    }

    var slotCount: Int { queue.layout.slotCount }
    /// All below it are retired.
    var contiguous: Int { outstanding.min() ?? claimed }
    var expectedTail: UInt32 {
        start &+ UInt32(slotCount + contiguous / queue.groupSize * queue.groupSize)
    }
    var isRight: Bool { queue.currentTail == expectedTail && queue.doubleRetireCount == 0 }
    var free: Int { Int(queue.currentTail &- start) - claimed }

    func claim(_ count: Int) {
        outstanding.formUnion(claimed..<claimed + count)
        claimed += count
    }

    func retire(_ range: Range<Int>) {
        outstanding.subtract(range)
        queue.retire(first: range.lowerBound % slotCount, count: range.count)
    }
}

@Suite("Retiring header slots")
struct RetireTests {
    private static let slotCounts = [1, 2, 4, 8, 16, 32, 64]

    @Test("A quarter of the slots, and no more than 32, make a group")
    func groups() throws {
        for (slotCount, groupSize) in [
            (1, 1), (2, 1), (4, 1), (8, 2), (64, 16), (128, 32), (4096, 32),
        ] {
            #expect(try TwinQueue(slotCount: slotCount).queue.groupSize == groupSize)
        }
    }

    @Test("Every range from everywhere, also over the end", arguments: slotCounts)
    func ranges(_ slotCount: Int) throws {
        for first in 0..<slotCount {
            for count in 0...slotCount {
                let twin = try TwinQueue(slotCount: slotCount, start: UInt32.max - 5)
                // Advance to `first` one by one, then retire a range in one call.
                for slot in 0..<first {
                    twin.claim(1)
                    twin.retire(slot..<slot + 1)
                }
                let reach = min(count, twin.free)
                twin.claim(reach)
                twin.retire(first..<first + reach)
                try #require(twin.isRight, "slots \(slotCount), \(reach) from \(first)")
            }
        }
    }

    @Test("Every order of 8 slots")
    func everyOrder() throws {
        let twin = try TwinQueue(slotCount: 8)
        var orders = 0
        func permute(_ order: [Int], _ rest: [Int]) throws {
            if rest.isEmpty {
                orders += 1
                let base = twin.claimed
                twin.claim(8)
                for slot in order { twin.retire(base + slot..<base + slot + 1) }
                try #require(twin.isRight, "\(order)")
                return
            }
            for index in rest.indices {
                var left = rest
                let next = left.remove(at: index)
                try permute(order + [next], left)
            }
        }
        try permute([], Array(0..<8))
        #expect(orders == 40_320)
    }

    @Test("Random ranges in random order, over the wrap of the tail", arguments: slotCounts)
    func random(_ slotCount: Int) throws {
        var random = SeededRandom(seed: UInt64(slotCount))
        let twin = try TwinQueue(slotCount: slotCount, start: UInt32.max - UInt32(20 * slotCount))
        var ranges: [Range<Int>] = []
        for step in 0..<3000 {
            let count = random.int(0...twin.free)
            if count > 0 {
                ranges.append(twin.claimed..<twin.claimed + count)
                twin.claim(count)
            }
            for _ in 0..<random.int(0...ranges.count) {
                let index = random.int(0...ranges.count - 1)
                let range = ranges[index]
                // Whole, or a piece from its front or back.
                let cut = random.int(range.lowerBound...range.upperBound)
                let isFront = random.chance(50)
                twin.retire(isFront ? range.lowerBound..<cut : cut..<range.upperBound)
                let rest = isFront ? cut..<range.upperBound : range.lowerBound..<cut
                if rest.isEmpty { ranges.remove(at: index) } else { ranges[index] = rest }
                try #require(twin.isRight, "step \(step)")
            }
        }
        for range in ranges { twin.retire(range) }
        #expect(twin.isRight && twin.outstanding.isEmpty)
    }

    @Test("The tail waits for the oldest slot")
    func oldestHoldsBack() throws {
        let twin = try TwinQueue(slotCount: 64)
        twin.claim(64)
        for slot in (1..<64).reversed() {
            twin.retire(slot..<slot + 1)
            try #require(twin.queue.currentTail == 64)
        }
        twin.retire(0..<1)
        #expect(twin.queue.currentTail == 128)
    }

    @Test("Retiring a slot twice is counted and moves nothing")
    func twice() throws {
        let twin = try TwinQueue(slotCount: 64)
        twin.claim(32)
        twin.retire(3..<5)
        twin.queue.retire(first: 4, count: 2)
        #expect(twin.queue.doubleRetireCount == 1)
        #expect(twin.queue.currentTail == 64)
    }

    /// A read-modify-write changes its word: it sets a bit that was clear, or completes the word,
    /// which is then reset. So the words that differ afterwards count the read-modify-writes of a
    /// burst in order, which never returns to a word.
    @Test("A burst of up to a group, in order, costs at most two read-modify-writes")
    func cost() throws {
        // One slot is one word, to which a burst comes back at once.
        for slotCount in Self.slotCounts.dropFirst() + [128, 256] {
            let twin = try TwinQueue(slotCount: slotCount)
            let groupSize = twin.queue.groupSize
            let groupCount = slotCount / groupSize
            let words = try #require(
                Mirror(reflecting: twin.queue).descendant("words") as? UnsafeMutableRawPointer)
            func image() -> [UInt64] {
                (0..<groupCount).map { words.load(fromByteOffset: 64 * $0, as: UInt64.self) }
            }
            var random = SeededRandom(seed: 1)
            var most = 0
            for _ in 0..<500 {
                let count = random.int(1...groupSize)
                let before = image()
                let first = twin.claimed
                twin.claim(count)
                twin.retire(first..<first + count)
                most = max(most, zip(before, image()).count { $0 != $1 })
                try #require(twin.isRight)
            }
            // A burst that ends a group must pass on to the next one: two are needed.
            #expect(most == 2, "\(slotCount) slots")
        }
    }
}
