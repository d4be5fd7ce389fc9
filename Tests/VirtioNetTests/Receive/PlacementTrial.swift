// One random queue, fed random packets for some rounds, read by the naive reader. The device must
// have done what the naive plan says, and every byte must arrive.
import CleaveTestSupport
import CleaveVirtioNet

final class PlacementTrial {
    static let regions: [(base: UInt64, byteCount: Int)] = [
        (0x1_0000, 0xB000), (0x10_0000, 0x1_A123), (0x11_A123, 0x1_6000),
    ]
    private static let data: Range<UInt64> = 0x10_0000..<0x13_0123

    /// The kind of queue to draw.
    struct Kind: Sendable, CustomStringConvertible {
        let format: RingFormat
        let method: String
        var description: String { "\(method), \(format)" }

        static let methods = [
            "whole", "headerDescriptor", "headerPage", "alternating", "netHeader", "usedLength",
        ]
        static let all = RingFormat.allCases.flatMap { format in
            methods.map { Kind(format: format, method: $0) }
        }
    }

    private let guest: EvilGuest
    private let image: EvilGuest.Image
    private let queue: RxQueue
    private let port = MockPort()
    private var random: SeededRandom
    private var driver: NaiveDriver
    private var reader: NaiveReader
    private let layout: ReaderLayout
    private let rules: NaiveRules
    private let burst: Int
    /// Packets in a hundred that bring offloads.
    private let offloadPercent: Int
    /// Most bytes of a packet: some trials carry small ones alone, whole bursts of which go to
    /// their slots.
    private let mostBytes: Int
    /// Pages that the queue logs; nil if it logs none.
    private let log: NaiveLog?
    private var claimed: UInt32 = 0
    private(set) var expected = RxCounters()

    /// - Parameter isLogged: the queue is one that logs the pages it writes.
    init(
        _ kind: Kind, seed: UInt64, guest: EvilGuest, arenas: ArenaSupply, isLogged: Bool = false
    ) throws {
        var random = SeededRandom(seed: seed)
        self.guest = guest
        for region in guest.regions {
            guest.fill(region.base, region.byteCount, with: UInt8(truncatingIfNeeded: seed | 1))
        }
        let size: Int
        let ring: EvilQueue
        switch kind.format {
        case .split:
            size = 1 << random.int(0...7)
            let start = UInt16(truncatingIfNeeded: random.int(-40...40))
            ring = .split(EvilRing(guest, size: size, at: 0x1_0000, firstIndex: start))
        case .packed:
            size = random.chance(30) ? random.int(1...6) : random.int(1...130)
            guest.fill(0x1_0000, 16 * size, with: 0)
            let start = random.int(0...2 * size - 1)
            ring = .packed(PackedEvilRing(guest, size: size, at: 0x1_0000, start: start))
        }
        let method = Self.method(kind.method, &random)
        let mergeable = method.needsMergeableBuffers || random.chance(50)
        var features: VirtioFeatures = mergeable ? [.mergeableBuffers] : []
        if random.chance(50) { features.insert(.hashReport) }
        if random.chance(60) { features.insert(.indirectDescriptors) }
        if random.chance(40) { features.insert(.inOrder) }
        features.formUnion(NaiveOffload.features(&random))
        offloadPercent = random.pick([0, 0, 30, 100])
        mostBytes = random.chance(20) ? random.int(60...200) : .max
        burst = random.pick([1, 2, 7, 32, 32])
        let slots = (size: 64 << random.int(0...3), count: 1 << random.int(0...6))
        let headers =
            method.needsHeaderQueue
            ? EvilHeaderQueue(guest, slotSize: slots.size, slotCount: slots.count, at: 0x1_2000)
            : nil
        var policy = SplitPolicy(
            threshold: random.chance(70) ? 0 : random.int(0...1500),
            placesTinyPackets: random.chance(30), zeroPads: random.chance(30))
        if method == .whole { policy.threshold = 0 }
        if headers == nil { (policy.placesTinyPackets, policy.zeroPads) = (false, false) }
        let shortage: BufferShortage = random.chance(50) ? .wait : .drop
        log = isLogged ? NaiveLog(covering: guest, skew: random.int(0...9)) : nil
        var configuration = RxQueueConfiguration(
            virtqueue: ring.addresses, features: features, memory: guest.memory, method: method,
            headerQueue: try headers.map { try HeaderQueue($0.layout, memory: guest.memory) },
            splitPolicy: policy, burst: burst, shortage: shortage)
        if let log {
            configuration.observation = QueueObservation(
                log: log.dirtyLog(ring: ring.addresses.deviceArea))
        }
        queue = try arenas.queue(configuration)
        // What it says of kicks when it begins.
        _ = log?.take()
        // Measured or not, a poll does the same.
        queue.profile?.period = seed & 1 == 0 ? 0 : 1
        layout = ReaderLayout(
            method: method, netHeaderByteCount: features.contains(.hashReport) ? 20 : 12,
            mergeable: mergeable, headers: headers, zeroPads: policy.zeroPads)
        rules = NaiveRules(
            method: method, netHeaderByteCount: layout.netHeaderByteCount, mergeable: mergeable,
            ringSize: size, slotSize: slots.size, policy: policy,
            features: features, dropsOnShortage: shortage == .drop)
        driver = NaiveDriver(
            ring, guest, allowsIndirect: features.contains(.indirectDescriptors),
            isInOrder: features.contains(.inOrder), data: Self.data,
            lengths: Self.lengths(method, mergeable, &random))
        reader = NaiveReader(guest, layout)
        self.random = random
        image = guest.image()
    }

