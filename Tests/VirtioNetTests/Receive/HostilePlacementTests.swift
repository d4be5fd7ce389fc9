// Buffers that are valid but unsuitable, in rings of both formats (catalogue C01 to C08).
import CleaveHost
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Unsuitable buffers")
struct HostilePlacementTests {
    private static let methods: [RxMethod] = [
        .whole, .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]

    /// Bytes that a packet of `count` bytes needs in data buffers; TCP without options.
    private static func need(_ method: RxMethod, _ count: Int) -> Int {
        switch method {
        case .whole: count + 12
        case .headerDescriptor, .headerPage, .alternating: count + 20
        case .headerQueue(.netHeader): count - 54 + 20
        case .headerQueue(.usedLength): count - 54
        }
    }

    @Test(
        "C01: without enough buffers the ring is left as it was",
        arguments: RingFormat.allCases, methods)
    func neverEnough(format: RingFormat, method: RxMethod) throws {
        for shortage in [BufferShortage.wait, .drop] {
            let rig = try format.rig(method: method, slots: (128, 8), shortage: shortage)
            let base = rig.queue.base
            for head in 0..<3 { rig.post(head, byteCount: 1000) }
            let image = rig.guest.image()
            let outcome = rig.enqueue([TestFrames.tcp4(TestFrames.payload(5000))])
            #expect(image.isUnchanged)
            #expect(rig.queue.base == base && rig.headerQueue?.claimedCount ?? 0 == 0)
            #expect(outcome.fates == (shortage == .drop ? [false] : []))
            #expect(rig.queue.counters.dropped == (shortage == .drop ? [.noBuffer: 1] : [:]))
            // The buffers serve the next packet that fits.
            #expect(rig.enqueue([TestFrames.tcp4([1, 2, 3])]).fates == [true])
            #expect(rig.reports.map(\.id) == [0])
        }
    }

    @Test(
        "C02: a packet that a full ring cannot hold is dropped",
        arguments: RingFormat.allCases, methods)
    func tooManyBuffers(format: RingFormat, method: RxMethod) throws {
        let rig = try format.rig(size: 8, method: method, slots: (128, 8))
        for head in 0..<8 { rig.post(head, byteCount: 40) }
        let image = rig.guest.image()
        let most = 8 * 40 + 54 - Self.need(method, 54)
        let outcome = rig.enqueue([TestFrames.tcp4(TestFrames.payload(most - 54 + 1))])
        #expect(outcome.fates == [false])
        #expect(rig.queue.counters.dropped == [.tooManyBuffers: 1])
        #expect(image.isUnchanged)
        #expect(rig.enqueue([TestFrames.tcp4(TestFrames.payload(most - 54))]).fates == [true])
        #expect(rig.reports.map(\.length) == Array(repeating: 40, count: 8))
    }

    @Test("C02: buffers of one byte, and a packet that needs more than there can be of them")
    func oneByteBuffers() throws {
        for format in RingFormat.allCases {
            for method in Self.methods {
                let rig = try format.rig(size: 64, method: method, slots: (128, 8))
                rig.post(0, byteCount: 20)
                for id in 1..<64 { rig.post(id, byteCount: 1) }
                let image = rig.guest.image()
                let big = TestFrames.tcp4(TestFrames.payload(65535))
                #expect(rig.enqueue([big]).fates == [false])
                #expect(rig.queue.counters.dropped == [.tooManyBuffers: 1])
                #expect(image.isUnchanged)
                let small = TestFrames.tcp4(TestFrames.payload(method == .whole ? 17 : 63))
                #expect(rig.enqueue([small]).fates == [true])
                #expect(rig.reports.dropFirst().allSatisfy { $0.length == 1 })
            }
        }
    }

    /// A queue over the largest ring, each buffer posted on its own.
    private static func largest(
        _ format: RingFormat, _ guest: EvilGuest, _ buffers: [(address: UInt64, length: Int)]
    ) throws -> VirtqueueAddresses {
        switch format {
        case .split:
            var ring = EvilRing(guest, size: buffers.count, at: 0x1_0000)
            for (index, buffer) in buffers.enumerated() {
                ring.describe(index, buffer.address, buffer.length)
                ring.post(index)
            }
            return ring.addresses
        case .packed:
            var ring = PackedEvilRing(guest, size: buffers.count, at: 0x1_0000)
            for (index, buffer) in buffers.enumerated() { ring.post([buffer], id: index) }
            return ring.addresses
        }
    }

