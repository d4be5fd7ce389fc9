// Buffers that the device holds: named twice, or used and overwritten (catalogue B06, B25, B29,
// B35).
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Buffers in flight")
struct InFlightTests {
    private static let packet = TestFrames.tcp4(TestFrames.payload(1000))
    private static let small = TestFrames.tcp4([1, 2, 3])

    @Test(
        "B06, B29: a buffer named again while it is held breaks the queue",
        arguments: RingFormat.allCases)
    func duplicate(format: RingFormat) throws {
        for size in [2, 8, 64] {
            // Two packets of a burst, and one packet over several buffers.
            let burst = try format.rig(size: size)
            burst.post(1)
            burst.post(1)
            let outcome = burst.enqueue([Self.small, Self.small])
            #expect(outcome.fates == [true] && burst.reports == [.init(id: 1, length: 69)])
            #expect(burst.queue.counters.fault == .duplicateHead)
            #expect(burst.enqueue([Self.small]).fates == [false])
            let merged = try format.rig(size: size)
            merged.post(0, byteCount: 600)
            merged.post(0, byteCount: 600)
            let image = merged.guest.image()
            #expect(merged.enqueue([Self.packet]).result.consumed == 0)
            #expect(merged.queue.counters.fault == .duplicateHead)
            #expect(image.isUnchanged)
        }
    }

    @Test(
        "B06, B29: a list or table named like a buffer that is held breaks the queue",
        arguments: RingFormat.allCases)
    func duplicateList(format: RingFormat) throws {
        let table = EvilRig.page(9)
        for isTable in [false, true] {
            let rig = try format.rig(features: .indirectDescriptors)
            rig.post(2)
            if isTable {
                rig.describeTable(table, [PostedPiece(EvilRig.page(3), 4096)])
                // A split ring's descriptor has one shape: both entries name this one then.
                rig.postTable(table, length: 16, id: 2)
            } else {
                rig.post(
                    [PostedPiece(EvilRig.page(3), 40), PostedPiece(EvilRig.page(4), 4096)], id: 2)
            }
            let outcome = rig.enqueue([Self.small, Self.small])
            #expect(outcome.fates == [true] && rig.usedTotal == 1)
            #expect(rig.queue.counters.fault == .duplicateHead)
            #expect(rig.guest.bandsAreIntact)
        }
    }

    @Test(
        "B06, B29: a buffer that came back may be posted again, burst after burst",
        arguments: RingFormat.allCases)
    func reuse(format: RingFormat) throws {
        for size in [1, 2, 8] {
            let rig = try format.rig(size: size)
            for round in 0..<3 * size {
                rig.post(size - 1)
                #expect(rig.enqueue([Self.small, Self.small]).fates == [true], "round \(round)")
                #expect(rig.reports.last == .init(id: size - 1, length: 69))
            }
            #expect(rig.queue.counters.fault == .none)
        }
    }

    @Test(
        "B06, B29: a buffer that was given back untaken is not held",
        arguments: RingFormat.allCases)
    func rewound(format: RingFormat) throws {
        // A packet that finds too few buffers gives back those it took, and is tried again.
        for shortage in [BufferShortage.wait, .drop] {
            let rig = try format.rig(shortage: shortage)
            for id in 0..<3 { rig.post(id, byteCount: 500) }
            let big = TestFrames.tcp4(TestFrames.payload(1800))
            for _ in 0..<5 {
                _ = rig.enqueue([big])
                #expect(rig.queue.counters.fault == .none && rig.usedTotal == 0)
            }
            rig.post(3, byteCount: 500)
            #expect(rig.enqueue([big]).fates == [true])
            #expect(rig.reports.map(\.id) == [0, 1, 2, 3])
        }
    }

    @Test("B29: ids of a list's inner descriptors do not count")
    func innerIDs() throws {
        let rig = try PackedRig()
        for place in 0..<3 {
            rig.ring.describe(
                place, EvilRig.page(place), 700,
                flags: DescriptorFlags.write | (place < 2 ? DescriptorFlags.next : 0),
                id: [60000, 3, 3][place])
        }
        #expect(rig.enqueue([Self.packet]).fates == [true])
        #expect(rig.ring.used(0) == .init(id: 3, length: 1066))
    }

    @Test("B25: what the guest writes into the used ring is never read")
    func scribbledUsedRing() throws {
        let rig = try EvilRig(firstIndex: 65534)
        for round in 0..<4 {
            rig.post(round)
            rig.guest.fill(rig.ring.usedRing, 70, with: 0xEE)
            #expect(rig.enqueue([TestFrames.tcp4([1])]).fates == [true])
            let index = UInt16(truncatingIfNeeded: 65535 + round)
            #expect(rig.ring.usedIndex == index)
            #expect(rig.ring.used(index &- 1).head == round)
        }
    }

    @Test("B25: what the guest writes over used descriptors is never read", arguments: [0, 3, 7])
    func scribbledUsedDescriptors(start: Int) throws {
        let rig = try PackedRig(size: 5, start: start)
        for place in start..<start + 20 {
            rig.post(place % 5)
            #expect(rig.enqueue([TestFrames.tcp4([1])]).fates == [true])
            #expect(rig.ring.used(place) == .init(id: place % 5, length: 67))
            // Any flags but those that would be available in the next lap.
            let owner = rig.ring.available(place)
            rig.ring.write(place, UInt64.max, -1, flags: 0x7f7f | owner, id: 0xffff)
            #expect(rig.enqueue([TestFrames.tcp4([1])]).result.consumed == 0)
            #expect(rig.queue.base == rig.ring.base(place + 1))
        }
        #expect(rig.queue.counters.fault == .none && rig.guest.bandsAreIntact)
    }

    @Test(
        "B34: with IN_ORDER agreed, buffers in any order break nothing",
        arguments: RingFormat.allCases)
    func disorder(format: RingFormat) throws {
        var random = SeededRandom(seed: 34)
        for _ in 0..<50 {
            let rig = try format.rig(size: 16, features: [.mergeableBuffers, .inOrder])
            for id in Array(0..<16).shuffled(using: &random) { rig.post(id, byteCount: 700) }
            let packets = Array(repeating: Self.packet, count: 7)
            #expect(rig.enqueue(packets).fates == Array(repeating: true, count: 7))
            #expect(rig.queue.counters.fault == .none && rig.guest.bandsAreIntact)
            // Only a ring that lies breaks the queue.
            rig.post(99)
            for id in 0..<2 { rig.post(id) }
            _ = rig.enqueue(packets)
            let fault: QueueFault = format == .split ? .head : .id
            #expect(rig.queue.counters.fault == fault)
        }
    }

    @Test(
        "B35: kicks are not asked for, and polls without buffers do nothing",
        arguments: RingFormat.allCases)
    func kicks(format: RingFormat) throws {
        for features in [VirtioFeatures.mergeableBuffers, [.mergeableBuffers, .eventIndex]] {
            let rig = try format.rig(features: features)
            switch rig {
            case let split as EvilRig: #expect(split.ring.usedFlags == usedNoNotify)
            case let packed as PackedRig: #expect(packed.ring.deviceFlags == PackedEvent.disable)
            default: Issue.record("a rig of neither format")
            }
            let image = rig.guest.image()
            for _ in 0..<1000 {
                let result = rig.enqueue([Self.small]).result
                #expect(result.consumed == 0 && !result.wantsCall)
            }
            #expect(image.isUnchanged && rig.queue.counters.emptyPolls == 1000)
            rig.post(0)
            #expect(rig.enqueue([Self.small]).fates == [true])
            #expect(rig.queue.counters.fault == .none)
        }
    }
}
