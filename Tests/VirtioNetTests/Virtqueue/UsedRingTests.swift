// The used ring, published in two spans from a shadow, against a twin that writes one entry after
// the other; and the decision to call, against the rule spelled out.
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Used ring and notification")
struct UsedRingTests {
    static let starts: [UInt16] = Array(0...9) + Array(65520...65535)

    /// A used ring as an array of words, written one by one.
    private struct NaiveUsedRing {
        var entries: [EvilRing.Used]
        var index: UInt16

        mutating func append(_ entry: EvilRing.Used) {
            entries[Int(index) % entries.count] = entry
            index = index == 65535 ? 0 : index + 1
        }
    }

    @Test("Entries land where a naive ring puts them: all small sizes, cursors, bursts")
    func twin() throws {
        let guest = try EvilGuest()
        let shadow = UnsafeMutablePointer<UInt64>.allocate(capacity: 8)
        let list = UnsafeMutablePointer<Segment>.allocate(capacity: 64)
        defer {
            shadow.deallocate()
            list.deallocate()
        }
        try withEvery(Axis("size", [1, 2, 4, 8]), Axis("start", Self.starts), Axis("burst", 1...8))
        {
            size, start, burst in
            guard burst <= size else { return }
            guest.fill(EvilRig.ringAddress, 0x1000, with: 0)
            var ring = EvilRing(guest, size: size, at: EvilRig.ringAddress, firstIndex: start)
            var queue = try SplitVirtqueue(
                ring.addresses, features: [], memory: guest.memory, shadow: shadow)
            var twin = NaiveUsedRing(
                entries: Array(repeating: .init(id: 0, length: 0), count: size), index: start)
            for index in 0..<size { ring.describe(index, EvilRig.page(index), 100 + index) }
            var random = SeededRandom(seed: UInt64(size) << 32 | UInt64(start) << 8 | UInt64(burst))
            for round in 0..<4 {
                var segments = SegmentList(base: list, capacity: 64)
                let heads = (0..<burst).map { _ in random.int(0...size - 1) }
                for head in heads { ring.post(head) }
                queue.refresh(burst)
                let kept = random.int(0...burst)
                for (position, head) in heads.enumerated() {
                    let fetch = queue.pop(10, &segments)
                    try #require(fetch.isBuffer && fetch.byteCount == 100 + head)
                    queue.addUsed(round * 10 + position)
                }
                // Some are rewound and used again.
                queue.rewind(toUsed: kept)
                for position in kept..<burst {
                    try #require(queue.pop(10, &segments).isBuffer)
                    queue.addUsed(round * 10 + position)
                }
                try #require(queue.pop(1, &segments).isEmpty)
                for (position, head) in heads.enumerated() {
                    let slot = random.pick([nil, 0, 1, 32767])
                    if let slot { queue.slotReport.attach(slot: UInt32(slot), toUsed: position) }
                    twin.append(
                        .init(
                            id: UInt32(head),
                            length: UInt32(round * 10 + position)
                                | (slot.map { 1 << 31 | UInt32($0) << 16 } ?? 0)))
                }
                let before = ring.usedIndex
                queue.publish()
                try #require(before == twin.index &- UInt16(burst))
                try #require(ring.usedIndex == twin.index)
                let found = (0..<size).map { ring.used(UInt16($0)) }
                try #require(found == twin.entries)
                try #require(queue.base == twin.index && queue.usedCount == 0)
            }
        }
        #expect(guest.bandsAreIntact)
    }

    @Test("Nothing used, nothing published")
    func empty() throws {
        let rig = try EvilRig(firstIndex: 77)
        let image = rig.guest.image()
        #expect(rig.enqueue([]).result.consumed == 0)
        #expect(rig.enqueue([TestFrames.tcp4([1])]).result.consumed == 0)
        #expect(image.isUnchanged)
        #expect(!rig.enqueue([]).result.wantsCall)
        #expect(rig.queue.counters.calls == 0 && rig.queue.counters.emptyPolls == 3)
    }

    /// Whether any of the entries written has the number `event`.
    private static func naiveCrossed(_ event: UInt16, from: UInt16, count: Int) -> Bool {
        (0..<count).contains { UInt16(truncatingIfNeeded: Int(from) + $0) == event }
    }

    @Test("B26: the event rule equals the naive one, for all small inputs and around wrap")
    func eventRule() throws {
        let near = Array(0...12) + Array(65524...65535)
        try withEvery(Axis("event", near), Axis("from", near), Axis("count", 0...24)) {
            event, from, count in
            let to = UInt16(from) &+ UInt16(count)
            try #require(
                SplitEvent.isCrossed(UInt16(event), upTo: to, count: count)
                    == Self.naiveCrossed(UInt16(event), from: UInt16(from), count: count))
        }
        var random = SeededRandom(seed: 26)
        for _ in 0..<3000 {
            let from = UInt16(random.int(0...65535))
            let count = random.chance(80) ? random.int(0...300) : random.int(0...32768)
            let event =
                random.chance(50)
                ? UInt16(random.int(0...65535)) : from &+ UInt16(random.int(0...count + 2)) &- 1
            let to = from &+ UInt16(count)
            try #require(
                SplitEvent.isCrossed(event, upTo: to, count: count)
                    == Self.naiveCrossed(event, from: from, count: count),
                "event \(event), from \(from), count \(count)")
        }
    }
}
