// Checksum, segmentation and hash on their way from a source to the virtio-net header (catalogue
// B37: offloads that lie are dropped and counted, those that were not negotiated never reach the
// guest).
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Offloads")
struct OffloadTests {
    private static let all: VirtioFeatures = [
        .mergeableBuffers, .guestChecksum, .guestTSO4, .guestTSO6, .guestECN, .guestUFO,
        .guestUSO4, .guestUSO6, .hashReport,
    ]
    private static let methods: [RxMethod] = [
        .whole, .headerDescriptor, .headerPage, .alternating(headerBufferByteCount: 128),
        .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]
    private static let tcp4 = TestFrames.tcp4(TestFrames.payload(3000), optionWords: 3)
    private static let tcp6 = TestFrames.tcp6(TestFrames.payload(3000))
    private static let udp4 = TestFrames.udp4(TestFrames.payload(3000))
    private static let tcp4Checksum = PacketOffloads(flags: 1, csumStart: 34, csumOffset: 16)

    private static func segmented(
        _ type: UInt8, start: UInt16 = 34, offset: UInt16 = 16
    ) -> PacketOffloads {
        PacketOffloads(
            flags: 1, gsoType: type, gsoSize: 1448, csumStart: start, csumOffset: offset)
    }

    @Test("A reference carries offloads and gives them back bit by bit")
    func reference() {
        var random = SeededRandom(seed: 8)
        for _ in 0..<200 {
            let bits = random.next()
            let context = PacketOffloads(
                flags: UInt8(truncatingIfNeeded: bits),
                gsoType: UInt8(truncatingIfNeeded: bits >> 8),
                gsoSize: UInt16(truncatingIfNeeded: bits >> 16),
                csumStart: UInt16(truncatingIfNeeded: bits >> 32),
                csumOffset: UInt16(truncatingIfNeeded: bits >> 48),
                hashValue: UInt32(truncatingIfNeeded: random.next()),
                hashReport: UInt16(truncatingIfNeeded: random.next()))
            let ref = PacketRef(context: context)
            #expect(ref.context == context && ref.flags == [.context, .more])
        }
        #expect(PacketRef(address: 1, byteCount: 2, flags: .more).context == nil)
    }

    /// Posts buffers that suit every method: chains of a small and a large piece, or small and
    /// large buffers alternately.
    private static func post(_ rig: any ReceiveRig, _ method: RxMethod) {
        for id in 0..<4 {
            let small = PostedPiece(EvilRig.page(2 * id), 128)
            let large = PostedPiece(EvilRig.page(2 * id + 1), 4096)
            switch method {
            case .headerDescriptor: rig.post([small, large], id: 2 * id)
            case .headerPage, .alternating:
                rig.post([small], id: 2 * id)
                rig.post([large], id: 2 * id + 1)
            default: rig.post([large], id: 2 * id + 1)
            }
        }
    }

    /// Where the net header of the first packet lies: at the start of its first buffer or slot.
    private static func netHeader(_ rig: any ReceiveRig, _ method: RxMethod) -> NetHeader {
        let address =
            switch method {
            case _ where method.namesSlotsInUsedEntries: rig.headers?.slotAddress(0) ?? 0
            case .headerDescriptor, .headerPage, .alternating: EvilRig.page(0)
            default: EvilRig.page(1)
            }
        return NetHeader(load: rig.guest.pointer(address), byteCount: 20)
    }