    private static func method(_ name: String, _ random: inout SeededRandom) -> RxMethod {
        switch name {
        case "headerDescriptor": .headerDescriptor
        case "headerPage": .headerPage
        case "alternating": .alternating(headerBufferByteCount: random.pick([64, 128, 256]))
        case "netHeader": .headerQueue(.netHeader)
        case "usedLength": .headerQueue(.usedLength)
        default: .whole
        }
    }

    /// Lengths of the pieces of one buffer: suitable for the method, or any.
    private static func lengths(
        _ method: RxMethod, _ mergeable: Bool, _ random: inout SeededRandom
    ) -> (inout SeededRandom) -> [Int] {
        let isSuited = random.chance(50)
        let large = random.pick([1500, 2048, 4096, mergeable ? 2048 : 70000])
        var isSmallTurn = false
        return { random in
            if isSuited && !random.chance(10) {
                switch method {
                case .headerDescriptor: return [random.pick([128, 256]), large]
                case .alternating(let small):
                    isSmallTurn.toggle()
                    return [isSmallTurn ? small : large]
                default: return [large]
                }
            }
            let count = random.chance(50) ? 1 : random.int(1...5)
            return (0..<count).map { _ in
                switch random.int(0...19) {
                case 0: 0
                case 1: random.int(1...40)
                case 2...8: random.int(12...300)
                case 9...16: random.int(300...2200)
                default: mergeable ? random.int(2000...4096) : 9200
                }
            }
        }
    }

    func run(rounds: Int, pool: PacketPool) throws {
        var pending: [PacketPool.Packet] = []
        let drawn = mostBytes == .max ? pool.packets : pool.plain(upTo: mostBytes)
        for _ in 0..<rounds {
            driver.post(random.int(0...rules.ringSize), &random)
            if let headers = layout.headers, random.chance(60) {
                // All slots reported so far, or none: consumers finish in order here.
                headers.setTail(claimed &+ UInt32(headers.layout.slotCount))
            }
            let count = random.int(0...40)
            while pending.count < count { pending.append(draw(drawn)) }
            image.capture()
            let packets = Array(pending.prefix(burst))
            let free = layout.headers.map { Int($0.tail &- claimed) } ?? 0
            let plan = NaivePlan(rules, packets, driver.outstanding, slots: free)
            let outcome = port.enqueue(pending.map(\.source), to: queue)
            let (changed, marked) = (image.changedPages, log?.take() ?? [])
            try judge(outcome, packets, plan)
            if log != nil { try judge(changed, marked) }
            pending.removeFirst(outcome.fates.count)
            // A port may give up on a packet that cannot be delivered.
            if outcome.fates.isEmpty && !pending.isEmpty { pending.removeFirst() }
        }
    }

    /// Pages that a burst marked: all that changed, and only such as were written for it, as far as
    /// what the driver reads accounts for them.
    private func judge(_ changed: Set<UInt64>, _ marked: Set<UInt64>) throws {
        try check(changed.isSubset(of: marked), "\(changed) changed, \(marked) marked")
        let written = image.acceptedPages
        try check(marked.isSubset(of: written), "\(marked) marked, \(written) written")
        markedCount += marked.count
    }

    /// Marks of all bursts.
    private(set) var markedCount = 0

