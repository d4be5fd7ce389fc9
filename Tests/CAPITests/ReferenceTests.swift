import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    @Suite("Packets in one piece") struct ReferenceTests {
        /// References of the frames of a set.
        private func refs(_ set: PacketSet) -> [cleave_ref] {
            set.packets.map {
                cleave_ref(data: $0.data, length: $0.length, flags: 0, cookie: $0.cookie)
            }
        }

        private func small(_ count: Int) -> PacketSet {
            let set = PacketSet()
            for number in 0..<count {
                set.add(TestFrames.udp4(TestFrames.payload(50, seed: number)))
            }
            return set
        }

        @Test(
            "They arrive as they were given", arguments: RingFormat.allCases,
            [RxMethod.whole, .headerQueue(.usedLength), .headerQueue(.netHeader)])
        func roundTrip(ring: RingFormat, method: RxMethod) throws {
            var random = SeededRandom(seed: 9)
            let rig = try CRig(ring: ring, size: 64, method: method)
            rig.config.burst = 7
            let rq = try rig.attach()
            let set = PacketSet()
            let frames = (0..<400).map { number in
                let payload = TestFrames.payload(random.int(0...4000), seed: number)
                return random.chance(70) ? TestFrames.tcp4(payload) : TestFrames.udp4(payload)
            }
            for frame in frames { set.add(frame) }
            var refs = refs(set)
            var arrived: [[UInt8]] = []
            var done = 0
            while done < refs.count {
                let wanted = min(random.int(1...70), refs.count - done)
                let count = refs.withUnsafeMutableBufferPointer {
                    cleave_rq_enqueue_refs(rq, $0.baseAddress! + done, UInt32(wanted), nil)
                }
                try #require(count >= 0 && count <= wanted)
                done += Int(count)
                let batch = rig.harvest()
                try #require(count > 0 || !batch.isEmpty)
                arrived += batch
            }
            #expect(arrived == frames)
            #expect(rig.counters.packets == 400 && rig.driver.fault == .none)
            #expect(refs.allSatisfy { $0.flags == 0 })
        }

        @Test("What comes before a malformed one is placed, what comes behind is not")
        func malformed() throws {
            let changes: [(inout cleave_ref) -> Void] = [
                { $0.data = nil }, { $0.flags = 1 }, { $0.flags = 4 }, { $0.flags = 0x8000 },
                { $0.data = UnsafeRawPointer(bitPattern: Int.min) },
            ]
            for (number, change) in changes.enumerated() {
                for position in 0..<12 {
                    let rig = try CRig(size: 32)
                    rig.config.burst = 5
                    let rq = try rig.attach()
                    let set = small(12)
                    var refs = refs(set)
                    change(&refs[position])
                    let result = cleave_rq_enqueue_refs(rq, &refs, 12, nil)
                    let expected = position == 0 ? -EINVAL : Int32(position)
                    #expect(result == expected, "change \(number) at \(position)")
                    #expect(rig.harvest().count == position)
                    if position == 0 { #expect(lastError(rq).hasPrefix("refs[0].data is NULL")) }
                }
            }
        }

        @Test("Lengths that cannot be are dropped and marked; wrong calls are refused")
        func refusals() throws {
            let rig = try CRig(size: 32)
            let rq = try rig.attach()
            let set = small(3)
            var refs = refs(set)
            refs[1].length = 65590
            #expect(cleave_rq_enqueue_refs(rq, &refs, 3, nil) == 3)
            #expect(refs.map(\.flags) == [0, UInt16(CLEAVE_PACKET_DROPPED.rawValue), 0])
            #expect(rig.counters.packets == 2 && rig.harvest().count == 2)
            #expect(cleave_rq_enqueue_refs(rq, nil, 1, nil) == -EINVAL)
            #expect(cleave_rq_enqueue_refs(rq, &refs, .max, nil) == -EINVAL)
            #expect(cleave_rq_enqueue_refs(nil, &refs, 1, nil) == -EINVAL)
            #expect(cleave_rq_enqueue_refs(rig.memory, &refs, 1, nil) == -EBADF)
            let odd = UnsafeMutableRawPointer(mutating: UnsafeRawPointer(bitPattern: 0x1004)!)
            #expect(
                cleave_rq_enqueue_refs(rq, odd.assumingMemoryBound(to: cleave_ref.self), 1, nil)
                    == -EINVAL)
            #expect(lastError(rq) == "refs is not aligned")
            #expect(cleave_rq_enqueue_refs(rq, &refs, 0, nil) == 0)
            #expect(cleave_rq_stop(rq, nil) == 0)
            #expect(cleave_rq_enqueue_refs(rq, &refs, 1, nil) == -ESHUTDOWN)
        }
    }
}
