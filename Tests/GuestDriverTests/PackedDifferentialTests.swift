// The same packets through a split and a packed ring, driver and device: both deliver what was
// sent.
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// A device and its driver over one ring format.
private struct Side {
    let driver: RxDriver
    let queue: RxQueue
    let port = MockPort()

    init(
        _ configuration: RxDriverConfiguration, in space: GuestSpace, burst: Int,
        arenas: ArenaSupply
    ) throws {
        driver = try RxDriver(configuration, in: space)
        let headerQueue = try configuration.headerQueue.map {
            try HeaderQueue($0.layout, memory: space.memory)
        }
        queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: driver.virtqueue, features: configuration.allFeatures,
                memory: space.memory, method: configuration.method, headerQueue: headerQueue,
                burst: burst))
    }

    /// Carries all packets and reassembles what the driver finds.
    func carry(_ packets: [SourcePacket]) throws -> [[UInt8]] {
        var found: [[UInt8]] = []
        var rest = packets[...]
        var idleRounds = 0
        while found.count < packets.count && idleRounds < 3 {
            try #require(!driver.refill().wantsKick)
            let outcome = port.enqueue([SourcePacket](rest.prefix(64)), to: queue)
            try #require(!outcome.fates.contains(false))
            rest = rest.dropFirst(outcome.fates.count)
            let before = found.count
            while driver.harvest() > 0 {
                found += driver.packets.map(bytes)
                driver.finish()
            }
            idleRounds = found.count == before ? idleRounds + 1 : 0
        }
        try #require(driver.fault == .none && queue.counters.fault == .none)
        return found
    }

    private func bytes(_ packet: ReceivedPacket) -> [UInt8] {
        var bytes = [UInt8](
            UnsafeRawBufferPointer(start: packet.headers, count: Int(packet.headerLength)))
        for index in 0..<Int(packet.pieceCount) {
            let piece = driver.pieces[Int(packet.firstPiece) + index]
            bytes += UnsafeRawBufferPointer(start: piece.pointer, count: Int(piece.byteCount))
        }
        return bytes
    }
}

@Suite("Split and packed rings side by side")
struct PackedDifferentialTests {
    private static let shapes: [BufferShape] = [
        .mergeable(bufferByteCount: 256), .mergeable(bufferByteCount: 4096),
        .chained(bufferByteCount: 512, packetByteCount: 3000), .single(packetByteCount: 3000),
    ]
    private static let methods: [RxMethod] = [
        .whole, .headerDescriptor, .headerPage, .alternating(headerBufferByteCount: 128),
        .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]

    private static func packet(_ random: inout SeededRandom) -> SourcePacket {
        let payload = TestFrames.payload(
            random.pick([0, 1, 10, 200, 1000, 1446, 2800]), seed: random.int(0...250))
        let bytes =
            switch random.int(0...3) {
            case 0: TestFrames.tcp4(payload, optionWords: random.int(0...10))
            case 1: TestFrames.udp4(payload)
            case 2: TestFrames.tcp6(payload)
            default: TestFrames.opaque(14 + payload.count)
            }
        let packet = SourcePacket(bytes)
        return random.chance(20) ? packet.scattered(&random, most: 700) : packet
    }

