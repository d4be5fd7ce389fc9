// The report `usedLength`, byte by byte as the protocol page has it: what a driver finds that gets
// nothing of a used entry but a plain id and a length.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// One used entry as the ring code of a kernel hands it on. Nothing else of it is looked at.
private struct PlainEntry: Equatable {
    var id: Int
    var length: UInt32
}

/// Reads used entries in order, in the way of Linux's `virtqueue_get_buf`: the id has to be below
/// the size of the ring and of a posted buffer, and the length is handed on as it is.
private struct PlainReader {
    let rig: any ReceiveRig
    let size: Int
    /// Where the first used entry is: a split ring's index, a packed ring's place.
    var next: Int

    /// The next entry, or nil if the device has not used any more.
    mutating func get() throws -> PlainEntry? {
        let entry: PlainEntry
        if let rig = rig as? EvilRig {
            if rig.ring.usedIndex == UInt16(truncatingIfNeeded: next) { return nil }
            let place = rig.ring.usedRing + 4 + UInt64(8 * (next & (size - 1)))
            entry = PlainEntry(
                id: Int(rig.guest.number(place, as: UInt32.self)),
                length: rig.guest.number(place + 4, as: UInt32.self))
        } else {
            let place = rig.descriptorAddress(next % size)
            let flags = rig.guest.number(place + 14, as: UInt16.self)
            guard flags & 0x8080 == (next / size % 2 == 0 ? 0x8080 : 0) else { return nil }
            // WRITE: without it the length means nothing.
            let length = rig.guest.number(place + 8, as: UInt32.self)
            entry = PlainEntry(
                id: Int(rig.guest.number(place + 12, as: UInt16.self)),
                length: flags & DescriptorFlags.write == 0 ? 0 : length)
        }
        try #require(entry.id < size, "id \(entry.id) out of range")
        next += 1
        return entry
    }

    /// The next packet, put together again by the rules of the protocol page.
    mutating func packet() throws -> (bytes: [UInt8], slot: Int?)? {
        guard let first = try get() else { return nil }
        let isSplit = first.length >> 31 == 1
        let slot = Int(first.length >> 16 & 0x7fff)
        let count = Int(isSplit ? first.length & 0xffff : first.length)
        var data = rig.guest.read(EvilRig.page(first.id), count)
        var headers: [UInt8] = []
        let netHeader: [UInt8]
        if isSplit {
            let area = try #require(rig.headers)
            netHeader = area.slot(slot, 12)
            let length = Int(netHeader[2]) | Int(netHeader[3]) << 8
            headers = Array(area.slot(slot, 12 + length).dropFirst(12))
        } else {
            netHeader = Array(data.prefix(12))
            data.removeFirst(12)
        }
        let buffers = Int(netHeader[10]) | Int(netHeader[11]) << 8
        for _ in 1..<max(1, buffers) {
            let further = try #require(try get())
            // Bit 31 of a later buffer's length is clear.
            try #require(further.length <= 4096)
            data += rig.guest.read(EvilRig.page(further.id), Int(further.length))
        }
        return (headers + data, isSplit ? slot : nil)
    }
}

@Suite("The report usedLength")
struct UsedLengthTests {
    private static let method = RxMethod.headerQueue(.usedLength)

    /// A packet of `payload` bytes after its 42 bytes of headers. IP can only count 65507 of them;
    /// the rest is a trailer, as of an Ethernet frame that was padded.
    private static func longPacket(_ payload: Int) -> [UInt8] {
        TestFrames.udp4(TestFrames.payload(65507))
            + TestFrames.payload(max(0, payload - 65507), seed: 9)
    }

    /// A rig with two buffers of `byteCount` bytes, 256 KiB apart.
    private static func rig(
        _ format: RingFormat, buffer byteCount: Int, features: VirtioFeatures = .mergeableBuffers,
        method: RxMethod = method
    ) throws -> any ReceiveRig {
        let guest = try EvilGuest([(0x1_0000, 1 << 20)])
        let rig = try format.rig(
            features: features, method: method, slots: (128, 8), guest: guest)
        rig.post([PostedPiece(EvilRig.dataAddress, byteCount)], id: 0)
        rig.post([PostedPiece(EvilRig.dataAddress + 0x4_0000, byteCount)], id: 1)
        return rig
    }

