// What a source may submit: lengths, segments, runs.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Packets at the limits")
struct SourceLimitTests {
    @Test(
        "E01: frames shorter than an Ethernet header are dropped as runts",
        arguments: RingFormat.allCases)
    func runts(format: RingFormat) throws {
        let rig = try format.rig(method: .headerQueue(.netHeader), slots: (128, 8))
        for head in 0..<8 { rig.post(head) }
        let packets = (0...14).map { TestFrames.opaque($0) }
        let fates = rig.enqueue(packets).fates
        #expect(fates == Array(repeating: false, count: 14) + [true])
        #expect(rig.queue.counters.dropped == [.runt: 14])
        #expect(rig.queue.counters.fallback == [.notSplittable: 1])
        #expect(rig.usedTotal == 1)
    }

    @Test("E12: 65589 bytes are delivered, 65590 are not", arguments: RingFormat.allCases)
    func longest(format: RingFormat) throws {
        for (count, isDelivered) in [(65589, true), (65590, false), (200_000, false)] {
            let rig = try format.rig(size: 32)
            for head in 0..<32 { rig.post(head) }
            let packet = TestFrames.opaque(count)
            #expect(rig.enqueue([packet]).fates == [isDelivered])
            #expect(rig.queue.counters.dropped == (isDelivered ? [:] : [.tooLong: 1]))
            if isDelivered {
                let reports = rig.reports
                #expect(reports.count == 17 && reports[16].length == 65589 + 12 - 65536)
                let found = (0..<17).flatMap { index in
                    rig.guest.read(EvilRig.page(index), reports[index].length)
                }
                #expect(Array(found.dropFirst(12)) == packet)
            }
        }
    }

    @Test(
        "E14: segments whose lengths pass 32 bits together are too long, not short",
        arguments: RingFormat.allCases)
    func lengthsDoNotWrap(format: RingFormat) throws {
        let rig = try format.rig()
        rig.post(0)
        let byte = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 8)
        defer { byte.deallocate() }
        var refs = [
            PacketRef(byte, byteCount: 0xffff_ffff, flags: .more),
            PacketRef(byte, byteCount: 0xffff_ffff, flags: .more),
            PacketRef(byte, byteCount: 64),
        ]
        let result = rig.queue.enqueue(&refs, count: 3)
        #expect(result.consumed == 3 && result.delivered == 0)
        #expect(rig.queue.counters.dropped == [.tooLong: 1])
    }

    @Test("E13: 64 segments are one packet, more are dropped", arguments: RingFormat.allCases)
    func segments(format: RingFormat) throws {
        for (count, expected) in [(64, [:]), (65, [.tooManySegments: 1, .runt: 1])]
            as [(Int, [DropReason: UInt64])]
        {
            let rig = try format.rig(method: .headerQueue(.usedLength), slots: (128, 8))
            rig.post(0)
            let bytes = TestFrames.tcp4(TestFrames.payload(count - 54))
            let packet = SourcePacket(segments: bytes.map { [$0] })
            let outcome = rig.port.enqueue([packet], to: rig.queue)
            #expect(outcome.result.consumed == count)
            #expect(rig.queue.counters.dropped == expected)
            #expect(outcome.refs.allSatisfy { $0.flags.contains(.dropped) == (count == 65) })
            if count == 64 {
                #expect(rig.queue.counters.split == 1)
                #expect(rig.headers?.slot(0, 66).dropFirst(12) == bytes.prefix(54))
                #expect(rig.guest.read(EvilRig.page(0), 10) == Array(bytes.suffix(10)))
            }
        }
    }

    @Test("A run cut off at the end of a burst stays with its source")
    func cutOffRun() throws {
        for cut in 1...3 {
            let rig = try EvilRig()
            for head in 0..<4 { rig.post(head) }
            let whole = TestFrames.tcp4(TestFrames.payload(300))
            let parts = stride(from: 0, to: whole.count, by: 100).map {
                [UInt8](whole[$0..<min($0 + 100, whole.count)])
            }
            var refs = rig.port.references([
                SourcePacket(TestFrames.tcp4([1])), SourcePacket(segments: parts),
            ])
            let first = rig.queue.enqueue(&refs, count: refs.count - cut)
            #expect(first.consumed == 1 && first.delivered == 1)
            #expect(!refs.contains { $0.flags.contains(.dropped) })
            var rest = Array(refs.dropFirst())
            let second = rig.queue.enqueue(&rest, count: rest.count)
            #expect(second.consumed == parts.count && second.delivered == 1)
            #expect(rig.guest.read(EvilRig.page(1) + 12, whole.count) == whole)
        }
    }

    @Test("No more packets than a burst are taken at once", arguments: [1, 2, 31, 32])
    func burstLimit(burst: Int) throws {
        let rig = try EvilRig(size: 64, burst: burst)
        for head in 0..<64 { rig.post(head) }
        let outcome = rig.enqueue(Array(repeating: TestFrames.tcp4([1]), count: 40))
        #expect(outcome.result.consumed == min(burst, 40))
        #expect(rig.ring.usedIndex == UInt16(min(burst, 40)))
    }

    @Test("D13: headers longer than the slot stay with their packet")
    func headerTooLong() throws {
        for (report, most) in [(HeaderReport.netHeader, 64), (.usedLength, 52)] {
            for optionWords in 0...10 {
                let rig = try EvilRig(method: .headerQueue(report), slots: (64, 8))
                rig.post(0)
                let isSplit = 54 + 4 * optionWords <= most
                let packet = TestFrames.tcp4([1, 2], optionWords: optionWords)
                let image = rig.guest.image()
                #expect(rig.enqueue([packet]).fates == [true])
                let counters = rig.queue.counters
                #expect(counters.split == (isSplit ? 1 : 0))
                #expect(counters.fallback == (isSplit ? [:] : [.headerTooLong: 1]))
                // At most the one slot was written.
                image.accept(EvilRig.headerAddress, isSplit ? 256 + 64 : 0)
                image.accept(EvilRig.ringAddress, 0x1000)
                image.accept(EvilRig.page(0), 4096)
                #expect(image.isUnchanged)
            }
        }
    }

    @Test("Packets planned again for want of slots keep the reason they had")
    func reasonsSurviveReplanning() throws {
        let rig = try EvilRig(
            features: [], method: .headerQueue(.usedLength), slots: (128, 1), shortage: .wait)
        rig.headers?.setTail(0)
        // Split, the first packet fits the first buffer, and the second finds none; whole, the
        // first does not fit and the second does.
        rig.post(0, byteCount: 1040)
        rig.post(1, byteCount: 500)
        let outcome = rig.enqueue([
            TestFrames.tcp4(TestFrames.payload(1000)), TestFrames.opaque(900),
        ])
        #expect(outcome.fates == [false, true])
        let counters = rig.queue.counters
        #expect(counters.fallback == [.notSplittable: 1])
        #expect(counters.dropped == [.bufferTooSmall: 1])
    }
}
