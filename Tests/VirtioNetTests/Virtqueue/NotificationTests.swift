// When the driver is called: flags or event index, by descriptor or through the owner.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Notification")
struct NotificationTests {
    private static let packet = TestFrames.tcp4([1])

    @Test("Without EVENT_IDX the driver's flag decides, whatever used_event holds")
    func flags() throws {
        for (flags, calls) in [(UInt16(0), true), (availNoInterrupt, false), (0xfffe, true)] {
            for event: UInt16 in [0, 1, 65535] {
                let rig = try EvilRig()
                rig.ring.setAvailFlags(flags)
                rig.ring.setUsedEvent(event)
                rig.post(0)
                #expect(rig.enqueue([Self.packet]).result.wantsCall == calls)
                #expect(rig.queue.counters.calls == (calls ? 1 : 0))
            }
        }
    }

    @Test("B26: with EVENT_IDX used_event decides, whatever it holds, and flags do not")
    func eventIndex() throws {
        for start: UInt16 in [0, 65530] {
            let rig = try EvilRig(features: [.mergeableBuffers, .eventIndex], firstIndex: start)
            var random = SeededRandom(seed: UInt64(start))
            // After a start the first used entry calls whatever used_event holds, since the device
            // does not know for which entry the driver was called last: see FirstCallTests.
            rig.post(0)
            #expect(rig.enqueue([Self.packet]).result.wantsCall)
            var next = start &+ 1
            var calls = 1
            for _ in 0..<500 {
                let count = random.int(0...8)
                let event =
                    random.chance(80)
                    ? next &+ UInt16(random.int(0...10)) &- 1 : UInt16(random.int(0...65535))
                rig.ring.setAvailFlags(random.chance(50) ? availNoInterrupt : 0)
                rig.ring.setUsedEvent(event)
                for head in 0..<count { rig.post(head) }
                let expected = (0..<count).contains { next &+ UInt16($0) == event }
                let result = rig.enqueue(Array(repeating: Self.packet, count: count)).result
                try #require(result.wantsCall == expected, "event \(event) at \(next) + \(count)")
                calls += expected ? 1 : 0
                next &+= UInt16(count)
            }
            #expect(calls > 50)
            #expect(rig.queue.counters.calls == UInt64(calls))
        }
    }

    @Test("With a descriptor the device signals it and the owner has nothing to do")
    func descriptor() throws {
        let event = try EventDescriptor()
        let rig = try EvilRig(callDescriptor: event.fileDescriptor)
        rig.post(0)
        let first = rig.enqueue([Self.packet]).result
        let called = event.drain()
        #expect(!first.wantsCall && called)
        rig.ring.setAvailFlags(availNoInterrupt)
        rig.post(1)
        let second = rig.enqueue([Self.packet]).result
        let calledAgain = event.drain()
        #expect(!second.wantsCall && !calledAgain)
        // Bursts without packets call nobody.
        rig.ring.setAvailFlags(0)
        _ = rig.enqueue([Self.packet])
        let calledForNothing = event.drain()
        #expect(!calledForNothing)
        #expect(rig.queue.counters.calls == 1)
    }

    @Test("Signals that nobody takes are one call, and never block")
    func undrained() throws {
        let event = try EventDescriptor()
        let rig = try EvilRig(size: 64, callDescriptor: event.fileDescriptor)
        for head in 0..<64 { rig.post(head) }
        for _ in 0..<64 { rig.enqueue([Self.packet]) }
        #expect(rig.queue.counters.calls == 64)
        let called = event.drain()
        #expect(called)
    }

    @Test("One decision per burst")
    func oncePerBurst() throws {
        let rig = try EvilRig()
        for head in 0..<8 { rig.post(head) }
        #expect(rig.enqueue(Array(repeating: Self.packet, count: 8)).result.wantsCall)
        #expect(rig.queue.counters.calls == 1 && rig.queue.counters.packets == 8)
    }
}