    @Test("The same four bytes in both ring formats", arguments: 0..<16)
    func lengths(start: Int) throws {
        for format in RingFormat.allCases {
            let first = format == .split ? start + 65528 : start
            let rig = try format.rig(
                size: 8, method: Self.method, slots: (128, 8), start: first)
            for id in 0..<6 { rig.post(id, byteCount: 300) }
            let outcome = rig.enqueue([
                TestFrames.tcp4(TestFrames.payload(500)), TestFrames.opaque(60),
                TestFrames.tcp4([]), TestFrames.udp4(TestFrames.payload(10)),
                TestFrames.tcp4(TestFrames.payload(300)),
            ])
            #expect(outcome.fates == Array(repeating: true, count: 5))
            var reader = PlainReader(rig: rig, size: 8, next: first)
            var found: [PlainEntry] = []
            while let entry = try reader.get() { found.append(entry) }
            let lengths: [UInt32] = [
                // Over two buffers: the first names the slot, the second has an ordinary length.
                0x8000_0000 | 300, 200, 72,
                // Headers only: 0 bytes in the buffer, and the slot all the same.
                0x8001_0000, 0x8002_0000 | 10, 0x8003_0000 | 300,
            ]
            #expect(found.map(\.id) == Array(0..<6), "\(format)")
            #expect(found.map(\.length) == lengths, "\(format)")
        }
    }

    @Test(
        "A reader of plain ids and lengths reassembles every packet, around every wrap",
        arguments: RingFormat.allCases, 0..<8)
    func plainReader(format: RingFormat, seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        // Of a packed ring any size; of a split ring an index that wraps.
        let size = format == .split ? 8 : random.int(3...11)
        let start = format == .split ? 65536 - random.int(0...60) : random.int(0...2 * size - 1)
        let slotCount = random.pick([1, 2, 8, 16])
        let rig = try format.rig(
            size: size, method: Self.method, slots: (128, slotCount), start: start)
        var reader = PlainReader(rig: rig, size: size, next: start)
        var (split, whole, free) = (0, 0, Array(0..<size))
        var posted: [Int] = []
        for _ in 0..<120 {
            while !free.isEmpty && random.chance(80) {
                let id = free.remove(at: random.int(0...free.count - 1))
                rig.post([PostedPiece(EvilRig.page(id), random.int(40...900))], id: id)
                posted.append(id)
            }
            let packets = (0..<random.int(1...4)).map { _ in
                let payload = TestFrames.payload(
                    random.pick([0, 1, 30, 400, 1200]), seed: random.int(0...250))
                return random.chance(80)
                    ? random.chance(50) ? TestFrames.tcp4(payload) : TestFrames.udp6(payload)
                    : TestFrames.opaque(14 + payload.count)
            }
            let before = reader.next
            let fates = rig.enqueue(packets).fates
            for (packet, isDelivered) in zip(packets, fates) where isDelivered {
                let found = try #require(try reader.packet())
                try #require(found.bytes == packet)
                if let slot = found.slot {
                    try #require(slot == split % slotCount)
                    split += 1
                } else {
                    whole += 1
                }
            }
            try #require(try reader.get() == nil)
            let used = posted.prefix(reader.next - before)
            posted.removeFirst(used.count)
            free += used
            rig.headers?.setTail(UInt32(split + slotCount))
        }
        #expect(split > 20 && whole > 10 && reader.next > start + 70)
        #expect(rig.queue.counters.split == UInt64(split) && rig.guest.bandsAreIntact)
    }

    @Test("The highest slot and the most bytes there can be", arguments: RingFormat.allCases)
    func highest(format: RingFormat) throws {
        let guest = try EvilGuest([(0x1_0000, 1 << 23)])
        let headers = EvilHeaderQueue(guest, slotSize: 128, slotCount: 32768, at: 0x20_0000)
        let headerQueue = try HeaderQueue(headers.layout, memory: guest.memory, base: 32767)
        headers.setTail(32768)
        let rig = try format.rig(guest: guest)
        var configuration = rig.queue.configuration
        configuration.method = Self.method
        configuration.headerQueue = headerQueue
        let arenas = ArenaSupply(chunk: 1 << 18)
        let queue = try arenas.queue(configuration)
        rig.post([PostedPiece(EvilRig.dataAddress, 0x1_0000)], id: 5)
        let packet = Self.longPacket(65535)
        #expect(headerQueue.freeCount == 1)
        #expect(rig.port.enqueue([packet], to: queue).fates == [true])
        #expect(queue.counters.split == 1, "\(queue.counters)")
        var reader = PlainReader(rig: rig, size: 8, next: 0)
        #expect(try reader.get() == PlainEntry(id: 5, length: 0xffff_ffff))
        #expect(headers.slot(32767, 54).dropFirst(12) == packet.prefix(42))
        let isSame = guest.read(EvilRig.dataAddress, 65535) == Array(packet.dropFirst(42))
        #expect(isSame)
    }