    @Test("Random packets through every shape and method", arguments: 0..<8)
    func sameAsSource(group: Int) throws {
        let arenas = ArenaSupply()
        for seed in group * 40..<group * 40 + 40 {
            var random = SeededRandom(seed: UInt64(seed))
            let method = random.pick(Self.methods)
            let shape = random.pick(
                method.needsMergeableBuffers ? Array(Self.shapes.prefix(2)) : Self.shapes)
            var features: VirtioFeatures = random.chance(50) ? .eventIndex : []
            if random.chance(30) { features.insert(.hashReport) }
            // Chains that fill a split ring, in the order of its table.
            let isOrdered = method != .headerDescriptor && [1, 4].contains(shape.chainLength)
            if random.chance(50) && isOrdered { features.insert(.inOrder) }
            let burst = random.int(1...40)
            let packets = (0..<150).map { _ in Self.packet(&random) }
            // Small buffers that are skipped take positions in the ring.
            let skips = method == .alternating(headerBufferByteCount: 128)
            let packedSize = random.int((skips ? 32 : 16)...90)
            for ring in RingFormat.allCases {
                let space = try GuestSpace(byteCount: 2 << 20, pages: .small)
                var headerQueue: DriverHeaderQueue?
                if method.needsHeaderQueue {
                    headerQueue = try DriverHeaderQueue(slotSize: 128, slotCount: 64, in: space)
                }
                let configuration = RxDriverConfiguration(
                    ringSize: ring == .split ? 32 : packedSize, ring: ring, shape: shape,
                    method: method, headerQueue: headerQueue, features: features,
                    burst: burst)
                let side = try Side(configuration, in: space, burst: burst, arenas: arenas)
                let found = try side.carry(packets)
                try #require(
                    found == packets.map(\.bytes),
                    "seed \(seed), \(ring), \(shape.name), size \(configuration.ringSize)")
            }
        }
    }

    @Test("Rings of any size, every length of chain that fits", arguments: 1...9)
    func smallRings(size: Int) throws {
        let arenas = ArenaSupply()
        for length in 1...size {
            for interrupts in [false, true] {
                let space = try GuestSpace(byteCount: 1 << 18, pages: .small)
                let configuration = RxDriverConfiguration(
                    ringSize: size, ring: .packed,
                    shape: .chained(bufferByteCount: 64, packetByteCount: 64 * length - 28),
                    method: .whole, features: interrupts ? .eventIndex : [], burst: 4)
                let side = try Side(configuration, in: space, burst: 4, arenas: arenas)
                side.driver.setInterrupts(interrupts)
                let packets = (0..<40).map {
                    SourcePacket(TestFrames.opaque(max(14, 64 * length - 28), seed: $0))
                }
                #expect(try side.carry(packets) == packets.map(\.bytes), "chains of \(length)")
            }
        }
    }

    @Test("Sizes that do not fit the format are refused")
    func sizes() throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        func refusal(_ size: Int, _ ring: RingFormat) -> String? {
            do {
                _ = try RxDriver(
                    RxDriverConfiguration(
                        ringSize: size, ring: ring, shape: .mergeable(bufferByteCount: 64),
                        method: .whole), in: space)
                return nil
            } catch { return "\(error)" }
        }
        #expect(
            refusal(48, .split) == "split ring size 48 is not a power of two between 1 and 32768")
        #expect(refusal(48, .packed) == nil)
        #expect(refusal(32769, .packed) == "packed ring size 32769 is not between 1 and 32768")
        #expect(refusal(0, .packed) != nil)
    }

    @Test("What a method would ignore is refused", arguments: methods)
    func nothingIsIgnored(method: RxMethod) throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let slots = try DriverHeaderQueue(slotSize: 128, slotCount: 8, in: space)
        func refusal(_ set: (inout RxDriverConfiguration) -> Void) -> String? {
            var configuration = RxDriverConfiguration(
                ringSize: 16, shape: .mergeable(bufferByteCount: 256), method: method,
                headerQueue: method.needsHeaderQueue ? slots : nil)
            set(&configuration)
            do { _ = try RxDriver(configuration, in: space) } catch { return "\(error)" }
            return nil
        }
        #expect(refusal { _ in } == nil)
        let words = refusal { $0.headerQueue = slots }
        #expect(method.needsHeaderQueue == (words == nil), "\(words ?? "")")
        #expect(words?.hasPrefix("a header queue is given, and method") ?? true)
        let isAligned = method == .headerQueue(.netHeader)
        #expect(refusal { $0.alignsPayload = true }?.contains("report netHeader") ?? isAligned)
    }
}