    private func draw(_ packets: [PacketPool.Packet]) -> PacketPool.Packet {
        let packet = random.pick(packets)
        guard random.chance(offloadPercent) else { return packet }
        return packet.with(NaiveOffload.draw(packet.bytes, &random))
    }

    private func judge(
        _ outcome: MockPort.Outcome, _ packets: [PacketPool.Packet], _ plan: NaivePlan
    ) throws {
        try check(
            outcome.fates == plan.fates.map { $0.drop == nil },
            "fates \(outcome.fates), not \(plan.fates)")
        try reader.pull(&driver, image)
        try check(reader.lengths == plan.lengths, "used \(reader.lengths), not \(plan.lengths)")
        for (packet, fate) in zip(packets, plan.fates) {
            if let reason = fate.drop {
                expected.dropped[reason, default: 0] += 1
                continue
            }
            try judge(try reader.packet(image), packet, fate)
        }
        try reader.finish()
        if let headers = layout.headers {
            image.accept(headers.layout.control.rawValue + 128, 4)
            try check(headers.head == claimed, "public head \(headers.head), \(claimed) claimed")
        }
        try check(image.isUnchanged, "something was written that no used entry accounts for")
        expected.undersizedBuffers = UInt64(reader.tinyCount)
        expected.buffers = UInt64(reader.bufferCount)
        try judgeCounters()
    }

    /// One delivered packet.
    private func judge(
        _ found: ReadPacket, _ packet: PacketPool.Packet, _ fate: NaiveFate
    ) throws {
        try check(found.bytes == packet.bytes, "corrupt packet of \(packet.bytes.count)")
        try check(found.headerLength == fate.headerLength, "split at \(found.headerLength)")
        try check(found.lengths == fate.lengths, "used \(found.lengths), not \(fate.lengths)")
        var netHeader = NaiveOffload.netHeader(
            packet.source.offloads, rules.features, split: fate.headerLength,
            headerLength: packet.headerLength)
        netHeader.numBuffers = UInt16(fate.lengths.count)
        let isRight = Self.bytes(netHeader, layout.netHeaderByteCount) == found.netHeader
        try check(isRight, "net header \(found.netHeader), not \(netHeader)")
        if netHeader.flags != 0 || netHeader.hashReport != 0 { offloadCount += 1 }
        if fate.isSplit && rules.method.needsHeaderQueue {
            let count = UInt32(layout.headers?.layout.slotCount ?? 1)
            try check(found.slot == Int(claimed % count), "slot \(found.slot ?? -1), \(claimed)")
            claimed &+= 1
            expected.slots += 1
        } else {
            try check(found.slot == nil, "a slot for a packet that takes none")
        }
        let mayRelax = fate.isSplit && !rules.method.needsHeaderQueue
        try check(mayRelax || !found.isRelaxed, "a buffer before the last is not full")
        expected.packets += 1
        expected.bytes += UInt64(packet.bytes.count)
        if fate.isSplit {
            if fate.isTiny { expected.tiny += 1 } else { expected.split += 1 }
        }
        if let reason = fate.fallback { expected.fallback[reason, default: 0] += 1 }
        expected.skippedBuffers += UInt64(fate.skipped)
        if fate.isMisfit { expected.misfits += 1 }
    }

    /// Used buffers that had no entry of their own.
    var batchedCount: Int { driver.batchedCount }
    /// Net headers that reported anything.
    private(set) var offloadCount = 0

    /// Field by field, as virtio lists them.
    private static func bytes(_ header: NetHeader, _ count: Int) -> [UInt8] {
        func little(_ value: some FixedWidthInteger, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        var bytes = [header.flags, header.gsoType]
        for field in [
            header.hdrLen, header.gsoSize, header.csumStart, header.csumOffset, header.numBuffers,
        ] {
            bytes += little(field, 2)
        }
        bytes += little(header.hashValue, 4) + little(header.hashReport, 2) + [0, 0]
        return Array(bytes.prefix(count))
    }

    private func judgeCounters() throws {
        var found = queue.counters
        // Counters that do not depend on a packet's outcome.
        (found.bursts, found.emptyPolls, found.calls, found.emptyDescriptors) = (0, 0, 0, 0)
        try check(found == expected, "\(found), not \(expected)")
        let whole = rules.method == .whole ? found.packets : found.fallbackTotal
        try check(
            found.packets == found.split + found.tiny + whole, "packets do not add up: \(found)")
    }
}
