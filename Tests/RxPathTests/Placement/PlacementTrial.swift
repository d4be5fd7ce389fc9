// One random queue, fed random packets for some rounds, read by the naive reader. Whatever the
// device did must follow from what it was given.
import RxPath
import TestSupport

/// Packets to draw from, with the naive parser's opinion on each.
struct PacketPool {
    typealias Packet = (source: SourcePacket, bytes: [UInt8], headerLength: Int)
    let packets: [Packet]

    init(seed: UInt64, count: Int) {
        var random = SeededRandom(seed: seed)
        packets = (0..<count).map { number in
            let bytes = Self.frame(number, &random)
            let whole = SourcePacket(bytes)
            let source =
                random.chance(40)
                ? whole.scattered(&random, most: random.pick([3, 20, 200, 4000])) : whole
            return (source, bytes, Int(NaiveParser.parse(bytes).byteCount))
        }
    }

    private static func frame(_ number: Int, _ random: inout SeededRandom) -> [UInt8] {
        let size = random.pick([
            0, 1, random.int(0...64), random.int(0...200), random.int(0...1500),
            random.int(1400...1500), random.int(0...9000),
        ])
        let payload = TestFrames.payload(size, seed: number)
        switch random.int(0...11) {
        case 0: return TestFrames.opaque(random.int(0...20), seed: number)
        case 1, 2: return TestFrames.opaque(14 + size, seed: number)
        case 3, 4: return TestFrames.udp4(payload)
        case 5, 6: return TestFrames.tcp6(payload, optionWords: random.int(0...10))
        default: return TestFrames.tcp4(payload, optionWords: random.int(0...10))
        }
    }
}

final class PlacementTrial {
    static let regions: [(base: UInt64, byteCount: Int)] = [
        (0x1_0000, 0x6000), (0x10_0000, 0xA123), (0x10_A123, 0xA000),
    ]
    private static let data: Range<UInt64> = 0x10_0000..<0x11_4123

    private let guest: EvilGuest
    private let image: EvilGuest.Image
    private let queue: RxQueue
    private let port = MockPort()
    private var random: SeededRandom
    private var driver: NaiveDriver
    private var reader: NaiveReader
    private let headers: EvilHeaderQueue?
    private let slots: (size: Int, count: Int)
    private let method: RxMethod
    private let netHeaderByteCount: Int
    private let mergeable: Bool
    private let burst: Int
    private let shortage: BufferShortage
    private var claimed: UInt32 = 0
    private(set) var expected = RxCounters()

