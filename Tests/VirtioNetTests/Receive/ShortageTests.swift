// Too few buffers: wait or drop, and always resume once there are enough.
import CleaveTestSupport
import CleaveVirtioNet
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

    @Test("Long chains cost a burst its length, never a packet")
    func longChains() throws {
        // As drivers without mergeable buffers post them: 19 pieces in an indirect table each.
        let rig = try EvilRig(
            size: 256, features: .indirectDescriptors, method: .headerQueue(.usedLength),
            slots: (128, 256), burst: 256)
        let link = DescriptorFlags.write | DescriptorFlags.next
        for buffer in 0..<256 {
            let table = EvilRig.dataAddress + UInt64(buffer * 19 * 16)
            for piece in 0..<19 {
                rig.ring.describe(
                    at: table + UInt64(piece * 16), EvilRig.page(28), 4096,
                    piece < 18 ? link : DescriptorFlags.write, piece + 1)
            }
            rig.ring.describe(buffer, table, 19 * 16, flags: DescriptorFlags.indirect)
            rig.ring.post(buffer)
        }
        // Pure acknowledgements put nothing into their buffers.
        let packets = Array(repeating: TestFrames.tcp4([]), count: 256)
        var delivered = 0
        for _ in 0..<256 where delivered < 256 {
            delivered += rig.enqueue(Array(packets.dropFirst(delivered))).result.delivered
        }
        #expect(delivered == 256)
        #expect(rig.queue.counters.dropped.isEmpty)
    }
}
