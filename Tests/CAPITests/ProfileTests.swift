import CCleave
import CleaveProfiling
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    @Suite("Profiles") struct ProfileTests {
        @Test("A C program's RQ is found and measured from outside, and says what it is")
        func attach() throws {
            // A ring size that no other test has, to find it by.
            let rig = try CRig(size: 512, method: .headerQueue(.usedLength))
            rig.config.burst = 9
            let rq = try rig.attach()
            let attachment = try ProfileAttachment(processID: getpid())
            let block = try #require(
                attachment.blocks.first { $0.label == "d/usedLength, split ring of 512, burst 9" })
            #expect(block.number == nil && block.ringSize == 512 && block.claimsSlots)
            var snapshot = ProfileSnapshot(block)
            let frame = TestFrames.tcp4([UInt8](repeating: 7, count: 200))
            for _ in 0..<2000 where snapshot.bursts < 20 {
                // Other tests that attach to this process may switch it off.
                block.period.store(1)
                let set = PacketSet()
                for _ in 0..<9 { set.add(frame, cuts: []) }
                var packets = set.packets
                var events: UInt32 = 0
                #expect(cleave_rq_enqueue_burst(rq, &packets, 9, &events) == 9)
                #expect(rig.harvest() == Array(repeating: frame, count: 9))
                snapshot = ProfileSnapshot(block)
            }
            block.period.store(0)
            #expect(snapshot.bursts >= 20)
            #expect(snapshot.packets == 9 * snapshot.bursts)
            #expect(snapshot.count(.splitPackets) == snapshot.packets)
            #expect(snapshot.cycles[RxStage.placePayload.rawValue] > 0)
            let table = try #require(StageTable(passes: [snapshot]))
            #expect(table.stages.first?.cyclesPerPacket.median == 0, "nothing pulls here")
        }
    }
}
