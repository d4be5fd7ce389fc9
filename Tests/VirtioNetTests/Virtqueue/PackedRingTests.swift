// The packed ring's positions, wrap counters, used descriptors and notifications, each beside a
// twin that counts positions without end.
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Packed ring")
struct PackedRingTests {
    private static let sizes = 1...9

    @Test("Cursors move as places that are counted without end")
    func cursors() throws {
        let guest = try EvilGuest()
        try withEvery(Axis("size", Self.sizes), Axis("place", 0..<18)) { size, place in
            let twin = PackedEvilRing(guest, size: size, at: EvilRig.ringAddress)
            let cursor = PackedCursor(base: twin.base(place))
            try #require(cursor.base == twin.base(place))
            try #require(cursor.availableFlags == twin.available(place))
            try #require(cursor.usedFlags == (twin.wrap(place) ? 0x8080 : 0))
            for count in 0...size {
                var moved = cursor
                moved.advance(by: count, size: size)
                try #require(moved == PackedCursor(base: twin.base(place + count)))
                try #require(moved.moved(back: count, size: size) == cursor)
            }
        }
    }

    /// A list that was posted, and its position.
    private struct List {
        let place: Int
        let id: Int
        let lengths: [Int]
    }

    @Test("Lists, used descriptors and bases: all small sizes, starts and bursts")
    func twin() throws {
        let guest = try EvilGuest()
        let arenas = ArenaSupply()
        try withEvery(
            Axis("size", Self.sizes), Axis("start", 0..<18), Axis("burst", [1, 2, 3, 5, 9])
        ) { size, start, burst in
            guard start < 2 * size else { return }
            guest.fill(EvilRig.ringAddress, 0x1000, with: 0)
            let rig = try PackedRig(size: size, start: start, guest: guest, arenas: arenas)
            var random = SeededRandom(seed: UInt64(size) << 16 | UInt64(start) << 8 | UInt64(burst))
            var free = size
            var lists: [List] = []
            for round in 0..<8 {
                while free > 0 && !random.chance(15) {
                    let count = random.chance(60) ? 1 : random.int(1...free)
                    // Any id that is not in flight.
                    let idle = (0..<size).filter { id in !lists.contains { $0.id == id } }
                    let list = List(
                        place: rig.ring.posted, id: random.pick(idle),
                        lengths: (0..<count).map { _ in random.int(100...400) })
                    let pieces = list.lengths.enumerated().map { index, length in
                        (address: EvilRig.page((list.place + index) % size), length: length)
                    }
                    rig.ring.post(pieces, id: list.id)
                    lists.append(list)
                    free -= count
                }
                let packets = (0..<burst).map { TestFrames.opaque(88, seed: round + $0) }
                let outcome = rig.enqueue(packets)
                try #require(outcome.fates.count == min(burst, lists.count))
                for (list, packet) in zip(lists, packets) {
                    try #require(
                        rig.ring.used(list.place) == .init(id: list.id, length: 100))
                    let page = EvilRig.page(list.place % size)
                    try #require(guest.read(page + 12, 88) == packet)
                }
                for list in lists.prefix(burst) { free += list.lengths.count }
                lists.removeFirst(min(burst, lists.count))
                for list in lists { try #require(rig.ring.used(list.place) == nil) }
                let next = lists.first?.place ?? rig.ring.posted
                try #require(rig.queue.base == rig.ring.base(next))
            }
            try #require(guest.bandsAreIntact && rig.queue.counters.fault == .none)
        }
    }

    @Test("A packet over several buffers, around the ring's end, or not at all")
    func severalBuffers() throws {
        let arenas = ArenaSupply()
        try withEvery(Axis("size", 2...9), Axis("start", 0..<18)) { size, start in
            guard start < 2 * size else { return }
            let rig = try PackedRig(size: size, start: start, arenas: arenas)
            for id in 0..<size - 1 { rig.post(id, byteCount: 100) }
            let packet = TestFrames.opaque(100 * size - 12)
            try #require(rig.enqueue([packet]).result.consumed == 0)
            for place in start..<start + size - 1 { try #require(rig.ring.used(place) == nil) }
            try #require(rig.queue.base == rig.ring.base(start))
            rig.post(size - 1, byteCount: 100)
            try #require(rig.enqueue([packet]).fates == [true])
            for id in 0..<size {
                try #require(rig.ring.used(start + id) == .init(id: id, length: 100))
            }
            try #require(rig.queue.base == rig.ring.base(start + size))
        }
    }

    @Test("Slots come in the length of a packet's first used descriptor")
    func slots() throws {
        let rig = try PackedRig(
            size: 6, method: .headerQueue(.usedLength), slots: (128, 8), start: 4)
        for id in 0..<6 { rig.post(id, byteCount: 300) }
        rig.headers?.setTail(8)
        let outcome = rig.enqueue([
            TestFrames.tcp4(TestFrames.payload(500)), TestFrames.opaque(60), TestFrames.tcp4([]),
            TestFrames.udp4(TestFrames.payload(10)),
        ])
        #expect(outcome.fates == [true, true, true, true])
        #expect(rig.ring.used(4) == .init(id: 0, length: 1 << 31 | 300))
        #expect(rig.ring.used(5) == .init(id: 1, length: 200))
        #expect(rig.ring.used(6) == .init(id: 2, length: 72))
        #expect(rig.ring.used(7) == .init(id: 3, length: 0x8001_0000))
        #expect(rig.ring.used(8) == .init(id: 4, length: 0x8002_0000 | 10))
        #expect(rig.ring.used(9) == nil)
    }

    @Test("The largest ring, and its last places")
    func largest() throws {
        let guest = try EvilGuest([(0x1_0000, 0x10_0000), (0x20_0000, 0x1000)])
        let size = 32768
        var ring = PackedEvilRing(guest, size: size, at: 0x1_0000, start: size - 1)
        let arenas = ArenaSupply()
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: .mergeableBuffers, memory: guest.memory,
                method: .whole))
        for id in [size - 1, 0, 77] { ring.post([(0x20_0000, 200)], id: id) }
        let packet = TestFrames.opaque(88)
        #expect(MockPort().enqueue([packet, packet, packet], to: queue).fates.count == 3)
        #expect(ring.used(size - 1) == .init(id: size - 1, length: 100))
        #expect(ring.used(size) == .init(id: 0, length: 100))
        #expect(ring.used(size + 1) == .init(id: 77, length: 100))
        #expect(queue.base == 2)
    }

    @Test("A queue is resumed where another stopped")
    func resume() throws {
        let rig = try PackedRig(size: 5, start: 3)
        for id in 0..<5 { rig.post(id) }
        let packet = TestFrames.tcp4([1])
        rig.enqueue([packet, packet, packet])
        var addresses = rig.ring.addresses
        addresses.base = rig.queue.base
        let arenas = ArenaSupply(chunk: 1 << 18)
        let next = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: addresses, features: .mergeableBuffers, memory: rig.guest.memory,
                method: .whole))
        #expect(rig.port.enqueue([packet], to: next).fates == [true])
        #expect((3..<7).map { rig.ring.used($0)?.id } == [0, 1, 2, 3])
        #expect(rig.ring.used(7) == nil && next.base == rig.ring.base(7))
    }
}
