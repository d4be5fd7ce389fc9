// The driver of a transmit queue against the device's: everything arrives as it was sent, in both
// formats and all shapes of chains, and a device that lies is found out.
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// A driver that sends, and the device's queue over the same memory.
private final class SendRig {
    let space: GuestSpace
    let driver: TxDriver
    let queue: TxQueue
    private let arenas = ArenaSupply(chunk: 1 << 18)
    private let packets = UnsafeMutablePointer<TxPacket>.allocate(capacity: 64)

    init(_ configuration: TxDriverConfiguration) throws {
        space = try GuestSpace(byteCount: configuration.guestByteCount, pages: .small)
        driver = try TxDriver(configuration, in: space)
        let device = TxQueueConfiguration(
            virtqueue: driver.virtqueue,
            features: configuration.allFeatures, memory: space.memory)
        queue = try TxQueue(device, in: arenas.arena(device.arenaByteCount))
    }

    deinit { packets.deallocate() }

    /// Sends frames with the same offloads.
    func send(
        _ frames: [[UInt8]], offloads: NetHeader = NetHeader()
    ) -> (taken: Int, wantsKick: Bool) {
        // Frames in one block, so that their pointers hold for the call.
        let bytes = Array(frames.joined()) + [0]
        return bytes.withUnsafeBytes { block in
            var offset = 0
            let list = frames.map { frame in
                defer { offset += frame.count }
                return OutgoingFrame(
                    block.baseAddress! + offset, byteCount: frame.count, offloads: offloads)
            }
            return list.withUnsafeBufferPointer {
                driver.send($0.baseAddress ?? UnsafePointer(bitPattern: 8)!, count: $0.count)
            }
        }
    }

    func prepare(_ index: Int, _ frame: [UInt8]) throws {
        try frame.withUnsafeBytes {
            try driver.prepare(index, OutgoingFrame($0.baseAddress!, byteCount: frame.count))
        }
    }

    /// Takes packets and copies them out.
    func dequeue(_ count: Int = 64) -> [(header: NetHeader, bytes: [UInt8], pieces: Int)] {
        let result = queue.dequeue(packets, count: count)
        return (0..<result.count).map { index in
            let packet = packets[index]
            var bytes = [UInt8](
                UnsafeRawBufferPointer(start: packet.pointer, count: Int(packet.byteCount)))
            for more in 0..<Int(packet.moreCount) {
                let (pointer, byteCount) = packet.segment(more)
                bytes += UnsafeRawBufferPointer(start: pointer, count: byteCount)
            }
            let header = NetHeader(
                flags: packet.netFlags, gsoType: packet.gsoType, gsoSize: packet.gsoSize,
                csumStart: packet.csumStart, csumOffset: packet.csumOffset, numBuffers: 0)
            return (header, bytes, Int(packet.moreCount) + 1)
        }
    }

    /// Host memory of an area.
    func area(_ address: GuestAddress, _ byteCount: Int) -> UnsafeMutableRawPointer {
        space.memory.translate(address, byteCount: byteCount)!
    }
}

@Suite("Transmit driver")
struct TxDriverTests {
    /// Shapes of a packet in the ring.
    struct Shape: CustomTestStringConvertible, Sendable {
        var pieces: Int
        var separate = false
        var indirect = false
        var testDescription: String {
            "\(pieces) pieces\(separate ? ", header apart" : "")\(indirect ? ", indirect" : "")"
        }
    }

    static let shapes = [
        Shape(pieces: 1), Shape(pieces: 1, separate: true), Shape(pieces: 1, indirect: true),
        Shape(pieces: 3), Shape(pieces: 2, separate: true),
        Shape(pieces: 14, separate: true, indirect: true), Shape(pieces: 2, indirect: true),
    ]

    private static func configuration(
        _ ring: RingFormat, _ shape: Shape, size: Int, features: VirtioFeatures = [],
        piece: Int = 128
    ) -> TxDriverConfiguration {
        TxDriverConfiguration(
            ringSize: size, ring: ring, features: features, bufferByteCount: piece,
            pieceCount: shape.pieces, separatesNetHeader: shape.separate,
            usesIndirect: shape.indirect)
    }

