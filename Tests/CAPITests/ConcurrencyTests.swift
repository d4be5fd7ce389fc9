import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

extension CFunctions {
    @Suite("Threads and re-entry") struct ConcurrencyTests {
        /// Results of calls on a queue while a call on it is under way: a test can be sure of that
        /// inside the log callback.
        private func duringCall(_ body: @escaping (Handle) -> Void) throws {
            let log = CallbackLog()
            let rig = try CRig(context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let rq = try rig.attach()
            log.during = { body(rq) }
            rig.host(rig.driver.virtqueue.driverArea)?.storeBytes(
                of: 0x7000, toByteOffset: 2, as: UInt16.self)
            let set = PacketSet()
            set.add(TestFrames.udp4([1]))
            var packets = set.packets
            for _ in 0..<2 { _ = cleave_rq_enqueue_burst(rq, &packets, 1, nil) }
            #expect(log.lines.count == 1)
            // The refused calls changed nothing.
            #expect(cleave_rq_stop(rq, nil) == 0)
            #expect(cleave_rq_destroy(rq) == 0)
        }

        @Test("A callback may ask, but not call on the handle it is called from")
        func reentry() throws {
            try duringCall { rq in
                var packet = cleave_packet()
                #expect(cleave_rq_enqueue_burst(rq, &packet, 1, nil) == -EBUSY)
                #expect(cleave_rq_stop(rq, nil) == -EBUSY)
                #expect(cleave_rq_destroy(rq) == -EBUSY)
                var counters = cleave_counters()
                counters.struct_size = 16
                #expect(cleave_rq_get_counters(rq, &counters) == 0)
            }
        }

        @Test("A second thread is refused, not made to wait")
        func secondThread() throws {
            try duringCall { rq in
                // SAFETY: a token, used while the queue is there.
                nonisolated(unsafe) let rq = rq
                let results = Mutex<[Int32]>([])
                let thread = try? PinnedThread(name: "second", cpu: nil) {
                    var packet = cleave_packet()
                    let mine = [
                        cleave_rq_enqueue_burst(rq, &packet, 1, nil), cleave_rq_stop(rq, nil),
                        cleave_rq_destroy(rq),
                    ]
                    results.withLock { $0 = mine }
                }
                thread?.join()
                #expect(results.withLock { $0 } == [-EBUSY, -EBUSY, -EBUSY])
            }
        }

        @Test("Threads that ignore every rule get refusals; packets are conserved")
        func storm() throws {
            let rig = try CRig(size: 256)
            let rq = try rig.attach()
            let placed = Atomic<Int>(0)
            let strange = Atomic<Int>(0)
            // SAFETY: a token; PacketSet's memory outlives the threads.
            nonisolated(unsafe) let queue = rq
            let threads = try (0..<4).map { number in
                try PinnedThread(name: "storm", cpu: nil) {
                    let set = PacketSet()
                    set.add(TestFrames.udp4([UInt8(number)]))
                    var packets = set.packets
                    for _ in 0..<60 {
                        let result = cleave_rq_enqueue_burst(queue, &packets, 1, nil)
                        if result > 0 { placed.add(1, ordering: .relaxed) }
                        if result < 0 && result != -EBUSY { strange.add(1, ordering: .relaxed) }
                        var counters = cleave_counters()
                        counters.struct_size = 16
                        if cleave_rq_get_counters(queue, &counters) != 0 {
                            strange.add(1, ordering: .relaxed)
                        }
                    }
                }
            }
            for thread in threads { thread.join() }
            #expect(strange.load(ordering: .relaxed) == 0)
            #expect(rig.harvest().count == placed.load(ordering: .relaxed))
            #expect(rig.counters.packets == UInt64(placed.load(ordering: .relaxed)))
        }

        @Test("Destroyed while others call: they are refused from then on")
        func destroyRace() throws {
            for _ in 0..<20 {
                let rig = try CRig(size: 64)
                // SAFETY: a token; the rig outlives the threads.
                nonisolated(unsafe) let queue = try rig.attach()
                let strange = Atomic<Int>(0)
                let threads = try (0..<3).map { _ in
                    try PinnedThread(name: "race", cpu: nil) {
                        let set = PacketSet()
                        set.add(TestFrames.udp4([7]))
                        var packets = set.packets
                        while true {
                            let result = cleave_rq_enqueue_burst(queue, &packets, 1, nil)
                            if result == -EBADF { return }
                            if result < 0 && result != -EBUSY {
                                strange.add(1, ordering: .relaxed)
                            }
                        }
                    }
                }
                var result = cleave_rq_destroy(queue)
                while result == -EBUSY {
                    PinnedThread.yield()
                    result = cleave_rq_destroy(queue)
                }
                #expect(result == 0)
                for thread in threads { thread.join() }
                #expect(strange.load(ordering: .relaxed) == 0)
            }
        }
    }
}
