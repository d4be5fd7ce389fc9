import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    @Suite("Engine level") struct EngineTests {
        /// An engine over the rig's queue.
        private func engine(
            _ rig: CRig, queues: Int = 1, cpus: [Int32]? = nil, capacity: UInt32 = 0
        ) -> (Int32, Handle?) {
            var config = cleave_engine_config()
            config.struct_size = UInt32(MemoryLayout<cleave_engine_config>.size)
            config.queue_count = UInt32(queues)
            config.ring_capacity = capacity
            let configs = Array(repeating: rig.config, count: max(1, queues))
            var handle: Handle?
            let result = configs.withUnsafeBufferPointer { queues in
                config.queues = queues.baseAddress
                guard let cpus else { return cleave_engine_create(rig.memory, &config, &handle) }
                return cpus.withUnsafeBufferPointer { cpus in
                    config.cpus = cpus.baseAddress
                    return cleave_engine_create(rig.memory, &config, &handle)
                }
            }
            return (result, handle)
        }

        private func lane(_ engine: Handle) throws -> Handle {
            try made { cleave_engine_get_lane(engine, 0, $0) }
        }

        @Test("Packets in pieces are never cut by a full ring, and complete once, in order")
        func conservation() throws {
            var random = SeededRandom(seed: 9)
            let rig = try CRig(size: 32)
            let engine = try #require(engine(rig, capacity: 64).1)
            let lane = try lane(engine)
            let set = PacketSet()
            var frames: [[UInt8]] = []
            for number in 0..<200 {
                frames.append(
                    TestFrames.tcp4(TestFrames.payload(random.int(0...900), seed: number)))
                let frame = frames[number]
                let cuts = (0..<random.int(0...30)).map { _ in random.int(1...frame.count) }
                set.add(frame, cuts: cuts.sorted(), cookie: UInt16(number))
            }
            var arrived: [[UInt8]] = []
            var cookies: [UInt16] = []
            var submitted = 0
            var wasFull = false
            for _ in 0..<10_000 where cookies.count < 200 {
                let wanted = min(random.int(0...9), 200 - submitted)
                let taken = set.packets.withUnsafeBufferPointer {
                    cleave_lane_submit(lane, $0.baseAddress! + submitted, UInt32(wanted))
                }
                try #require(taken >= 0 && taken <= wanted)
                wasFull = wasFull || taken < wanted
                submitted += Int(taken)
                #expect(cleave_lane_turn(lane) >= 0)
                arrived += rig.harvest()
                var completions = [cleave_completion](repeating: .init(), count: 5)
                let count = cleave_lane_reap(lane, &completions, 5)
                for completion in completions.prefix(Int(count)) {
                    cookies.append(completion.cookie)
                    #expect(completion.flags == 0)
                }
            }
            #expect(cookies == (0..<200).map { UInt16($0) })
            #expect(arrived == frames)
            #expect(wasFull)
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test("A running engine places, drains, stops and starts again")
        func threads() throws {
            let rig = try CRig(size: 64)
            let engine = try #require(engine(rig).1)
            let lane = try lane(engine)
            let set = PacketSet()
            for number in 0..<20 { set.add(TestFrames.udp4([1, 2]), cookie: UInt16(number)) }
            for round in 0..<3 {
                #expect(cleave_engine_start(engine) == 0)
                #expect(cleave_engine_start(engine) == -EBUSY)
                #expect(cleave_lane_turn(lane) == -EBUSY)
                var base: UInt16 = 0
                #expect(cleave_lane_get_base(lane, &base) == -EBUSY)
                #expect(cleave_lane_submit(lane, set.packets, 20) == 20)
                #expect(cleave_engine_drain(engine, 100_000) == 0)
                #expect(cleave_engine_stop(engine) == 0)
                #expect(cleave_engine_stop(engine) == 0)
                #expect(cleave_lane_get_base(lane, &base) == 0)
                #expect(base == UInt16(20 * (round + 1)))
                var completions = [cleave_completion](repeating: .init(), count: 30)
                #expect(cleave_lane_reap(lane, &completions, 30) == 20)
                #expect(rig.harvest().count == 20)
            }
            var counters = cleave_counters()
            counters.struct_size = UInt32(MemoryLayout<cleave_counters>.size)
            #expect(cleave_lane_get_counters(lane, &counters) == 0)
            #expect(counters.packets == 60)
            #expect(counters.busy_cycles > 0)
            #expect(cleave_engine_destroy(engine) == 0)
            #expect(cleave_lane_submit(lane, set.packets, 1) == -EBADF)
            #expect(cleave_engine_destroy(engine) == -EBADF)
        }

        @Test("Without buffers a drain gives up, and nothing is lost")
        func starved() throws {
            let rig = try CRig(size: 4)
            let engine = try #require(engine(rig).1)
            let lane = try lane(engine)
            let set = PacketSet()
            for number in 0..<6 { set.add(TestFrames.udp4([9]), cookie: UInt16(number)) }
            #expect(cleave_engine_start(engine) == 0)
            #expect(cleave_lane_submit(lane, set.packets, 6) == 6)
            #expect(cleave_engine_drain(engine, 1) == -ETIMEDOUT)
            #expect(lastError(engine) == "packets were left after 1 ms")
            #expect(cleave_engine_stop(engine) == 0)
            // The thread filled all buffers, or had not begun.
            var received = rig.harvest().count
            #expect(received == 0 || received == 4)
            while cleave_lane_turn(lane) > 0 { received += rig.harvest().count }
            #expect(received == 6)
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test("What cannot be is refused by name")
        func refusals() throws {
            let rig = try CRig()
            #expect(engine(rig, queues: 0).0 == -EINVAL)
            #expect(engine(rig, queues: 1025).0 == -EINVAL)
            #expect(engine(rig, capacity: 63).0 == -EINVAL)
            #expect(engine(rig, capacity: 32).0 == -EINVAL)
            #expect(engine(rig, cpus: [99_999]).0 == -EINVAL)
            #expect(lastError(rig.memory).contains("99999"))
            #expect(engine(rig, cpus: [-1]).0 == -EINVAL)
            rig.config.size = 3
            #expect(engine(rig, queues: 2).0 == -EINVAL)
            #expect(lastError(rig.memory).hasPrefix("queues[0]: split ring size 3"))
            rig.config.struct_size = 8
            #expect(engine(rig).0 == -EINVAL)
            // Nothing was left behind.
            #expect(cleave_memory_destroy(rig.memory) == 0)
        }

        @Test("A malformed packet is refused, what came before it is taken")
        func malformed() throws {
            let rig = try CRig()
            let engine = try #require(engine(rig).1)
            let lane = try lane(engine)
            let set = PacketSet()
            for _ in 0..<3 { set.add(TestFrames.udp4([9])) }
            var packets = set.packets
            packets[1].data = nil
            #expect(cleave_lane_submit(lane, packets, 3) == 1)
            packets[0].more_count = 64
            #expect(cleave_lane_submit(lane, packets, 3) == -EINVAL)
            #expect(lastError(lane).hasPrefix("packets[0].more_count is 64"))
            #expect(cleave_engine_destroy(engine) == 0)
        }
    }
}
