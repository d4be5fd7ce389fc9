import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

private func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

extension CFunctions {
    /// When objects end, and what is left of them then.
    @Suite("Lifetimes") struct LifetimeTests {
        @Test("One limit of RQs holds for the header, the engine and what it says")
        func queueLimit() throws {
            // Memory of an allocator: no queue has to ask the kernel.
            let allocator = WatchfulAllocator()
            let rig = try CRig(context: allocator.callbacks, pages: .small)
            let most = Int(CLEAVE_MAX_ENGINE_QUEUES)
            let made = rig.makeEngine(Array(repeating: rig.config, count: most), capacity: 64)
            #expect(made.result == 0)
            var lane: Handle?
            #expect(cleave_engine_get_lane(made.engine, UInt32(most - 1), &lane) == 0)
            #expect(cleave_engine_destroy(made.engine) == 0)
            let more = rig.makeEngine(Array(repeating: rig.config, count: most + 1))
            #expect(more.result == -EINVAL)
            #expect(lastError(rig.memory) == "config->queue_count is \(most + 1), not 1 to \(most)")
        }

        @Test("A lane's polls and the engine's threads never meet")
        func turnsAndThreads() throws {
            let rig = try CRig(size: 256)
            // SAFETY: tokens; the rig outlives the threads.
            nonisolated(unsafe) let engine = try #require(rig.makeEngine([rig.config]).engine)
            nonisolated(unsafe) let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
            let strange = Atomic<Int32>(0)
            let isOver = Atomic<Bool>(false)
            @Sendable func allowed(_ result: Int32) {
                if result < 0 && result != -EBUSY { strange.store(result, ordering: .relaxed) }
            }
            let starter = try PinnedThread(name: "starter", cpu: nil) {
                for _ in 0..<300 {
                    allowed(cleave_engine_start(engine))
                    PinnedThread.yield()
                    allowed(cleave_engine_stop(engine))
                }
                isOver.store(true, ordering: .relaxed)
            }
            let turner = try PinnedThread(name: "turner", cpu: nil) {
                while !isOver.load(ordering: .relaxed) { allowed(cleave_lane_turn(lane)) }
            }
            var cookies: [UInt16] = []
            var sent = 0
            var arrived = 0
            let set = PacketSet()
            set.add(TestFrames.udp4([1]))
            var packet = set.packets[0]
            func send() {
                packet.cookie = UInt16(truncatingIfNeeded: sent)
                if cleave_lane_submit(lane, &packet, 1) == 1 { sent += 1 }
            }
            func collect() {
                var completions = [cleave_completion](repeating: .init(), count: 8)
                let count = cleave_lane_reap(lane, &completions, 8)
                if count > 0 { cookies += completions.prefix(Int(count)).map(\.cookie) }
                arrived += rig.harvest().count
            }
            while !isOver.load(ordering: .relaxed) {
                send()
                collect()
            }
            starter.join()
            turner.join()
            // A lane's poll takes some of what the threads left, as long as there is any.
            for _ in 0...sent where cookies.count < sent {
                _ = cleave_lane_turn(lane)
                collect()
            }
            #expect(cookies.count == sent)
            #expect(strange.load(ordering: .relaxed) == 0)
            #expect(cookies == (0..<cookies.count).map { UInt16(truncatingIfNeeded: $0) })
            #expect(arrived == cookies.count)
            #expect(rig.driver.fault == .none)
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test("While a call turns an RQ its engine is not started")
        func startDuringTurn() throws {
            // The log callback of a lane's call is inside that call.
            let log = CallbackLog()
            let rig = try CRig(size: 16, context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let engine = try #require(rig.makeEngine([rig.config]).engine)
            let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
            #expect(cleave_engine_start(engine) == 0)
            #expect(cleave_lane_turn(lane) == -EBUSY)
            #expect(lastError(lane) == "the engine's thread turns this RQ")
            var base: UInt16 = 0
            #expect(cleave_lane_get_base(lane, &base) == -EBUSY)
            #expect(cleave_engine_start(engine) == -EBUSY)
            #expect(cleave_engine_stop(engine) == 0)
            #expect(cleave_lane_turn(lane) == 0)
            #expect(cleave_lane_get_base(lane, &base) == 0)
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test("A destroy that meets a long call gives up soon, and holds up nobody else")
        func boundedDestroy() throws {
            let rig = try CRig(size: 16)
            // SAFETY: tokens; the rig outlives the threads.
            nonisolated(unsafe) let engine = try #require(rig.makeEngine([rig.config]).engine)
            let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
            // More packets than buffers: the drain waits for all of its time.
            let set = PacketSet()
            for _ in 0..<40 { set.add(TestFrames.udp4([1])) }
            #expect(cleave_lane_submit(lane, set.packets, 40) == 40)
            #expect(cleave_engine_start(engine) == 0)
            let drained = Atomic<Int32>(1)
            let drainer = try PinnedThread(name: "drainer", cpu: nil) {
                // Refused while the loop below is inside its call.
                var result: Int32
                repeat { result = cleave_engine_drain(engine, 3000) } while result == -EBUSY
                drained.store(result, ordering: .relaxed)
            }
            while cleave_engine_stop(engine) == 0 { PinnedThread.yield() }
            let isOver = Atomic<Bool>(false)
            let worst = Atomic<UInt64>(0)
            let others = try PinnedThread(name: "others", cpu: nil) {
                while !isOver.load(ordering: .relaxed) {
                    let start = now()
                    var context: Handle?
                    _ = cleave_context_create(nil, &context)
                    _ = cleave_context_destroy(context)
                    let took = UInt64((now() - start) * 1e6)
                    if took > worst.load(ordering: .relaxed) {
                        worst.store(took, ordering: .relaxed)
                    }
                }
            }
            var longest = 0.0
            for _ in 0..<10 {
                let start = now()
                let result = cleave_engine_destroy(engine)
                longest = max(longest, now() - start)
                if result == 0 { break }
                #expect(result == -EBUSY)
                #expect(lastError(engine) == "another call on it is under way")
            }
            isOver.store(true, ordering: .relaxed)
            others.join()
            drainer.join()
            #expect(drained.load(ordering: .relaxed) == -ETIMEDOUT)
            #expect(cleave_engine_destroy(engine) == 0)
            // Bounds of 20 ms and of nothing; a busy machine adds to both.
            #expect(longest < 0.5)
            #expect(worst.load(ordering: .relaxed) < 400_000)
        }

        @Test("Nothing of a context is used once its destroy returned 0")
        func nothingAfterDestroy() throws {
            for _ in 0..<60 {
                let allocator = WatchfulAllocator()
                let rig = try CRig(context: allocator.callbacks)
                // SAFETY: tokens; calls on destroyed objects are refused.
                nonisolated(unsafe) let rq = try rig.attach()
                let engine = try #require(rig.makeEngine([rig.config]).engine)
                nonisolated(unsafe) let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
                let threads = try (0..<2).map { number in
                    try PinnedThread(name: "reader", cpu: nil) {
                        var counters = cleave_counters()
                        counters.struct_size = 384
                        var results: [Int32] = [0, 0]
                        while results != [-EBADF, -EBADF] {
                            results = [
                                cleave_rq_get_counters(rq, &counters),
                                cleave_lane_get_counters(lane, &counters),
                            ]
                            if number == 0 { _ = lastError(rq) }
                        }
                    }
                }
                func end(_ call: () -> Int32) {
                    var result = call()
                    while result == -EBUSY { result = call() }
                    #expect(result == 0)
                }
                end { cleave_engine_destroy(engine) }
                end { cleave_rq_destroy(rq) }
                end { cleave_memory_destroy(rig.memory) }
                end { cleave_context_destroy(rig.context) }
                allocator.isGone.store(true, ordering: .sequentiallyConsistent)
                #expect(allocator.outstanding.load(ordering: .relaxed) == 0)
                for thread in threads { thread.join() }
                #expect(allocator.lateCalls.load(ordering: .relaxed) == 0)
                #expect(allocator.outstanding.load(ordering: .relaxed) == 0)
            }
        }

        @Test("A transmit queue with packets out is not destroyed")
        func packetsOut() throws {
            let rig = try TransmitRig()
            let txq = try rig.attach()
            rig.send(count: 3)
            var packets = [cleave_packet](repeating: .init(), count: 3)
            #expect(cleave_txq_dequeue_burst(txq, &packets, 3, nil) == 3)
            for out in [3, 2, 1] {
                #expect(cleave_txq_destroy(txq) == -EBUSY)
                #expect(lastError(txq) == "\(out) packets are out")
                #expect(cleave_txq_stop(txq, nil) == -EBUSY)
                // The queue is unchanged: packets can be read and completed.
                #expect(packets[2].data.load(as: UInt8.self) == TestFrames.udp4([2])[0])
                #expect(cleave_txq_complete(txq, 1, nil) == 0)
            }
            #expect(rig.usedIndex == 3)
            #expect(cleave_txq_destroy(txq) == 0)
        }

        @Test("What ran out is told by its errno, at every level")
        func shortages() throws {
            let allocator = WatchfulAllocator()
            let rig = try CRig(context: allocator.callbacks)
            allocator.refuses.store(true, ordering: .relaxed)
            var handle: Handle?
            #expect(cleave_rq_create(rig.memory, &rig.config, &handle) == -ENOMEM)
            var txq = rig.txqConfig
            #expect(cleave_txq_create(rig.memory, &txq, &handle) == -ENOMEM)
            let engine = rig.makeEngine([rig.config])
            #expect(engine.result == -ENOMEM)
            #expect(
                lastError(rig.memory).hasPrefix("RQ 0: allocate: the program's allocator gave no"))
        }

        @Test("After a refusal for another call the sentence is of that refusal")
        func lastErrorIsTheLast() throws {
            let log = CallbackLog()
            let rig = try CRig(context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let rq = try rig.attach()
            var packet = cleave_packet()
            #expect(cleave_rq_enqueue_burst(rq, &packet, 1, nil) == -EINVAL)
            #expect(lastError(rq) == "packets[0].data is NULL")
            var inside = ""
            log.during = {
                #expect(cleave_rq_stop(rq, nil) == -EBUSY)
                inside = lastError(rq)
            }
            rig.host(rig.driver.virtqueue.driverArea)?.storeBytes(
                of: 0x7000, toByteOffset: 2, as: UInt16.self)
            enqueue(1, on: rq)
            enqueue(1, on: rq)
            #expect(inside == "another call on it is under way")
        }
    }
}