    @Test("Frames arrive as sent, in order", arguments: RingFormat.allCases, shapes)
    func twin(ring: RingFormat, shape: Shape) throws {
        // A packed ring of 19 lets chains run over its end.
        let sizes = ring == .split ? [16, 32] : [16, 19, 33]
        try withEvery(
            Axis("size", sizes), Axis("hash report", [false, true]),
            Axis("event index", [false, true])
        ) { size, hasReport, hasEvents in
            var features: VirtioFeatures = [.checksum, .hostTSO4]
            if hasReport { features.insert(.hashReport) }
            if hasEvents { features.insert(.eventIndex) }
            let rig = try SendRig(
                Self.configuration(ring, shape, size: size, features: features))
            var random = SeededRandom(seed: UInt64(size))
            var waiting: [(NetHeader, [UInt8])] = []
            var held = 0
            var sentBytes = 0
            var sent = 0
            for _ in 0..<150 {
                let header =
                    random.chance(50)
                    ? NetHeader(numBuffers: 0)
                    : NetHeader(
                        flags: 1, gsoType: 1, gsoSize: 99, csumStart: 4, csumOffset: 6,
                        numBuffers: 0)
                let frames = (0..<random.int(0...6)).map { _ in
                    random.bytes(random.int(14...128 * shape.pieces))
                }
                let free = rig.driver.freeCount
                let taken = rig.send(frames, offloads: header).taken
                try #require(taken == min(frames.count, free))
                for frame in frames.prefix(taken) {
                    waiting.append((header, frame))
                    sentBytes += frame.count
                }
                sent += taken
                for packet in rig.dequeue(random.int(0...6)) {
                    let expected = waiting.removeFirst()
                    try #require(packet.bytes == expected.1)
                    try #require(packet.header == expected.0)
                    try #require(packet.pieces == shape.pieces)
                    held += 1
                }
                let done = random.int(0...held)
                try #require(rig.queue.complete(done) != nil)
                held -= done
                try #require(rig.driver.reap() == done)
                try #require(rig.driver.postedCount == waiting.count + held)
            }
            let counters = rig.driver.counters
            #expect(counters.packets == UInt64(sent) && counters.bytes == UInt64(sentBytes))
            #expect(counters.reaped == UInt64(sent - waiting.count - held))
            #expect(rig.driver.fault == .none && rig.queue.fault == .none)
            #expect(rig.queue.counters.dropped.isEmpty)
            #expect(sent > 3 * size / max(1, shape.pieces))
        }
    }

    @Test("Prepared buffers go again and again, past 2^16", arguments: RingFormat.allCases)
    func prepared(ring: RingFormat) throws {
        let rig = try SendRig(Self.configuration(ring, Shape(pieces: 1), size: 64))
        #expect(rig.driver.post(1).posted == 0)
        for index in 0..<32 { try rig.prepare(index, [UInt8](repeating: UInt8(index), count: 64)) }
        // The last 32 were never prepared.
        #expect(rig.driver.post(64).posted == 32)
        for index in 32..<64 { try rig.prepare(index, [UInt8](repeating: UInt8(index), count: 64)) }
        #expect(throws: SetupError.self) { try rig.prepare(0, [UInt8](repeating: 0, count: 64)) }
        #expect(throws: SetupError.self) { try rig.prepare(64, [UInt8](repeating: 0, count: 64)) }
        #expect(throws: SetupError.self) { try rig.prepare(32, [UInt8](repeating: 0, count: 13)) }
        #expect(throws: SetupError.self) { try rig.prepare(32, [UInt8](repeating: 0, count: 129)) }
        #expect(rig.driver.post(64).posted == 32)
        var number = 0
        for round in 0..<1100 {
            for packet in rig.dequeue() {
                try #require(packet.bytes == [UInt8](repeating: UInt8(number % 64), count: 64))
                number += 1
            }
            try #require(number == 64 * (round + 1))
            #expect(rig.queue.complete(64) != nil)
            try #require(rig.driver.reap(40) == 40 && rig.driver.freeCount == 40)
            try #require(rig.driver.reap() == 24)
            try #require(rig.driver.post(.max).posted == 64)
        }
        #expect(rig.driver.counters.packets == 64 * 1101)
        #expect(rig.driver.fault == .none && rig.queue.fault == .none)
    }