    init(seed: UInt64, guest: EvilGuest, arenas: ArenaSupply) throws {
        var random = SeededRandom(seed: seed)
        self.guest = guest
        for region in guest.regions {
            guest.fill(region.base, region.byteCount, with: UInt8(truncatingIfNeeded: seed | 1))
        }
        let size = 1 << random.int(0...6)
        let start = UInt16(truncatingIfNeeded: random.int(-40...40))
        let ring = EvilRing(guest, size: size, at: 0x1_0000, firstIndex: start)
        method = random.pick([.whole, .headerQueue(.netHeader), .headerQueue(.usedElement)])
        slots = (64 << random.int(0...2), 1 << random.int(0...5))
        mergeable = random.chance(50)
        burst = random.pick([1, 2, 7, 32])
        shortage = random.chance(50) ? .wait : .drop
        var features: VirtioFeatures = mergeable ? [.mergeableBuffers] : []
        if random.chance(50) { features.insert(.hashReport) }
        if random.chance(60) { features.insert(.indirectDescriptors) }
        netHeaderByteCount = features.contains(.hashReport) ? 20 : 12
        headers =
            method == .whole
            ? nil
            : EvilHeaderQueue(guest, slotSize: slots.size, slotCount: slots.count, at: 0x1_2000)
        queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: features, memory: guest.memory,
                method: method,
                headerQueue: try headers.map { try HeaderQueue($0.layout, memory: guest.memory) },
                burst: burst, shortage: shortage))
        driver = NaiveDriver(
            ring, allowsIndirect: features.contains(.indirectDescriptors), mergeable: mergeable,
            data: Self.data)
        reader = NaiveReader(
            ring, method: method, netHeaderByteCount: netHeaderByteCount, mergeable: mergeable,
            headers: headers)
        self.random = random
        image = guest.image()
    }

    func run(rounds: Int, pool: PacketPool) throws {
        var pending: [Int] = []
        for _ in 0..<rounds {
            driver.post(random.int(0...driver.ring.size), &random)
            if let headers, random.chance(60) {
                // All slots reported so far, or none: consumers finish in order here.
                headers.setTail(claimed &+ UInt32(slots.count))
            }
            let count = random.int(0...40)
            while pending.count < count { pending.append(random.int(0...pool.packets.count - 1)) }
            image.capture()
            let packets = pending.map { pool.packets[$0].source }
            let outcome = port.enqueue(packets, to: queue)
            try judge(outcome, pending.map { pool.packets[$0] })
            pending.removeFirst(outcome.fates.count)
            // A port may lose patience with a packet that cannot be delivered.
            if outcome.fates.isEmpty && !pending.isEmpty { pending.removeFirst() }
        }
    }

    private func judge(
        _ outcome: MockPort.Outcome, _ packets: [PacketPool.Packet]
    ) throws {
        let free = headers.map { Int($0.tail &- claimed) } ?? 0
        let posted = driver.outstanding.count
        try reader.pull(&driver, image)
        var split = 0
        var unsplit = 0
        var dropped = 0
        for (packet, isDelivered) in zip(packets, outcome.fates) {
            guard isDelivered else {
                if packet.bytes.count < 14 { expected.dropped[.runt, default: 0] += 1 }
                dropped += 1
                continue
            }
            let found = try reader.packet(image)
            try check(found.bytes == packet.bytes, "corrupt packet of \(packet.bytes.count)")
            expected.packets += 1
            expected.bytes += UInt64(packet.bytes.count)
            guard let reason = fallback(packet.headerLength) else { continue }
            if let slot = found.slot {
                try check(reason == .noSlot && unsplit == 0, "split although \(reason)")
                try check(found.headerLength == packet.headerLength, "split at \(found)")
                try check(slot == Int(claimed) % slots.count, "slot \(slot) after \(claimed)")
                claimed &+= 1
                split += 1
            } else {
                expected.fallback[reason, default: 0] += 1
                if reason == .noSlot { unsplit += 1 }
            }
        }
        try reader.finish()
        try check(split <= free && (unsplit == 0 || split == free), "\(split) split, \(free) free")
        if let headers {
            image.accept(headers.layout.control.rawValue + 128, 4)
            try check(headers.head == claimed, "public head \(headers.head), \(claimed) claimed")
        }
        try check(image.isUnchanged, "something was written that no used entry accounts for")
        try judgeLeft(outcome, packets)
        try judgeCounters(dropped, split: split)
        let exhausted = queue.counters.dropped[.tooManyBuffers, default: 0]
        let before = reasons[.tooManyBuffers, default: 0]
        try check(exhausted == before || posted == driver.ring.size, "\(posted) buffers too many")
        reasons = queue.counters.dropped
    }

    /// Why a packet would stay whole; `.noSlot` for one that splits if there is a slot.
    private func fallback(_ headerLength: Int) -> FallbackReason? {
        if method == .whole { return nil }
        if headerLength == 0 { return .notSplittable }
        let front = method == .headerQueue(.usedElement) ? netHeaderByteCount : 0
        return headerLength + front > slots.size ? .headerTooLong : .noSlot
    }

    /// A packet that was left is one for which there was no room, or one beyond the burst.
    private func judgeLeft(
        _ outcome: MockPort.Outcome, _ packets: [PacketPool.Packet]
    ) throws {
        if outcome.leftCount == 0 || outcome.fates.count == burst { return }
        try check(shortage == .wait, "\(outcome.leftCount) left, \(outcome.fates.count) done")
        let rest = driver.outstanding
        let least = netHeaderByteCount + 8
        let need = packets[outcome.fates.count].bytes.count + least
        let room = rest.reduce(0) { $0 + $1.capacity }
        let isUseful = rest.first.map { $0.capacity >= least } ?? false
        try check(
            mergeable ? room < need || !isUseful : rest.isEmpty,
            "left a packet of \(need) with \(room) bytes in \(rest.count) buffers")
    }

    private func judgeCounters(_ dropped: Int, split: Int) throws {
        let counters = queue.counters
        try check(counters.fault == .none, "fault \(counters.fault)")
        expected.split += UInt64(split)
        try check(counters.packets == expected.packets, "packets \(counters.packets)")
        try check(counters.bytes == expected.bytes, "bytes \(counters.bytes)")
        try check(counters.split == expected.split, "split \(counters.split)")
        try check(counters.slots == expected.split, "slots \(counters.slots)")
        try check(
            counters.fallback == expected.fallback,
            "\(counters.fallback), not \(expected.fallback)")
        try check(counters.buffers == UInt64(reader.bufferCount), "buffers \(counters.buffers)")
        try check(
            counters.tinyBuffers == UInt64(reader.tinyCount), "tiny \(counters.tinyBuffers)")
        droppedCount += UInt64(dropped)
        try check(counters.droppedTotal == droppedCount, "dropped \(counters.dropped)")
        try check(counters.dropped[.runt] == expected.dropped[.runt], "runts")
        let possible: Set<DropReason> =
            mergeable ? [.runt, .noBuffer, .tooManyBuffers] : [.runt, .noBuffer, .bufferTooSmall]
        try check(possible.isSuperset(of: counters.dropped.keys), "\(counters.dropped)")
    }

    private var droppedCount: UInt64 = 0
    private(set) var reasons: [DropReason: UInt64] = [:]
    var tinyCount: Int { reader.tinyCount }
}
