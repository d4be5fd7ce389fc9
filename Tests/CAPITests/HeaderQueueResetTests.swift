import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

/// RQs on the caller's threads over `numbers` of the rig's drivers.
private func makeRQs(_ rig: CRig, _ numbers: [Int]) throws -> [Handle] {
    try numbers.map { number in
        var config = rig.config(number)
        return try made { cleave_rq_create(rig.memory, &config, $0) }
    }
}

/// An engine with one RQ, and its lane.
private func makeEngine(
    _ rig: CRig, _ config: cleave_rq_config
) throws -> (engine: Handle, lane: Handle) {
    let engine = try made { handle in
        var queue = config
        return withUnsafePointer(to: &queue) { queues in
            var config = cleave_engine_config()
            config.struct_size = UInt32(MemoryLayout<cleave_engine_config>.size)
            config.queue_count = 1
            config.queues = queues
            return cleave_engine_create(rig.memory, &config, handle)
        }
    }
    return (engine, try made { cleave_engine_get_lane(engine, 0, $0) })
}

extension CFunctions {
    @Suite("Reset of a header queue") struct HeaderQueueResetTests {
        private static let method = RxMethod.headerQueue(.usedLength)

        @Test(
            "RQs go on, whole at first, and in slots once all are given again",
            arguments: SlotReturn.allCases, RingFormat.allCases)
        func queueLevel(slotReturn: SlotReturn, ring: RingFormat) throws {
            let rig = try CRig(
                ring: ring, size: 64, method: Self.method, slotReturn: slotReturn, drivers: 2)
            let rqs = try makeRQs(rig, [0, 1])
            enqueue(5, on: rqs[0])
            rig.slots.prepareReset()
            // RQs run until the reset pauses them.
            enqueue(2, on: rqs[1])
            let claimed = rig.status.claimed
            #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            #expect(rig.status.free == 0)
            #expect(rig.status.claimed == claimed)
            enqueue(3, on: rqs[1])
            // Packets that were reported before are still there.
            let first = rig.takeSlots(0)
            let second = rig.takeSlots(1)
            #expect(first == [0, 1, 2, 3, 4])
            #expect(second.count == 5 && second.suffix(3) == [nil, nil, nil])
            rig.slots.finishReset()
            #expect(rig.status.free == 64)
            enqueue(32, on: rqs[0])
            enqueue(33, on: rqs[1])
            let slots = rig.takeSlots(0) + rig.takeSlots(1)
            #expect(Set(slots.compactMap(\.self)) == Set(0..<64))
            #expect(slots.count == 65 && slots.last == .some(nil))
            #expect(rig.status.claimed == claimed + 64)
            #expect(rig.status.duplicates == 0)
            for rq in rqs { #expect(cleave_rq_destroy(rq) == 0) }
        }

        @Test("A broken queue is mended", arguments: SlotReturn.allCases)
        func broken(slotReturn: SlotReturn) throws {
            let rig = try CRig(size: 64, method: Self.method, slotReturn: slotReturn)
            let rq = try rig.attach()
            if let ring = rig.slots.layout.returnRing {
                rig.host(ring)?.storeBytes(
                    of: 0x8000_ffff, toByteOffset: rig.slots.layout.firstEntryOffset,
                    as: UInt32.self)
            } else {
                rig.host(rig.slots.layout.control)?.storeBytes(of: 0x7777, as: UInt32.self)
            }
            enqueue(2, on: rq)
            #expect(rig.status.broken != 0)
            rig.slots.prepareReset()
            #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            #expect(rig.status.broken == 0)
            #expect(rig.takeSlots() == [nil, nil])
            rig.slots.finishReset()
            #expect(rig.status.free == 64)
            enqueue(40, on: rq)
            #expect(Set(rig.takeSlots().compactMap(\.self)).count == 40)
        }

        @Test("Engines need not stop; those that are stopped, RQs and none at all do as well")
        func engineLevel() throws {
            let rig = try CRig(size: 64, method: Self.method, slotReturn: .ring, drivers: 3)
            rig.slots.prepareReset()
            #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            rig.slots.finishReset()
            let rqs = try makeRQs(rig, [0])
            let engines = try [1, 2].map { try makeEngine(rig, rig.config($0)) }
            #expect(cleave_engine_start(engines[0].engine) == 0)
            let set = PacketSet()
            for number in 0..<9 { set.add(TestFrames.udp4([1, 2]), cookie: UInt16(number)) }
            func round(_ isSplit: Bool) {
                var packets = set.packets
                #expect(cleave_rq_enqueue_burst(rqs[0], &packets, 9, nil) == 9)
                for (_, lane) in engines {
                    #expect(cleave_lane_submit(lane, set.packets, 9) == 9)
                }
                #expect(cleave_engine_drain(engines[0].engine, 100_000) == 0)
                #expect(cleave_lane_turn(engines[0].lane) == -EBUSY)
                #expect(cleave_lane_turn(engines[1].lane) == 9)
                for (_, lane) in engines {
                    var completions = [cleave_completion](repeating: .init(), count: 9)
                    #expect(cleave_lane_reap(lane, &completions, 9) == 9)
                    #expect(completions.map(\.cookie) == (0..<9).map { UInt16($0) })
                }
                let slots = (0..<3).flatMap { rig.takeSlots($0) }
                #expect(slots.count == 27)
                #expect(Set(slots.compactMap(\.self)).count == (isSplit ? 27 : 0))
            }
            for _ in 0..<5 {
                round(true)
                rig.slots.prepareReset()
                #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
                round(false)
                rig.slots.finishReset()
            }
            #expect(rig.status.claimed == 5 * 27)
            for (engine, _) in engines { #expect(cleave_engine_destroy(engine) == 0) }
            for rq in rqs { #expect(cleave_rq_destroy(rq) == 0) }
        }

        @Test("A call under way refuses it, and nothing has happened")
        func reentry() throws {
            let log = CallbackLog()
            let rig = try CRig(
                method: Self.method, context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let rq = try rig.attach()
            var result: Int32 = 0
            log.during = {
                result = cleave_header_queue_reset(rig.headerQueue)
                // Nothing remains of the slots that it had taken.
                #expect(rig.status.free == 64)
            }
            rig.host(rig.driver.virtqueue.driverArea)?.storeBytes(
                of: 0x7000, toByteOffset: 2, as: UInt16.self)
            enqueue(1, on: rq)
            enqueue(1, on: rq)
            #expect(log.lines.count == 1)
            #expect(result == -EBUSY)
            #expect(
                lastError(rig.headerQueue) == "another call on an object made from it is under way")
            #expect(rig.status.free == 64)
            #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            #expect(rig.status.free == 0)
        }

        @Test("An engine that another thread drains refuses it, and drains on")
        func draining() throws {
            let rig = try CRig(size: 4, method: Self.method)
            let (engine, lane) = try makeEngine(rig, rig.config)
            #expect(cleave_engine_start(engine) == 0)
            let set = PacketSet()
            for _ in 0..<6 { set.add(TestFrames.udp4([9])) }
            #expect(cleave_lane_submit(lane, set.packets, 6) == 6)
            // SAFETY: a token, used while the engine is there.
            nonisolated(unsafe) let handle = engine
            let result = Atomic<Int32>(1)
            let thread = try PinnedThread(name: "drain", cpu: nil) {
                // Refused while the test itself reads.
                var drained = -EBUSY
                while drained == -EBUSY { drained = cleave_engine_drain(handle, 100_000) }
                result.store(drained, ordering: .relaxed)
            }
            while cleave_engine_drain(engine, 0) != -EBUSY { PinnedThread.yield() }
            #expect(cleave_header_queue_reset(rig.headerQueue) == -EBUSY)
            var received = 0
            while result.load(ordering: .relaxed) == 1 {
                received += rig.takeSlots().count
                PinnedThread.yield()
            }
            thread.join()
            #expect(result.load(ordering: .relaxed) == 0)
            #expect(received + rig.takeSlots().count == 6)
            #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test(
            "Threads that reset whenever they like get refusals; packets are conserved",
            arguments: SlotReturn.allCases)
        func storm(slotReturn: SlotReturn) throws {
            let rig = try CRig(
                size: 256, method: Self.method, slotReturn: slotReturn, drivers: 3)
            let rqs = try makeRQs(rig, [0, 1])
            let (engine, lane) = try makeEngine(rig, rig.config(2))
            #expect(cleave_engine_start(engine) == 0)
            let placed = rqs.map { _ in PlacedCount() }
            let strange = PlacedCount()
            // SAFETY: tokens, used while their objects exist.
            nonisolated(unsafe) let tokens = (rqs: rqs, queue: rig.headerQueue)
            let slots = rig.slots
            var threads = try (0..<2).map { number in
                try PinnedThread(name: "storm", cpu: nil) {
                    for _ in 0..<300 {
                        let result = enqueue(1, on: tokens.rqs[number])
                        if result > 0 { placed[number].add() }
                        if result < 0 && result != -EBUSY { strange.add() }
                    }
                }
            }
            threads.append(
                try PinnedThread(name: "reset", cpu: nil) {
                    for _ in 0..<300 {
                        let result = cleave_header_queue_reset(tokens.queue)
                        if result != 0 && result != -EBUSY { strange.add() }
                        // A driver that gives whatever it likes meanwhile.
                        slots.retire(first: 3, count: 40)
                    }
                })
            var status = rig.status
            var submitted = 0
            let set = PacketSet()
            set.add(TestFrames.udp4([7]))
            while submitted < 200 {
                let result = cleave_lane_submit(lane, set.packets, 1)
                if result == 1 { submitted += 1 }
                if result < 0 && result != -EBUSY { strange.add() }
                let told = cleave_header_queue_get_status(rig.headerQueue, &status)
                if told != 0 && told != -EBUSY { strange.add() }
            }
            for thread in threads { thread.join() }
            #expect(cleave_engine_drain(engine, 100_000) == 0)
            #expect(strange.value == 0)
            #expect(rig.takeSlots(0).count == placed[0].value)
            #expect(rig.takeSlots(1).count == placed[1].value)
            #expect(rig.takeSlots(2).count == 200)
            // No claim fell into a reset.
            var slotCount: UInt64 = 0
            var counters = cleave_counters()
            counters.struct_size = UInt32(MemoryLayout<cleave_counters>.size)
            for rq in rqs {
                #expect(cleave_rq_get_counters(rq, &counters) == 0)
                slotCount += counters.slots
            }
            #expect(cleave_lane_get_counters(lane, &counters) == 0)
            #expect(rig.status.claimed == slotCount + counters.slots)
            #expect(cleave_engine_destroy(engine) == 0)
            for rq in rqs { #expect(cleave_rq_destroy(rq) == 0) }
        }

        /// An engine whose thread is kept within a poll: the call of its driver blocks.
        private final class StuckEngine {
            let rig: CRig
            let engine: Handle
            let lane: Handle
            /// At the limit: a further signal waits for a reader.
            private let event: EventDescriptor

            init() throws {
                rig = try CRig(method: HeaderQueueResetTests.method)
                event = try EventDescriptor()
                rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
                rig.config.call_fd = event.fileDescriptor
                (engine, lane) = try makeEngine(rig, rig.config)
                var most = UInt64.max - 1
                #expect(write(event.fileDescriptor, &most, 8) == 8)
                #expect(fcntl(event.fileDescriptor, F_SETFL, 0) == 0)
                rig.driver.setInterrupts(true)
                #expect(cleave_engine_start(engine) == 0)
                let set = PacketSet()
                set.add(TestFrames.udp4([7]))
                #expect(cleave_lane_submit(lane, set.packets, 1) == 1)
                // Published: only the call is left of the poll.
                while rig.driver.harvest() == 0 { PinnedThread.yield() }
                rig.driver.finish()
            }

            /// Runs `call` on another thread while the engine is stuck, then frees that.
            func during(
                _ call: @escaping @Sendable () -> Int32, _ body: () -> Void
            ) throws -> Int32 {
                let result = Atomic<Int32>(1)
                let thread = try PinnedThread(name: "waiting", cpu: nil) {
                    result.store(call(), ordering: .relaxed)
                }
                // It has taken the lane and, once the table is free again, everything else.
                var completion = cleave_completion()
                while cleave_lane_reap(lane, &completion, 1) >= 0
                    && result.load(ordering: .relaxed) == 1
                {
                    PinnedThread.yield()
                }
                _ = lastError(lane)
                body()
                // It waits for the end of the poll.
                #expect(result.load(ordering: .relaxed) == 1)
                var count: UInt64 = 0
                #expect(read(event.fileDescriptor, &count, 8) == 8)
                thread.join()
                return result.load(ordering: .relaxed)
            }
        }

        @Test("A running engine is held at the end of a poll; other instances do not wait")
        func turnBoundary() throws {
            let stuck = try StuckEngine()
            // SAFETY: a token, used while the queue is there.
            nonisolated(unsafe) let queue = stuck.rig.headerQueue
            let result = try stuck.during({ cleave_header_queue_reset(queue) }) {
                let other = try? CRig(method: Self.method)
                #expect(other?.status.free == 64)
                // Calls on handles that it holds are refused, and nothing more is made over the
                // queue.
                #expect(cleave_lane_turn(stuck.lane) == -EBUSY)
                #expect(cleave_engine_drain(stuck.engine, 0) == -EBUSY)
                var rq: Handle?
                #expect(cleave_rq_create(stuck.rig.memory, &stuck.rig.config, &rq) == -EBUSY)
                #expect(lastError(stuck.rig.memory).contains("is being reset"))
                #expect(cleave_header_queue_reset(queue) == -EBUSY)
                #expect(cleave_header_queue_destroy(queue) == -EBUSY)
            }
            #expect(result == 0)
            #expect(stuck.rig.status.free == 0)
            #expect(cleave_engine_destroy(stuck.engine) == 0)
            #expect(try cleave_rq_destroy(stuck.rig.attach()) == 0)
        }

        @Test("An engine that is being destroyed refuses it until its threads are gone")
        func destroy() throws {
            let stuck = try StuckEngine()
            // SAFETY: a token, used while the engine is there.
            nonisolated(unsafe) let engine = stuck.engine
            let result = try stuck.during({ cleave_engine_destroy(engine) }) {
                #expect(cleave_header_queue_reset(stuck.rig.headerQueue) == -EBUSY)
                #expect(cleave_header_queue_destroy(stuck.rig.headerQueue) == -EBUSY)
                #expect(stuck.rig.status.free == 63)
                let other = try? CRig(method: Self.method)
                #expect(other?.status.free == 64)
            }
            #expect(result == 0)
            #expect(cleave_header_queue_reset(stuck.rig.headerQueue) == 0)
        }
    }
}

/// A count that threads add to.
private final class PlacedCount: Sendable {
    private let count = Atomic<Int>(0)
    func add() { count.add(1, ordering: .relaxed) }
    var value: Int { count.load(ordering: .relaxed) }
}
