import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Hostile transmit queue")
struct TxHostileTests {
    private static let allOffloads: VirtioFeatures = [
        .checksum, .hostTSO4, .hostTSO6, .hostECN, .hostUFO, .hostUSO, .indirectDescriptors,
    ]

    /// The chain is dropped for this reason and goes back; the queue goes on.
    private func expectDropped(
        _ rig: TxRig, _ reason: TxDropReason, _ comment: Comment? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let before = rig.queue.counters.dropped[reason] ?? 0
        #expect(rig.dequeue().count == 0, comment, sourceLocation: sourceLocation)
        let dropped = rig.queue.counters.dropped
        #expect(dropped[reason] == before + 1, comment, sourceLocation: sourceLocation)
        #expect(rig.takeUsed().count == 1, comment, sourceLocation: sourceLocation)
        let frame = TestFrames.udp4([5])
        rig.send([txHeader() + frame])
        let packets = rig.dequeue()
        #expect(
            packets.map { rig.read($0).bytes } == [frame], comment, sourceLocation: sourceLocation)
        _ = rig.queue.complete(packets.count)
        #expect(rig.takeUsed().count == 1, comment, sourceLocation: sourceLocation)
    }

    @Test("B36: chains shorter than the headers go back", arguments: RingFormat.allCases)
    func runts(format: RingFormat) throws {
        let rig = try TxRig(format, features: Self.allOffloads)
        for length in 0...25 {
            let bytes = [UInt8](repeating: 0, count: length)
            rig.send([bytes])
            expectDropped(rig, .runt, "\(length) bytes")
            rig.send(bytes.isEmpty ? [[]] : bytes.map { [$0] }.suffix(10) + [[]])
            expectDropped(rig, .runt, "\(length) bytes, one by one")
        }
    }

    @Test("B36: a header over any pieces is gathered", arguments: RingFormat.allCases)
    func scatteredHeader(format: RingFormat) throws {
        for byteCount in [12, 20] {
            var features = Self.allOffloads
            if byteCount == 20 { features.insert(.hashReport) }
            let rig = try TxRig(format, size: 64, features: features)
            let frame = TestFrames.tcp4(TestFrames.payload(40))
            let header = txHeader(
                NetHeader(flags: 1, gsoType: 1, gsoSize: 7, csumStart: 34, csumOffset: 16),
                byteCount: byteCount)
            for pieceLength in 1...byteCount {
                var pieces: [[UInt8]] = []
                for start in stride(from: 0, to: byteCount, by: pieceLength) {
                    pieces.append(Array(header[start..<min(start + pieceLength, byteCount)]))
                }
                rig.send(pieces + [frame])
                // The frame begins in the header's last piece.
                rig.send(pieces.dropLast() + [pieces[pieces.count - 1] + frame])
                let packets = rig.dequeue()
                let expected = TxRig.Out(
                    bytes: frame, netFlags: 1, gsoType: 1, gsoSize: 7, csumStart: 34,
                    csumOffset: 16)
                #expect(packets.map(rig.read) == [expected, expected])
                #expect(packets.allSatisfy { $0.moreCount == 0 })
                _ = rig.queue.complete(2)
                _ = rig.takeUsed()
            }
        }
    }

    @Test("B37: what a header may not ask", arguments: RingFormat.allCases)
    func offloads(format: RingFormat) throws {
        let frame = TestFrames.tcp4(TestFrames.payload(46))
        let length = UInt16(frame.count)
        let bad: [(NetHeader, String)] = [
            (NetHeader(flags: 1, csumStart: length), "checksum starts at the end"),
            (NetHeader(flags: 1, csumStart: length - 1), "checksum is cut off"),
            (NetHeader(flags: 1, csumStart: 0, csumOffset: length - 1), "checksum at the end"),
            (NetHeader(flags: 1, csumStart: .max, csumOffset: .max), "sum wraps 16 bits"),
            (NetHeader(gsoType: 1, gsoSize: 0), "no size"),
            (NetHeader(gsoType: 2, gsoSize: 9), "type 2"),
            (NetHeader(gsoType: 6, gsoSize: 9), "type 6"),
            (NetHeader(gsoType: 0xff, gsoSize: 9), "type 0xff"),
            (NetHeader(gsoType: 0x80, gsoSize: 9), "ECN alone"),
        ]
        let rig = try TxRig(format, features: Self.allOffloads)
        for (header, what) in bad {
            rig.send([txHeader(header) + frame])
            expectDropped(rig, .badOffload, "\(what)")
            rig.send([txHeader(header), frame])
            expectDropped(rig, .badOffload, "\(what), in two pieces")
        }
        // The last two bytes are inside; a length hint says nothing.
        let good = NetHeader(
            flags: 1, gsoType: 0x81, hdrLen: .max, gsoSize: 1, csumStart: length - 2)
        rig.send([txHeader(good) + frame])
        #expect(rig.dequeue().map { rig.read($0).csumStart } == [length - 2])
    }

    @Test("What was not negotiated is not granted")
    func ungranted() throws {
        let frame = TestFrames.tcp4(TestFrames.payload(46))
        let asked: [(NetHeader, VirtioFeatures)] = [
            (NetHeader(flags: 1), .checksum), (NetHeader(gsoType: 1, gsoSize: 5), .hostTSO4),
            (NetHeader(gsoType: 3, gsoSize: 5), .hostUFO),
            (NetHeader(gsoType: 4, gsoSize: 5), .hostTSO6),
            (NetHeader(gsoType: 5, gsoSize: 5), .hostUSO),
            (NetHeader(gsoType: 0x81, gsoSize: 5), .hostECN),
        ]
        for (header, feature) in asked {
            let poor = try TxRig(.split, features: Self.allOffloads.subtracting(feature))
            poor.send([txHeader(header) + frame])
            expectDropped(poor, .badOffload)
            let rich = try TxRig(.split, features: Self.allOffloads)
            rich.send([txHeader(header) + frame])
            #expect(rich.dequeue().count == 1)
        }
    }

    @Test("Too long, and in too many pieces", arguments: RingFormat.allCases)
    func limits(format: RingFormat) throws {
        let rig = try TxRig(format, size: 128, features: .indirectDescriptors)
        let space = EvilRig.dataAddress
        guestZero(rig)
        rig.send([(space, 12 + 65590)])
        expectDropped(rig, .tooLong)
        rig.send([(space, 40000), (space, 12 + 65590 - 40000)])
        expectDropped(rig, .tooLong)
        guestZero(rig)
        rig.send([(space, 12 + 65589)])
        #expect(rig.dequeue().map(\.byteCount) == [65589])
        _ = rig.queue.complete(1)
        _ = rig.takeUsed()
        for isTable in [false, true] {
            let bytes = (0..<65).map { [UInt8($0)] }
            rig.send([txHeader()] + bytes, table: isTable)
            expectDropped(rig, .tooManySegments)
            rig.send([txHeader()] + bytes + (0..<30).map { [UInt8($0)] }, table: isTable)
            expectDropped(rig, .tooManySegments)
            rig.send([txHeader()] + bytes.dropLast(), table: isTable)
            let packets = rig.dequeue()
            #expect(packets.map { rig.read($0).bytes.count } == [64])
            _ = rig.queue.complete(packets.count)
            _ = rig.takeUsed()
        }
    }

    private func guestZero(_ rig: TxRig) {
        rig.guest.fill(EvilRig.dataAddress, EvilRig.dataByteCount, with: 0)
    }

    /// The queue stops for this reason and touches nothing any more.
    private func expectBroken(
        _ rig: TxRig, _ fault: QueueFault, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let image = rig.guest.image()
        #expect(rig.dequeue().count == 0, sourceLocation: sourceLocation)
        #expect(rig.queue.fault == fault, sourceLocation: sourceLocation)
        rig.send([txHeader() + TestFrames.udp4([1])])
        image.capture()
        #expect(rig.dequeue().count == 0, sourceLocation: sourceLocation)
        #expect(image.isUnchanged, sourceLocation: sourceLocation)
    }

    @Test("B13: a writable descriptor breaks the queue", arguments: RingFormat.allCases)
    func direction(format: RingFormat) throws {
        for isTable in [false, true] {
            let rig = try TxRig(format, features: .indirectDescriptors)
            rig.send(
                [txHeader() + TestFrames.udp4([1])], table: isTable, flags: DescriptorFlags.write)
            if isTable && format == .packed {
                // DPDK's driver does this.
                #expect(rig.dequeue().count == 1)
            } else {
                expectBroken(rig, .direction)
            }
        }
    }

    @Test("Buffers and tables outside memory break the queue", arguments: RingFormat.allCases)
    func range(format: RingFormat) throws {
        let pieces: [(address: UInt64, length: Int)] = [
            (0, 100), (UInt64.max - 10, 100), (EvilRig.dataAddress, 1 << 30), (0x5_0000, 1),
        ]
        for piece in pieces {
            let rig = try TxRig(format)
            rig.send([piece])
            expectBroken(rig, .range)
        }
        let rig = try TxRig(format)
        rig.send([txHeader() + TestFrames.udp4([1])], table: true)
        expectBroken(rig, .indirect)
    }

    @Test("An index that jumps or goes back breaks the queue")
    func availIndex() throws {
        for jump in [UInt16(17), 100, 0x8000, .max] {
            let rig = try TxRig(.split)
            rig.setAvailIndex(jump)
            expectBroken(rig, .availJump)
        }
        // The driver may not post again what is out.
        let rig = try TxRig(.split, size: 4)
        for _ in 0..<4 { rig.send([txHeader() + TestFrames.udp4([1])]) }
        #expect(rig.dequeue(4).count == 4)
        rig.setAvailIndex(5)
        #expect(rig.dequeue().count == 0)
        #expect(rig.queue.fault == .availJump)
        // Packets that are out still go back.
        #expect(rig.queue.complete(4) != nil)
        #expect(rig.takeUsed().count == 4)
    }

    @Test("Random rings never touch what is not theirs", arguments: RingFormat.allCases)
    func fuzz(format: RingFormat) throws {
        var random = SeededRandom(seed: 77)
        var faults: Set<QueueFault> = []
        for _ in 0..<300 {
            let rig = try TxRig(format, size: 8, features: Self.allOffloads)
            for _ in 0..<6 {
                var pieces: [(address: UInt64, length: Int)] = []
                for _ in 0..<random.int(1...3) {
                    let start: UInt64 = random.pick([
                        EvilRig.dataAddress, EvilRig.ringAddress, 0x1_8000, 0, UInt64.max - 44,
                        0x4_fff0,
                    ])
                    let length = random.pick([0, 1, 12, 26, 200, 70_000])
                    pieces.append((start + UInt64(random.int(0...40)), length))
                }
                if rig.freeCount < 3 { break }
                rig.send(
                    pieces, id: random.int(0...9), table: random.chance(30),
                    flags: random.pick([0, 0, 0, 2, 4, 1, 5]))
                for packet in rig.dequeue() { _ = rig.read(packet) }
                _ = rig.queue.complete(random.int(0...rig.queue.heldCount))
            }
            faults.insert(rig.queue.fault)
            #expect(rig.guest.bandsAreIntact)
        }
        #expect(faults.isSuperset(of: [.none, .range, .direction]))
    }
}