    @Test("Frames of an invalid length are dropped and counted", arguments: RingFormat.allCases)
    func invalid(ring: RingFormat) throws {
        let rig = try SendRig(Self.configuration(ring, Shape(pieces: 2), size: 4))
        let frames = [13, 14, 256, 257, 0].map { [UInt8](repeating: 7, count: $0) }
        #expect(rig.send(frames).taken == 5)
        #expect(rig.driver.counters.dropped(.runt) == 2)
        #expect(rig.driver.counters.dropped(.tooLong) == 1)
        #expect(rig.dequeue().map(\.bytes.count) == [14, 256])
        // The ring is full: only what is no frame is taken.
        #expect(rig.send([frames[0], frames[1], frames[0]]).taken == 1)
    }

    @Test(
        "IN_ORDER: chains go round, and one entry may end several", arguments: RingFormat.allCases)
    func inOrder(ring: RingFormat) throws {
        let rig = try SendRig(
            Self.configuration(ring, Shape(pieces: 2), size: 8, features: .inOrder))
        let frame = [UInt8](repeating: 1, count: 60)
        for _ in 0..<3 {
            #expect(rig.send([frame, frame, frame]).taken == 3)
            #expect(rig.dequeue().count == 3)
            #expect(rig.queue.complete(3) != nil)
            #expect(rig.driver.reap() == 3)
        }
        // Chains 1, 2, 3: the device names the last alone.
        #expect(rig.send([frame, frame, frame]).taken == 3)
        if ring == .split {
            let used = rig.area(rig.driver.virtqueue.deviceArea, 6 + 8 * 8)
            (used + 4 + 8 * 1).storeBytes(of: 6, as: UInt64.self)
            (used + 2).storeBytes(of: 12, as: UInt16.self)
        } else {
            let descriptors = rig.area(rig.driver.virtqueue.descriptorArea, 8 * 16)
            // Lap 3, wrap counter 1: descriptor 2 is the first of the three.
            (descriptors + 16 * 2 + 8).storeBytes(
                of: 6 << 32 | 0x8080 << 48, as: UInt64.self)
        }
        #expect(rig.driver.reap(2) == 2)
        #expect(rig.driver.reap() == 1 && rig.driver.fault == .none)
        #expect(rig.driver.freeCount == rig.driver.bufferCount)
        #expect(rig.driver.reap() == 0 && rig.driver.fault == .none)
    }

    @Test(
        "Kicks and calls are asked for by flags and by index", arguments: RingFormat.allCases,
        [VirtioFeatures(), .eventIndex])
    func notifications(ring: RingFormat, features: VirtioFeatures) throws {
        let rig = try SendRig(
            Self.configuration(ring, Shape(pieces: 1), size: 8, features: features))
        let frame = [UInt8](repeating: 1, count: 60)
        var calls = 0
        func carry() {
            let count = rig.dequeue().count
            if rig.queue.complete(count) == .call { calls += 1 }
            rig.driver.reap()
        }
        // The first publish may call whatever was asked: the device knows no earlier one.
        #expect(!rig.send([frame]).wantsKick)
        carry()
        calls = 0
        #expect(!rig.send([frame]).wantsKick)
        carry()
        #expect(calls == 0)
        rig.queue.setKicks(enabled: true)
        #expect(rig.send([frame]).wantsKick)
        rig.queue.setKicks(enabled: false)
        carry()
        #expect(!rig.send([frame, frame]).wantsKick)
        #expect(calls == 0)
        rig.driver.setInterrupts(true)
        carry()
        #expect(calls == 1)
        rig.driver.setInterrupts(false)
        #expect(!rig.send([frame]).wantsKick)
        carry()
        #expect(calls == 1)
        #expect(rig.driver.counters.kicks == 1)
    }