    @Test(
        "Buffers above 64 KiB: 65535 bytes of payload are split, more are placed whole",
        arguments: RingFormat.allCases, [65535, 65536, 70000, 200_000])
    func largeBuffers(format: RingFormat, size: Int) throws {
        for features in [VirtioFeatures.mergeableBuffers, []] {
            for payload in [65535, 65536, 65589 - 42] {
                let rig = try Self.rig(format, buffer: size, features: features)
                let packet = Self.longPacket(payload)
                let isSplit = payload <= 65535
                let bytes = payload + (isSplit ? 0 : 42 + 12)
                // Without mergeable buffers a packet is not cut.
                let fits = bytes <= size || !features.isEmpty
                #expect(rig.enqueue([packet]).fates == [fits], "\(payload)")
                if !fits { continue }
                var reader = PlainReader(rig: rig, size: 8, next: 0)
                let first = min(bytes, size)
                let length = UInt32(first) | (isSplit ? 1 << 31 : 0)
                #expect(try reader.get() == PlainEntry(id: 0, length: length), "\(payload)")
                let rest = bytes - first
                let second = rest > 0 ? PlainEntry(id: 1, length: UInt32(rest)) : nil
                #expect(try reader.get() == second, "\(payload)")
                let start = EvilRig.dataAddress + (isSplit ? 0 : 12)
                let found =
                    rig.guest.read(start, first - (isSplit ? 0 : 12))
                    + rig.guest.read(EvilRig.dataAddress + 0x4_0000, rest)
                let isSame = found == Array(packet.dropFirst(isSplit ? 42 : 0))
                #expect(isSame, "\(payload)")
                #expect(rig.queue.counters.fallback == (isSplit ? [:] : [.notSplittable: 1]))
            }
        }
    }

    @Test(
        "More payload than that, in segments, and with the other reports",
        arguments: RingFormat.allCases)
    func otherWays(format: RingFormat) throws {
        var random = SeededRandom(seed: 3)
        for payload in [65535, 65536] {
            let rig = try Self.rig(format, buffer: 70000)
            let packet = SourcePacket(Self.longPacket(payload))
            let scattered = packet.scattered(&random, most: 4000)
            #expect(rig.port.enqueue([scattered], to: rig.queue).fates == [true])
            #expect(rig.queue.counters.split == (payload == 65535 ? 1 : 0))
            #expect(rig.queue.counters.fallback == (payload == 65535 ? [:] : [.notSplittable: 1]))
        }
        // The other reports leave the length alone.
        for report in HeaderReport.allCases where report != .usedLength {
            let rig = try Self.rig(format, buffer: 70000, method: .headerQueue(report))
            #expect(rig.enqueue([Self.longPacket(65536)]).fates == [true])
            #expect(rig.queue.counters.split == 1)
        }
    }

    @Test(
        "A threshold above all packets splits none, one below the limit of payload counts",
        arguments: RingFormat.allCases, HeaderReport.allCases)
    func thresholds(format: RingFormat, report: HeaderReport) throws {
        let arenas = ArenaSupply()
        for threshold in [65535, 65536, 65548, 65549, SplitPolicy.maximumThreshold] {
            let rig = try Self.rig(format, buffer: 70000, method: .headerQueue(report))
            var configuration = rig.queue.configuration
            configuration.splitPolicy = SplitPolicy(threshold: threshold)
            let queue = try arenas.queue(configuration)
            let packets = [TestFrames.tcp4([1]), Self.longPacket(65507)]
            #expect(rig.port.enqueue(packets, to: queue).fates == [true, true])
            let split = threshold < 65549 ? 1 : 0
            #expect(queue.counters.split == UInt64(split), "\(threshold)")
            #expect(queue.counters.fallback == [.belowThreshold: UInt64(2 - split)])
        }
    }
}
