// Buffers that are valid but unsuitable (catalogue C01 to C08).
import RxPath
import Rings
import TestSupport
import Testing

@Suite("Unsuitable buffers")
struct HostilePlacementTests {
    private static let methods: [RxMethod] = [
        .whole, .headerQueue(.netHeader), .headerQueue(.usedElement),
    ]

    /// Bytes that a packet of `count` bytes needs in data buffers; TCP without options.
    private static func need(_ method: RxMethod, _ count: Int) -> Int {
        switch method {
        case .whole: count + 12
        case .headerDescriptor, .headerPage, .alternating: count + 20
        case .headerQueue(.netHeader): count - 54 + 20
        case .headerQueue(.usedElement): count - 54
        }
    }

    @Test("C01: without enough buffers the ring is left as it was", arguments: methods)
    func neverEnough(method: RxMethod) throws {
        for shortage in [BufferShortage.wait, .drop] {
            let rig = try EvilRig(method: method, slots: (128, 8), shortage: shortage)
            for head in 0..<3 { rig.post(head, byteCount: 1000) }
            let image = rig.guest.image()
            let outcome = rig.enqueue([TestFrames.tcp4(TestFrames.payload(5000))])
            #expect(image.isUnchanged)
            #expect(rig.queue.base == 0 && rig.headerQueue?.claimedCount == 0)
            #expect(outcome.fates == (shortage == .drop ? [false] : []))
            #expect(rig.queue.counters.dropped == (shortage == .drop ? [.noBuffer: 1] : [:]))
            // The buffers serve the next packet that fits.
            #expect(rig.enqueue([TestFrames.tcp4([1, 2, 3])]).fates == [true])
            #expect(rig.used.map(\.head) == [0])
        }
    }

    @Test("C02: a packet that a full ring cannot hold is dropped", arguments: methods)
    func tooManyBuffers(method: RxMethod) throws {
        let rig = try EvilRig(size: 8, method: method, slots: (128, 8))
        for head in 0..<8 { rig.post(head, byteCount: 40) }
        let image = rig.guest.image()
        let most = 8 * 40 + 54 - Self.need(method, 54)
        let outcome = rig.enqueue([TestFrames.tcp4(TestFrames.payload(most - 54 + 1))])
        #expect(outcome.fates == [false])
        #expect(rig.queue.counters.dropped == [.tooManyBuffers: 1])
        #expect(image.isUnchanged)
        #expect(rig.enqueue([TestFrames.tcp4(TestFrames.payload(most - 54))]).fates == [true])
        #expect(rig.used.map(\.length) == Array(repeating: 40, count: 8))
    }

