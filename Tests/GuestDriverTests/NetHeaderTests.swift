// Checksum, segmentation and hash as a driver reads them, wherever its method puts the net header.
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Net headers as the driver reads them")
struct NetHeaderTests {
    private static let methods: [RxMethod] = [
        .whole, .headerDescriptor, .headerPage, .alternating(headerBufferByteCount: 128),
        .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]
    private static let offloads: VirtioFeatures = [.guestChecksum, .guestTSO4]

    /// Frames that split and one that does not, with offloads and without.
    private static let packets: [SourcePacket] = (0..<24).map { number in
        let frame =
            number % 4 == 3
            ? TestFrames.opaque(700 + number, seed: number)
            : TestFrames.tcp4(TestFrames.payload(100 * number, seed: number))
        let hash = (UInt32(number) << 16 | 0xbeef, UInt16(number % 3))
        switch number % 6 {
        case 0, 3:
            return SourcePacket(
                frame, offloads: PacketOffloads(flags: 2, hashValue: hash.0, hashReport: hash.1))
        case 1, 4:
            let isSegmented = number % 4 != 3
            return SourcePacket(
                frame,
                offloads: PacketOffloads(
                    flags: 1, gsoType: isSegmented ? 1 : 0, gsoSize: isSegmented ? 500 : 0,
                    csumStart: 34, csumOffset: 16, hashValue: hash.0, hashReport: hash.1))
        default: return SourcePacket(frame)
        }
    }

    private static func expected(
        _ packet: SourcePacket, _ features: VirtioFeatures
    ) -> NetHeader {
        guard let offloads = packet.offloads else { return NetHeader() }
        let hasHash = features.contains(.hashReport) && offloads.hashReport != 0
        return NetHeader(
            flags: offloads.flags, gsoType: offloads.gsoType, gsoSize: offloads.gsoSize,
            csumStart: offloads.csumStart, csumOffset: offloads.csumOffset,
            hashValue: hasHash ? offloads.hashValue : 0,
            hashReport: hasHash ? offloads.hashReport : 0)
    }

    @Test(
        "Each field, for every method and ring, with and without hashes",
        arguments: RingFormat.allCases, methods)
    func fields(format: RingFormat, method: RxMethod) throws {
        for (features, aligns) in [
            (Self.offloads, false), (Self.offloads.union(.hashReport), false),
            (Self.offloads.union(.hashReport), true),
        ] {
            let space = try GuestSpace(byteCount: 4 << 20, pages: .small)
            let headerQueue =
                method.needsHeaderQueue
                ? try DriverHeaderQueue(slotSize: 128, slotCount: 64, in: space) : nil
            let driver = try RxDriver(
                RxDriverConfiguration(
                    ringSize: 128, ring: format, shape: .mergeable(bufferByteCount: 2048),
                    method: method, headerQueue: headerQueue, features: features,
                    alignsPayload: aligns && method == .headerQueue(.netHeader)), in: space)
            let arenas = ArenaSupply(chunk: 1 << 18)
            let queue = try arenas.queue(
                RxQueueConfiguration(
                    virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
                    memory: space.memory, method: method,
                    headerQueue: try headerQueue.map {
                        try HeaderQueue($0.layout, memory: space.memory)
                    }))
            driver.refill()
            let port = MockPort()
            let outcome = port.enqueue(Self.packets, to: queue)
            try #require(outcome.result.delivered == Self.packets.count)
            try #require(driver.harvest() == Self.packets.count)
            for (packet, found) in zip(Self.packets, driver.packets) {
                var header = driver.netHeader(of: found)
                #expect(header.numBuffers == found.bufferCount && header.agrees(found))
                (header.numBuffers, header.hdrLen) = (1, 0)
                #expect(header == Self.expected(packet, features), "aligned: \(aligns)")
                #expect(found.byteCount == packet.byteCount)
            }
            driver.finish()
            #expect(driver.fault == .none)
        }
    }
}

extension NetHeader {
    /// Whether `hdrLen` is what the driver found, which it is for a split packet.
    fileprivate func agrees(_ packet: ReceivedPacket) -> Bool {
        !packet.isSplit || hdrLen == packet.headerLength
    }
}