    /// A used entry or descriptor that no honest device writes.
    struct Lie: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let id: UInt32
        var length: UInt32 = 0
        /// Entries that the device says it used.
        var count = 1
        let fault: DriverFault
        var reaped = 0
    }

    @Test(
        "A device that lies is found out, and nothing is freed twice",
        arguments: RingFormat.allCases,
        [
            Lie(testDescription: "not a head", id: 1, fault: .usedID),
            Lie(testDescription: "never posted", id: 6, fault: .usedID),
            Lie(testDescription: "outside", id: 8, fault: .usedID),
            Lie(testDescription: "far outside", id: 0xffff, fault: .usedID),
            Lie(testDescription: "bytes written", id: 0, length: 1, fault: .usedLength),
            Lie(testDescription: "twice", id: 0, count: 2, fault: .usedID, reaped: 1),
        ])
    func lies(ring: RingFormat, lie: Lie) throws {
        let rig = try SendRig(Self.configuration(ring, Shape(pieces: 2), size: 8))
        let frame = [UInt8](repeating: 1, count: 60)
        #expect(rig.send([frame, frame]).taken == 2)
        // In a packed ring a length means nothing without WRITE.
        if ring == .packed && lie.fault == .usedLength {
            let place = rig.area(rig.driver.virtqueue.descriptorArea, 128) + 8
            place.storeBytes(of: UInt64(lie.length) | 0x8080 << 48, as: UInt64.self)
            #expect(rig.driver.reap() == 1 && rig.driver.fault == .none)
            return
        }
        for index in 0..<lie.count {
            if ring == .split {
                let used = rig.area(rig.driver.virtqueue.deviceArea, 6 + 8 * 8)
                (used + 4 + 8 * index).storeBytes(
                    of: UInt64(lie.id) | UInt64(lie.length) << 32, as: UInt64.self)
                (used + 2).storeBytes(of: UInt16(index + 1), as: UInt16.self)
            } else {
                let place = rig.area(rig.driver.virtqueue.descriptorArea, 128) + 32 * index + 8
                place.storeBytes(of: UInt64(lie.id) << 32 | 0x8080 << 48, as: UInt64.self)
            }
        }
        #expect(rig.driver.reap() == lie.reaped)
        #expect(rig.driver.fault == lie.fault)
        #expect(rig.driver.postedCount == 2 - lie.reaped)
        #expect(rig.driver.reap() == 0)
    }

    @Test("More used than was posted is found out", arguments: RingFormat.allCases)
    func surplus(ring: RingFormat) throws {
        let rig = try SendRig(Self.configuration(ring, Shape(pieces: 1), size: 8))
        #expect(rig.send([[UInt8](repeating: 1, count: 60)]).taken == 1)
        #expect(rig.dequeue().count == 1 && rig.queue.complete(1) != nil)
        #expect(rig.driver.reap() == 1 && rig.driver.reap() == 0 && rig.driver.fault == .none)
        if ring == .split {
            let used = rig.area(rig.driver.virtqueue.deviceArea, 6 + 8 * 8)
            (used + 2).storeBytes(of: 2, as: UInt16.self)
        } else {
            let place = rig.area(rig.driver.virtqueue.descriptorArea, 128) + 16 + 8
            place.storeBytes(of: 0x8080 << 48, as: UInt64.self)
        }
        #expect(rig.driver.reap() == 0 && rig.driver.fault == .usedID)
    }

    @Test("Impossible configurations are refused, and the error names why")
    func refused() throws {
        let cases: [(TxDriverConfiguration, String)] = [
            (.init(ringSize: 8, bufferByteCount: 100), "send buffers of 100 bytes"),
            (.init(ringSize: 8, pieceCount: 0), "packets of 0 pieces"),
            (.init(ringSize: 64, pieceCount: 15), "packets of 15 pieces"),
            (.init(ringSize: 12), "split ring size 12"),
            (.init(ringSize: 0, ring: .packed), "packed ring size 0"),
            (.init(ringSize: 4, pieceCount: 5), "a chain of 5 descriptors does not fit"),
            (
                .init(ringSize: 4, pieceCount: 4, separatesNetHeader: true, usesIndirect: true),
                "table of 5 descriptors is longer"
            ),
            (.init(ringSize: 8, features: .inOrder, pieceCount: 3), "IN_ORDER on a split ring"),
        ]
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        for (configuration, words) in cases {
            do throws(SetupError) {
                _ = try TxDriver(configuration, in: space)
                Issue.record("accepted: \(words)")
            } catch { #expect(error.description.contains(words), "\(error.description)") }
        }
    }
}