    @Test(
        "Every field reaches the net header, in one piece and in segments",
        arguments: RingFormat.allCases, methods)
    func fields(format: RingFormat, method: RxMethod) throws {
        for (frame, offloads, header) in [
            (Self.tcp4, Self.segmented(1), 66), (Self.tcp4, Self.segmented(0x81), 66),
            (Self.tcp6, Self.segmented(4, start: 54), 74),
            (Self.udp4, Self.segmented(3, offset: 6), 42),
            (Self.udp4, Self.segmented(5, offset: 6), 42), (Self.tcp4, Self.tcp4Checksum, 66),
            (Self.tcp4, PacketOffloads(flags: 2), 0),
            (Self.tcp4, PacketOffloads(flags: 3, csumStart: 14, csumOffset: 3050), 66),
            (Self.tcp4, PacketOffloads(), 0),
        ] {
            for isScattered in [false, true] {
                var offloads = offloads
                (offloads.hashValue, offloads.hashReport) = (0xdead_beef, 2)
                var random = SeededRandom(seed: 1)
                let whole = SourcePacket(frame, offloads: offloads)
                let packet = isScattered ? whole.scattered(&random, most: 300) : whole
                let rig = try format.rig(
                    features: Self.all, method: method, slots: (128, 8))
                Self.post(rig, method)
                #expect(rig.port.enqueue([packet], to: rig.queue).fates == [true])
                let isSplit = method != .whole
                #expect(rig.queue.counters.split == (isSplit ? 1 : 0))
                let split = rig.queue.counters.split == 0 ? header : frame.count - 3000
                let found = Self.netHeader(rig, method)
                let needsChecksum = offloads.flags & 1 != 0
                #expect(
                    found
                        == NetHeader(
                            flags: offloads.flags, gsoType: offloads.gsoType,
                            hdrLen: UInt16(split), gsoSize: offloads.gsoType == 0 ? 0 : 1448,
                            csumStart: needsChecksum ? offloads.csumStart : 0,
                            csumOffset: needsChecksum ? offloads.csumOffset : 0,
                            numBuffers: found.numBuffers, hashValue: 0xdead_beef,
                            hashReport: 2), "\(offloads)")
            }
        }
    }

    /// The one packet is dropped for this reason, and both its references say so.
    private static func expectDropped(
        _ format: RingFormat, _ frame: [UInt8], with offloads: PacketOffloads,
        for reason: DropReason,
        features: VirtioFeatures = all
    ) throws {
        let rig = try format.rig(
            features: features, method: .headerQueue(.usedLength), slots: (128, 8))
        Self.post(rig, .whole)
        let image = rig.guest.image()
        let outcome = rig.port.enqueue([SourcePacket(frame, offloads: offloads)], to: rig.queue)
        #expect(outcome.fates == [false] && outcome.result.consumed == 2, "\(offloads)")
        #expect(outcome.refs.allSatisfy { $0.flags.contains(.dropped) })
        #expect(rig.queue.counters.dropped == [reason: 1], "\(offloads)")
        #expect(image.isUnchanged)
        // The next packet is served.
        #expect(rig.enqueue([frame]).fates == [true])
    }

    @Test("B37: offloads that cannot be are dropped and counted", arguments: RingFormat.allCases)
    func bad(format: RingFormat) throws {
        let count = UInt16(Self.tcp4.count)
        var wrong: [PacketOffloads] = [
            // A checksum that starts or lies outside the packet.
            PacketOffloads(flags: 1, csumStart: count, csumOffset: 0),
            PacketOffloads(flags: 1, csumStart: count - 1, csumOffset: 0),
            PacketOffloads(flags: 1, csumStart: 34, csumOffset: count - 35),
            PacketOffloads(flags: 1, csumStart: 65535, csumOffset: 65535),
            PacketOffloads(flags: 1, csumStart: 13, csumOffset: 16),
            // Segmentation without its size, or without a checksum to complete.
            PacketOffloads(flags: 1, gsoType: 1, csumStart: 34, csumOffset: 16),
            PacketOffloads(flags: 0, gsoType: 1, gsoSize: 1448, csumStart: 34, csumOffset: 16),
            PacketOffloads(flags: 2, gsoType: 1, gsoSize: 1448, csumStart: 34, csumOffset: 16),
            // A checksum that is not the transport header's.
            Self.segmented(1, start: 14), Self.segmented(1, start: 35),
            PacketOffloads(hashReport: 10),
        ]
        // Invalid types, and types that do not match this packet.
        for type in UInt8.min...UInt8.max where ![0, 1, 0x81].contains(type) {
            wrong.append(Self.segmented(type))
        }
        // Flags of features that do not exist.
        for bit in 2..<8 { wrong.append(PacketOffloads(flags: 1 << UInt8(bit))) }
        for offloads in wrong {
            try Self.expectDropped(format, Self.tcp4, with: offloads, for: .badOffload)
        }
        for type: UInt8 in [1, 3, 5, 0x83] {
            try Self.expectDropped(
                format, Self.tcp6, with: Self.segmented(type, start: 54), for: .badOffload)
        }
        try Self.expectDropped(
            format, TestFrames.opaque(200), with: Self.segmented(1), for: .badOffload)
    }

    @Test(
        "B37: what was not negotiated is dropped if the packet needs it, else left out",
        arguments: RingFormat.allCases)
    func notNegotiated(format: RingFormat) throws {
        let none: VirtioFeatures = [.mergeableBuffers]
        try Self.expectDropped(
            format, Self.tcp4, with: Self.tcp4Checksum, for: .offloadNotNegotiated, features: none)
        for (frame, offloads, feature) in [
            (Self.tcp4, Self.segmented(1), VirtioFeatures.guestTSO4),
            (Self.tcp6, Self.segmented(4, start: 54), .guestTSO6),
            (Self.tcp4, Self.segmented(0x81), .guestECN),
            (Self.udp4, Self.segmented(3, offset: 6), .guestUFO),
            (Self.udp4, Self.segmented(5, offset: 6), .guestUSO4),
        ] {
            let features = Self.all.subtracting(feature)
            try Self.expectDropped(
                format, frame, with: offloads, for: .offloadNotNegotiated, features: features)
        }
        // DATA_VALID, and a hash: the packet is good without them.
        for method in Self.methods {
            let rig = try format.rig(features: none, method: method, slots: (128, 8))
            Self.post(rig, method)
            let packet = SourcePacket(
                Self.tcp4, offloads: PacketOffloads(flags: 2, hashValue: 77, hashReport: 2))
            #expect(rig.port.enqueue([packet], to: rig.queue).fates == [true])
            let found = Self.netHeader(rig, method)
            #expect(found.flags == 0 && found.gsoType == 0 && found.csumStart == 0)
            // After 12 bytes there is no hash, but the split report, headers or the packet.
            #expect(rig.queue.counters.droppedTotal == 0)
        }
    }

    @Test(
        "B37: offloads in the wrong place are no segments, and nobody reads where they point",
        arguments: RingFormat.allCases)
    func misplaced(format: RingFormat) throws {
        let frame = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 8)
        defer { frame.deallocate() }
        frame.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
        let segment = PacketRef(frame, byteCount: 64)
        var first = segment
        first.flags = .more
        // Bits that are no address.
        let context = PacketRef(
            context: PacketOffloads(
                flags: 2, gsoSize: 0xffff, csumStart: 0xffff, csumOffset: 0xffff, hashValue: 64))
        var alone = context
        alone.flags = .context
        for run in [
            [alone], [first, alone], [context, context, segment], [first, context, segment],
        ] {
            for method in [RxMethod.whole, .headerQueue(.netHeader)] {
                let rig = try format.rig(
                    features: Self.all, method: method, slots: (128, 8))
                Self.post(rig, .whole)
                var refs = run + [segment]
                let count = refs.count
                let result = rig.queue.enqueue(&refs, count: count)
                #expect(result.consumed == count && result.delivered == 1)
                #expect(rig.queue.counters.dropped == [.badOffload: 1])
                #expect(refs.dropLast().allSatisfy { $0.flags.contains(.dropped) })
            }
        }
    }

    @Test("A run counts its offloads among its references", arguments: RingFormat.allCases)
    func longestRun(format: RingFormat) throws {
        for (count, isDelivered) in [(63, true), (64, false)] {
            let rig = try format.rig(features: Self.all)
            Self.post(rig, .whole)
            let packet = SourcePacket(
                segments: TestFrames.opaque(count).map { [$0] }, offloads: PacketOffloads())
            let outcome = rig.port.enqueue([packet], to: rig.queue)
            #expect(outcome.result.delivered == (isDelivered ? 1 : 0))
            let reasons: [DropReason: UInt64] = isDelivered ? [:] : [.tooManySegments: 1, .runt: 1]
            #expect(rig.queue.counters.dropped == reasons)
        }
    }

    @Test("Features that need others are refused without them")
    func featureNeeds() throws {
        func refusal(_ features: VirtioFeatures) -> String? {
            do {
                _ = try RingFormat.split.rig(features: features)
                return nil
            } catch { return "\(error)" }
        }
        for one in [
            VirtioFeatures.guestTSO4, .guestTSO6, .guestUFO, .guestUSO4, .guestUSO6,
        ] {
            #expect(refusal(one) == "GUEST_TSO4, TSO6, UFO and USO need GUEST_CSUM")
            #expect(refusal([one, .guestChecksum]) == nil)
        }
        #expect(
            refusal([.guestChecksum, .guestECN]) == "GUEST_ECN needs GUEST_TSO4 or GUEST_TSO6")
        #expect(refusal(Self.all) == nil)
    }
}