    @Test("C02: a packet may take all 32768 buffers of the largest ring")
    func allBuffers() throws {
        let guest = try EvilGuest([(0x1_0000, 2 << 20)], fill: 0xA5)
        var ring = EvilRing(guest, size: 32768, at: 0x1_0000)
        let arenas = ArenaSupply(chunk: 1 << 18)
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: .mergeableBuffers, memory: guest.memory,
                method: .whole))
        // The net header alone, and two bytes per buffer far behind it.
        let front: UInt64 = 0x10_0000
        let rest: UInt64 = 0x12_0000
        ring.describe(0, front, 12)
        ring.post(0)
        for index in 1..<32768 {
            ring.describe(index, rest + UInt64(2 * index - 2), 2)
            ring.post(index)
        }
        let packet = TestFrames.opaque(2 * 32767)
        #expect(MockPort().enqueue([packet], to: queue).fates == [true])
        #expect(guest.number(front + 10, as: UInt16.self) == 32768)
        #expect(guest.read(front + 12, 0x1_0000).allSatisfy { $0 == 0xA5 })
        let isWhole = guest.read(rest, packet.count) == packet
        #expect(isWhole)
        #expect(queue.counters.buffers == 32768 && guest.bandsAreIntact)
    }

    @Test("C03: a buffer too small for a net header is given back with length 0")
    func tinyBuffers() throws {
        // Mergeable or not: bytes before the packet, then before a header that goes to a slot.
        for (method, least) in [
            (RxMethod.whole, 12), (.headerQueue(.netHeader), 20), (.headerQueue(.usedElement), 1),
        ] {
            for features in [VirtioFeatures.mergeableBuffers, []] {
                let rig = try EvilRig(features: features, method: method, slots: (128, 8))
                rig.post(0, byteCount: least - 1)
                rig.post(1, byteCount: 0)
                rig.post(2)
                let packet = TestFrames.tcp4(TestFrames.payload(100))
                #expect(rig.enqueue([packet]).fates == [true])
                let length = UInt32(Self.need(method, packet.count))
                #expect(rig.used.map(\.length) == [0, 0, length])
                #expect(rig.used.map { $0.head } == [0, 1, 2])
                #expect(rig.queue.counters.tinyBuffers == 2)
                #expect(rig.queue.counters.buffers == 3 && rig.queue.counters.fault == .none)
            }
        }
    }

    @Test("C03: a buffer that just holds the net header is used")
    func smallestBuffer() throws {
        let rig = try EvilRig()
        rig.post(0, byteCount: 12)
        rig.post(1)
        let packet = TestFrames.tcp4([1])
        #expect(rig.enqueue([packet]).fates == [true])
        #expect(rig.used.map(\.length) == [12, 55])
        #expect(rig.guest.number(EvilRig.page(0) + 10, as: UInt16.self) == 2)
        #expect(rig.guest.read(EvilRig.page(1), 55) == packet)
    }

    @Test("C03: 64 in a row break the queue, 63 do not", arguments: [8, 64, 256])
    func tinyStreak(size: Int) throws {
        for shortage in [BufferShortage.wait, .drop] {
            for good in [63, 64] {
                let rig = try EvilRig(size: size, shortage: shortage)
                var posted = 0
                while posted < good {
                    let part = min(size, good - posted)
                    for index in posted..<posted + part { rig.post(index % size, byteCount: 11) }
                    posted += part
                    _ = rig.enqueue([TestFrames.tcp4([1])])
                }
                let counters = rig.queue.counters
                #expect(counters.tinyBuffers == UInt64(good), "\(shortage)")
                #expect(counters.fault == (good == 64 ? .tinyBuffers : .none), "\(shortage)")
                #expect(rig.used.allSatisfy { $0.length == 0 })
            }
        }
    }

    @Test("C03: one good buffer among them starts the count anew")
    func interruptedStreak() throws {
        let rig = try EvilRig(size: 64)
        for _ in 0..<4 {
            for head in 0..<60 { rig.post(head, byteCount: 3) }
            rig.post(60)
            #expect(rig.enqueue([TestFrames.tcp4([1])]).fates == [true])
        }
        #expect(rig.queue.counters.fault == .none && rig.queue.counters.tinyBuffers == 240)
    }

    @Test("C05: without mergeable buffers a packet is never cut short", arguments: methods)
    func bufferTooSmall(method: RxMethod) throws {
        let packet = TestFrames.tcp4(TestFrames.payload(500))
        let need = Self.need(method, packet.count)
        let rig = try EvilRig(features: [], method: method, slots: (128, 8))
        rig.post(0, byteCount: need - 1)
        rig.post(1)
        let image = rig.guest.image()
        #expect(rig.enqueue([packet]).fates == [false])
        #expect(rig.queue.counters.dropped == [.bufferTooSmall: 1])
        #expect(image.isUnchanged && rig.headerQueue?.claimedCount == 0)
        let fitting = TestFrames.tcp4(TestFrames.payload(499))
        #expect(rig.enqueue([fitting]).fates == [true])
        #expect(rig.used.map(\.length) == [UInt32(need - 1)])
    }

    @Test("C05: num_buffers is 1 in a chain")
    func chainNumBuffers() throws {
        let rig = try EvilRig(features: [])
        for index in 0..<4 {
            rig.ring.describe(
                index, EvilRig.page(index), 300,
                flags: DescriptorFlags.write | (index < 3 ? DescriptorFlags.next : 0),
                next: index + 1)
        }
        rig.ring.post(0)
        #expect(rig.enqueue([TestFrames.tcp4(TestFrames.payload(1000))]).fates == [true])
        #expect(rig.used == [.init(id: 0, length: 1066)])
        #expect(rig.guest.number(EvilRig.page(0) + 10, as: UInt16.self) == 1)
    }

    @Test("C06: all buffers of a packet become visible at once")
    func publishedTogether() throws {
        let rig = try EvilRig(size: 64)
        let word = SharedWord16(rig.guest.pointer(rig.ring.usedRing + 2))
        let torn = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
        torn.storeBytes(of: 0, as: UInt64.self)
        defer { torn.deallocate() }
        let count = SharedWord64(torn)
        let watcher = Flipper { _ in if word.loadAcquire() % 3 != 0 { count.fetchAdd(1) } }
        let packet = TestFrames.tcp4(TestFrames.payload(200))
        for round in 0..<500 {
            for part in 0..<12 { rig.post((round * 12 + part) % 64, byteCount: 100) }
            #expect(rig.enqueue(Array(repeating: packet, count: 4)).result.delivered == 4)
        }
        watcher.finish()
        #expect(count.load() == 0)
        #expect(rig.queue.counters.buffers == 6000)
    }

    @Test("C07, C08: all but the last are full, and nothing lies behind used.len")
    func fullAndBounded() throws {
        for method in Self.methods {
            let guest = try EvilGuest(fill: 0xA5)
            guest.fill(EvilRig.ringAddress, 0x1000, with: 0)
            let rig = try EvilRig(method: method, slots: (128, 8), guest: guest)
            for head in 0..<8 { rig.post(head, byteCount: 300) }
            let packet = TestFrames.tcp4(TestFrames.payload(1000))
            #expect(rig.enqueue([packet]).fates == [true])
            let need = Self.need(method, packet.count)
            #expect(rig.used.map(\.length) == [300, 300, 300, UInt32(need - 900)])
            let behind = EvilRig.page(3) + UInt64(need - 900)
            #expect(guest.read(behind, 4096 - (need - 900)).allSatisfy { $0 == 0xA5 })
            #expect(guest.read(EvilRig.page(0) + 300, 3796).allSatisfy { $0 == 0xA5 })
        }
    }
}
