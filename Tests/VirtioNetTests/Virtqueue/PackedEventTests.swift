// Event suppression of the packed ring, beside a twin that goes through the positions one by one.
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Packed event suppression")
struct PackedEventTests {
    @Test("B26, B32: every structure over every range of small rings")
    func twin() throws {
        let guest = try EvilGuest()
        let area = guest.pointer(EvilRig.ringAddress)
        // Up to one lap, two laps, and more than there are positions.
        let counts = Array(1...6) + [12, 65536, 65541]
        try withEvery(Axis("size", 1...6), Axis("end", 0..<12), Axis("count", counts)) {
            size, end, count in
            guard end < 2 * size, count <= size || count >= 2 * size else { return }
            let ring = PackedEvilRing(guest, size: size, at: EvilRig.ringAddress + 0x100)
            let places = (end - min(count, 2 * size)..<end).map { ring.base($0 + 2 * size) }
            let events: [UInt16] = (0..<size).flatMap { [UInt16($0), UInt16($0) | 0x8000] }
            for event in events + [UInt16(size), 0x7fff, 0xffff] {
                for flags in UInt16(0)...7 {
                    for usesEventIndex in [false, true] {
                        guest.put(event, at: EvilRig.ringAddress)
                        guest.put(flags, at: EvilRig.ringAddress + 2)
                        // Reserved bits and values count as enabled.
                        let isInside = Int(event & 0x7fff) < size
                        let expected =
                            switch flags & 3 {
                            case 1: false
                            case 2 where usesEventIndex && isInside: places.contains(event)
                            default: true
                            }
                        let wanted = PackedEvent.isWanted(
                            area, upTo: PackedCursor(base: ring.base(end)), count: count,
                            size: size, usesEventIndex: usesEventIndex)
                        try #require(
                            wanted == expected, "event \(event), flags \(flags) \(usesEventIndex)")
                    }
                }
            }
        }
    }

    @Test("The device asks for no kicks, and calls as the driver asks")
    func calls() throws {
        let rig = try PackedRig(size: 5, features: [.mergeableBuffers, .eventIndex], start: 3)
        #expect(rig.ring.deviceFlags == PackedEvent.disable)
        let packet = TestFrames.tcp4([1])
        func wantsCall() -> Bool { rig.enqueue([packet]).result.wantsCall }
        for id in 0..<5 { rig.post(id) }
        rig.ring.setDriverEvent(0, flags: 0)
        #expect(wantsCall())
        rig.ring.setDriverEvent(0, flags: 1)
        #expect(!wantsCall())
        // Position 6 is offset 1 in the second lap.
        rig.ring.setDriverEvent(1, flags: 2)
        #expect(!wantsCall())
        #expect(wantsCall())
        #expect(!wantsCall())
        // Nothing is used, so there is nothing to call for.
        rig.ring.setDriverEvent(0, flags: 0)
        #expect(!wantsCall())
    }

    @Test("Descriptors of a list that are skipped are crossed too")
    func skipped() throws {
        for (event, expected) in [(UInt16(0x8003), true), (0x8004, false), (0x8001, true)] {
            let rig = try PackedRig(size: 7, features: [.mergeableBuffers, .eventIndex])
            // The first publish after a start calls whatever the event is: see FirstCallTests.
            rig.post(0)
            #expect(rig.enqueue([TestFrames.opaque(60)]).fates == [true])
            rig.ring.post((0..<3).map { (EvilRig.page($0), 40) }, id: 5)
            rig.post(1)
            rig.ring.setDriverEvent(event, flags: 2)
            #expect(rig.enqueue([TestFrames.opaque(60)]).result.wantsCall == expected)
        }
    }
}
