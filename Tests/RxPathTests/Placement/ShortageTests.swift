// Too few buffers: wait or drop, and never stand still once there are enough.
import RxPath
import TestSupport
import Testing

@Suite("Buffer shortage")
struct ShortageTests {
    @Test("A waiting packet sees buffers posted after its first try", arguments: [1, 2, 4, 8])
    func waitingSeesLaterBuffers(burst: Int) throws {
        let rig = try EvilRig(burst: burst)
        let packet = TestFrames.tcp4(TestFrames.payload(9000))
        // Two of the three buffers it needs, then the third.
        rig.post(0)
        rig.post(1)
        #expect(rig.enqueue([packet]).result.consumed == 0)
        rig.post(2)
        #expect(rig.enqueue([packet]).result.consumed == 1)
        #expect(rig.used.map(\.length) == [4096, 4096, UInt32(packet.count + 12 - 8192)])
    }

    @Test("No packet is dropped for want of buffers that are there")
    func droppingSeesLaterBuffers() throws {
        let rig = try EvilRig(shortage: .drop)
        rig.post(0)
        rig.post(1)
        rig.post(2)
        let small = TestFrames.tcp4([1])
        #expect(rig.enqueue([small]).result.delivered == 1)
        // Two are known of; four more make six.
        for head in 3..<7 { rig.post(head) }
        let jumbo = TestFrames.tcp4(TestFrames.payload(9000))
        #expect(rig.enqueue([jumbo]).fates == [true])
        #expect(rig.queue.counters.dropped.isEmpty)
    }
}
