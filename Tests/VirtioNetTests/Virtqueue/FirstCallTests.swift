// The call that a queue owes its driver after a start: it does not know for which entry the driver
// was called last, as the device that served the queue before may have published and died before it
// called.
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("The first call after a start")
struct FirstCallTests {
    private static let packet = TestFrames.tcp4([1])
    private static let features: VirtioFeatures = [.mergeableBuffers, .eventIndex]
    /// Split: indices around every border of 16 bits and of 15. A packed ring takes those that are
    /// positions of its two laps.
    private static let indices = [0, 1, 5, 0x7ffb, 0x7fff, 0x8000, 0x8001, 0xfffb, 0xfffe, 0xffff]

    private static func starts(_ format: RingFormat, size: Int) -> [Int] {
        format == .split ? indices : Array(0..<2 * size)
    }

    /// A device that resumes at `base`, knowing nothing of the one before.
    private static func device(
        _ rig: any ReceiveRig, at base: UInt16, _ arenas: ArenaSupply,
        features: VirtioFeatures = features
    ) throws -> RxQueue {
        var addresses =
            switch rig {
            case let split as EvilRig: split.ring.addresses
            default: try #require(rig as? PackedRig).ring.addresses
            }
        addresses.base = base
        return try arenas.queue(
            RxQueueConfiguration(
                virtqueue: addresses, features: features, memory: rig.guest.memory, method: .whole,
                burst: 8))
    }

    /// The driver asks for a call at `place`, an index or a position as the rig counts them, with
    /// the flags of a packed ring.
    private static func ask(_ rig: any ReceiveRig, at place: Int, flags: UInt16 = 2) {
        if let split = rig as? EvilRig {
            split.ring.setUsedEvent(UInt16(truncatingIfNeeded: place))
        } else if let packed = rig as? PackedRig {
            packed.ring.setDriverEvent(packed.ring.base(place), flags: flags)
        }
    }

    @Test(
        "A driver that sleeps at an entry it was never called for is called once by every new one",
        arguments: RingFormat.allCases)
    func resumed(format: RingFormat) throws {
        let arenas = ArenaSupply()
        for start in Self.starts(format, size: 8) {
            let rig = try format.rig(size: 8, features: Self.features, start: start)
            for id in 0..<5 { rig.post(id) }
            rig.enqueue(Array(repeating: Self.packet, count: 5))
            // It took four, and slept before the fifth was there; the call for that got lost.
            Self.ask(rig, at: start + 4)
            var base = rig.queue.base
            for _ in 0..<3 {
                let queue = try Self.device(rig, at: base, arenas)
                func enqueue(_ count: Int) -> Bool {
                    let packets = Array(repeating: Self.packet, count: count)
                    return rig.port.enqueue(packets, to: queue).result.wantsCall
                }
                // Nothing is published, so no call is owed yet: no packet, or no buffer.
                try #require(!enqueue(0) && !enqueue(1), "from \(start)")
                rig.post(5)
                try #require(enqueue(1), "from \(start)")
                rig.post(6)
                try #require(!enqueue(1) && !enqueue(0), "from \(start)")
                #expect(queue.counters.calls == 1 && queue.counters.packets == 2)
                base = queue.base
            }
        }
    }

    @Test("After the first publish the driver's word decides", arguments: RingFormat.allCases)
    func later(format: RingFormat) throws {
        for start in Self.starts(format, size: 8) {
            let rig = try format.rig(size: 8, features: Self.features, start: start)
            Self.ask(rig, at: start + 4)
            let calls = (0..<8).map { id in
                rig.post(id)
                return rig.enqueue([Self.packet]).result.wantsCall
            }
            let expected = (0..<8).map { $0 == 0 || $0 == 4 }
            #expect(calls == expected, "from \(start)")
        }
    }

    @Test("Flags that say no are obeyed, and the driver that is awake then is owed nothing")
    func disabled() throws {
        for flags in [PackedEvent.disable, PackedEvent.enable] {
            let rig = try PackedRig(features: Self.features)
            Self.ask(rig, at: 7, flags: flags)
            rig.post(0)
            #expect(rig.enqueue([Self.packet]).result.wantsCall == (flags == PackedEvent.enable))
            Self.ask(rig, at: 7)
            rig.post(1)
            #expect(!rig.enqueue([Self.packet]).result.wantsCall)
        }
        // Without EVENT_IDX the split ring's flag decides, as ever.
        let rig = try EvilRig()
        rig.ring.setAvailFlags(availNoInterrupt)
        rig.post(0)
        #expect(!rig.enqueue([Self.packet]).result.wantsCall)
    }

    /// A device that stores the number it signalled last, as QEMU does: nil is unknown.
    private struct NaiveDevice {
        let format: RingFormat
        let usesEventIndex: Bool
        var isKnown = false

        /// - Parameter places: as in `ask`, each as the driver writes it.
        mutating func publishes(_ places: [UInt16], event: UInt16, flags: UInt16) -> Bool {
            if places.isEmpty { return false }
            let wasKnown = isKnown
            isKnown = true
            let isCrossed = !wasKnown || places.contains(event)
            switch format {
            case .split: return usesEventIndex ? isCrossed : flags != 1
            case .packed: return flags == 2 && usesEventIndex ? isCrossed : flags != 1
            }
        }
    }

    @Test(
        "Devices that come and go call as naive ones do", arguments: RingFormat.allCases,
        [true, false])
    func twin(format: RingFormat, usesEventIndex: Bool) throws {
        let features: VirtioFeatures = usesEventIndex ? Self.features : .mergeableBuffers
        for size in format == .split ? [1, 2, 4, 8] : [1, 2, 3, 4, 5] {
            for start in Self.starts(format, size: size) {
                var random = SeededRandom(seed: UInt64(size << 16 | start))
                let arenas = ArenaSupply()
                let rig = try format.rig(size: size, features: features, start: start)
                var (queue, next) = (rig.queue, start)
                var naive = NaiveDevice(format: format, usesEventIndex: usesEventIndex)
                for _ in 0..<150 {
                    if random.chance(20) {
                        queue = try Self.device(rig, at: queue.base, arenas, features: features)
                        naive.isKnown = false
                    }
                    let count = random.int(0...size)
                    let flags = UInt16(random.int(0...2))
                    let place = next + random.int(-size...size) + 2 * size
                    Self.ask(rig, at: place, flags: flags)
                    if let split = rig as? EvilRig { split.ring.setAvailFlags(flags & 1) }
                    for id in 0..<count { rig.post(id) }
                    let packets = Array(repeating: Self.packet, count: count)
                    let result = rig.port.enqueue(packets, to: queue).result
                    let word = { (place: Int) -> UInt16 in
                        (rig as? PackedRig)?.ring.base(place) ?? UInt16(truncatingIfNeeded: place)
                    }
                    let expected = naive.publishes(
                        (next..<next + count).map(word), event: word(place), flags: flags)
                    try #require(result.delivered == count)
                    try #require(
                        result.wantsCall == expected,
                        "size \(size) from \(start): \(next) + \(count), asked at \(place)")
                    next += count
                }
            }
        }
    }

    @Test("The event index decides from the second publish on, and without EVENT_IDX never")
    func rule() {
        for features in [[], VirtioFeatures.eventIndex] {
            var rule = CallRule(features)
            let trusts = (0..<4).map { _ in
                rule.publish()
                return rule.trustsEventIndex
            }
            let isAgreed = features == .eventIndex
            #expect(trusts == [false, isAgreed, isAgreed, isAgreed])
            #expect(rule.usesEventIndex == isAgreed)
        }
    }
}