    @Test(
        "C02: a packet may take all 32768 buffers of the largest ring",
        arguments: RingFormat.allCases)
    func allBuffers(format: RingFormat) throws {
        let guest = try EvilGuest([(0x1_0000, 2 << 20)], fill: 0xA5)
        // The net header alone, and two bytes per buffer far after it.
        let front: UInt64 = 0x10_0000
        let rest: UInt64 = 0x12_0000
        let addresses = try Self.largest(
            format, guest,
            [(front, 12)] + (0..<32767).map { (rest + UInt64(2 * $0), 2) })
        let arenas = ArenaSupply(chunk: 1 << 18)
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: addresses, features: .mergeableBuffers, memory: guest.memory,
                method: .whole))
        let packet = TestFrames.opaque(2 * 32767)
        #expect(MockPort().enqueue([packet], to: queue).fates == [true])
        #expect(guest.number(front + 10, as: UInt16.self) == 32768)
        #expect(guest.read(front + 12, 0x1_0000).allSatisfy { $0 == 0xA5 })
        let isWhole = guest.read(rest, packet.count) == packet
        #expect(isWhole)
        #expect(queue.counters.buffers == 32768 && guest.bandsAreIntact)
    }

    @Test(
        "C03: a buffer too small for a net header is given back with length 0",
        arguments: RingFormat.allCases)
    func undersizedBuffers(format: RingFormat) throws {
        // Mergeable or not: bytes before the packet, then before a header that goes to a slot.
        for (method, least) in [
            (RxMethod.whole, 12), (.headerQueue(.netHeader), 20), (.headerQueue(.usedLength), 1),
        ] {
            for features in [VirtioFeatures.mergeableBuffers, []] {
                let rig = try format.rig(features: features, method: method, slots: (128, 8))
                rig.post(0, byteCount: least - 1)
                rig.post(1, byteCount: 0)
                rig.post(2)
                let packet = TestFrames.tcp4(TestFrames.payload(100))
                #expect(rig.enqueue([packet]).fates == [true])
                #expect(
                    rig.reports.map(\.length) == [0, 0, Self.need(method, packet.count)])
                #expect(rig.reports.map(\.id) == [0, 1, 2])
                #expect(rig.queue.counters.undersizedBuffers == 2)
                #expect(rig.queue.counters.buffers == 3 && rig.queue.counters.fault == .none)
            }
        }
    }

    @Test(
        "C03: a buffer that just holds the net header is used", arguments: RingFormat.allCases)
    func smallestBuffer(format: RingFormat) throws {
        let rig = try format.rig()
        rig.post(0, byteCount: 12)
        rig.post(1)
        let packet = TestFrames.tcp4([1])
        #expect(rig.enqueue([packet]).fates == [true])
        #expect(rig.reports.map(\.length) == [12, 55])
        #expect(rig.guest.number(EvilRig.page(0) + 10, as: UInt16.self) == 2)
        #expect(rig.guest.read(EvilRig.page(1), 55) == packet)
    }

    @Test(
        "C03: 64 in a row break the queue, 63 do not", arguments: RingFormat.allCases,
        [8, 64, 256])
    func tinyStreak(format: RingFormat, size: Int) throws {
        for shortage in [BufferShortage.wait, .drop] {
            for good in [63, 64] {
                let rig = try format.rig(size: size, shortage: shortage)
                var posted = 0
                while posted < good {
                    let part = min(size, good - posted)
                    for index in posted..<posted + part { rig.post(index % size, byteCount: 11) }
                    posted += part
                    _ = rig.enqueue([TestFrames.tcp4([1])])
                }
                let counters = rig.queue.counters
                #expect(counters.undersizedBuffers == UInt64(good), "\(shortage)")
                #expect(counters.fault == (good == 64 ? .undersizedBuffers : .none), "\(shortage)")
                #expect(rig.reports.allSatisfy { $0.length == 0 })
                #expect(rig.usedTotal == good)
            }
        }
    }

    @Test(
        "C03: one good buffer among them starts the count anew", arguments: RingFormat.allCases)
    func interruptedStreak(format: RingFormat) throws {
        let rig = try format.rig(size: 64)
        for _ in 0..<4 {
            for head in 0..<60 { rig.post(head, byteCount: 3) }
            rig.post(60)
            #expect(rig.enqueue([TestFrames.tcp4([1])]).fates == [true])
        }
        #expect(rig.queue.counters.fault == .none && rig.queue.counters.undersizedBuffers == 240)
    }

    @Test(
        "C04: a buffer that changes while it is held is filled as it was checked",
        arguments: RingFormat.allCases, methods)
    func changedWhileHeld(format: RingFormat, method: RxMethod) throws {
        for isMergeable in [true, false] {
            let rig = try format.rig(
                features: isMergeable ? .mergeableBuffers : [], method: method, slots: (128, 8))
            // The packet itself rewrites every descriptor between its first bytes and its last.
            let pieces = [
                PostedPiece(EvilRig.page(0), 300), PostedPiece(rig.descriptorAddress(0), 128),
                PostedPiece(EvilRig.page(2), 4096),
            ]
            if isMergeable {
                for (id, piece) in pieces.enumerated() { rig.post([piece], id: id) }
            } else {
                rig.post(pieces, id: 0)
            }
            let packet = TestFrames.tcp4([UInt8](repeating: 0xFF, count: 1000))
            #expect(rig.enqueue([packet]).fates == [true])
            let need = Self.need(method, packet.count)
            let rest = need - 428
            #expect(rig.guest.read(EvilRig.page(2), rest) == Array(packet.suffix(rest)))
            #expect(rig.guest.read(EvilRig.page(2) + UInt64(rest), 64).allSatisfy { $0 == 0 })
            let lengths = isMergeable ? [300, 128, rest] : [need]
            #expect(rig.reports.map(\.length) == lengths)
            #expect(rig.reports.map(\.id) == Array(0..<lengths.count))
            let netHeader =
                method.namesSlotsInUsedEntries
                ? EvilRig.headerAddress + 256 : EvilRig.page(0)
            #expect(rig.guest.number(netHeader + 10, as: UInt16.self) == lengths.count)
            #expect(rig.guest.bandsAreIntact && rig.queue.counters.fault == .none)
        }
    }

    @Test(
        "C05: without mergeable buffers a packet is never cut short",
        arguments: RingFormat.allCases, methods)
    func bufferTooSmall(format: RingFormat, method: RxMethod) throws {
        let packet = TestFrames.tcp4(TestFrames.payload(500))
        let need = Self.need(method, packet.count)
        let rig = try format.rig(features: [], method: method, slots: (128, 8))
        rig.post(0, byteCount: need - 1)
        rig.post(1)
        let image = rig.guest.image()
        #expect(rig.enqueue([packet]).fates == [false])
        #expect(rig.queue.counters.dropped == [.bufferTooSmall: 1])
        #expect(image.isUnchanged && rig.headerQueue?.claimedCount ?? 0 == 0)
        let fitting = TestFrames.tcp4(TestFrames.payload(499))
        #expect(rig.enqueue([fitting]).fates == [true])
        #expect(rig.reports.map(\.length) == [need - 1])
    }

    @Test("C05: num_buffers is 1 in a chain", arguments: RingFormat.allCases)
    func chainNumBuffers(format: RingFormat) throws {
        let rig = try format.rig(features: [])
        rig.post((0..<4).map { PostedPiece(EvilRig.page($0), 300) }, id: 0)
        #expect(rig.enqueue([TestFrames.tcp4(TestFrames.payload(1000))]).fates == [true])
        #expect(rig.reports == [.init(id: 0, length: 1066)])
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

    @Test("C06: a driver that sees a burst's first used descriptor sees all of them")
    func publishedTogetherPacked() throws {
        let rig = try PackedRig(size: 12)
        let ring = Int(bitPattern: rig.guest.pointer(rig.ring.descriptorRing))
        let words = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
        words.initializeMemory(as: UInt64.self, repeating: 0, count: 4)
        defer { words.deallocate() }
        let tornCount = SharedWord64(words)
        let seenCount = SharedWord64(words + 8)
        let round = SharedWord64(words + 16)
        let lookCount = SharedWord64(words + 24)
        let watcher = Flipper { _ in
            defer { lookCount.fetchAdd(1) }
            let before = round.loadAcquire()
            let used = (0..<12).map { place in
                UnsafeMutableRawPointer(bitPattern: ring + 16 * place + 14).map {
                    SharedWord16($0).loadAcquire() & 0x8080 == (before & 1 == 0 ? 0 : 0x8080)
                }
            }
            // Of the same round throughout: nothing was posted anew.
            if before == 0 || used[0] != true || round.loadAcquire() != before { return }
            seenCount.fetchAdd(1)
            if used.contains(false) { tornCount.fetchAdd(1) }
        }
        let packet = TestFrames.tcp4(TestFrames.payload(200))
        for number in 1...500 {
            for part in 0..<12 { rig.post(part, byteCount: 100) }
            round.storeRelease(UInt64(number))
            #expect(rig.enqueue(Array(repeating: packet, count: 4)).result.delivered == 4)
            // The watcher checks a finished burst now and then, however rarely it runs.
            let looks = lookCount.load()
            while number % 50 == 0 && lookCount.load() < looks + 2 { PinnedThread.yield() }
            round.storeRelease(0)
        }
        watcher.finish()
        #expect(tornCount.load() == 0 && seenCount.load() >= 10)
        #expect(rig.queue.counters.buffers == UInt64(12 * 500))
    }

    @Test(
        "C07, C08: all but the last are full, and nothing lies behind used.len",
        arguments: RingFormat.allCases)
    func fullAndBounded(format: RingFormat) throws {
        for method in Self.methods {
            let guest = try EvilGuest(fill: 0xA5)
            guest.fill(EvilRig.ringAddress, 0x1000, with: 0)
            let rig = try format.rig(method: method, slots: (128, 8), guest: guest)
            for head in 0..<8 { rig.post(head, byteCount: 300) }
            let packet = TestFrames.tcp4(TestFrames.payload(1000))
            #expect(rig.enqueue([packet]).fates == [true])
            let need = Self.need(method, packet.count)
            #expect(rig.reports.map(\.length) == [300, 300, 300, need - 900])
            let behind = EvilRig.page(3) + UInt64(need - 900)
            #expect(guest.read(behind, 4096 - (need - 900)).allSatisfy { $0 == 0xA5 })
            #expect(guest.read(EvilRig.page(0) + 300, 3796).allSatisfy { $0 == 0xA5 })
        }
    }
}
