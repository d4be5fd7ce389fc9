import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    @Suite("Queue level") struct QueueTests {
        /// Frames of every kind, whole and in pieces.
        private func traffic(_ random: inout SeededRandom, count: Int) -> ([[UInt8]], PacketSet) {
            let set = PacketSet()
            var frames: [[UInt8]] = []
            for number in 0..<count {
                let payload = TestFrames.payload(random.int(0...5000), seed: number)
                let frame = random.pick([
                    TestFrames.tcp4(payload), TestFrames.udp4(payload), TestFrames.tcp6(payload),
                    TestFrames.opaque(random.int(14...3000), seed: number),
                ])
                let pieces = random.chance(50) ? 0 : random.int(1...7)
                let cuts = (0..<pieces).map { _ in random.int(1...frame.count) }.sorted()
                frames.append(frame)
                set.add(frame, cuts: cuts)
            }
            return (frames, set)
        }

        @Test(
            "Packets arrive as they were given, in pieces or not",
            arguments: RingFormat.allCases,
            [
                RxMethod.whole, .headerDescriptor, .headerPage,
                .alternating(headerBufferByteCount: 128), .headerQueue(.usedLength),
                .headerQueue(.netHeader),
            ])
        func roundTrip(ring: RingFormat, method: RxMethod) throws {
            var random = SeededRandom(seed: 5)
            let rig = try CRig(
                ring: ring, size: 64, method: method,
                shape: method == .headerDescriptor
                    ? .chained(bufferByteCount: 2048, packetByteCount: 8000)
                    : .mergeable(bufferByteCount: 2048))
            rig.config.burst = 7
            let rq = try rig.attach()
            let (frames, set) = traffic(&random, count: 300)
            var packets = set.packets
            var arrived: [[UInt8]] = []
            var done = 0
            var wasPartial = false
            while done < packets.count {
                let wanted = min(random.int(1...100), packets.count - done)
                var events: UInt32 = 0
                let count = packets.withUnsafeMutableBufferPointer {
                    cleave_rq_enqueue_burst(rq, $0.baseAddress! + done, UInt32(wanted), &events)
                }
                try #require(count >= 0 && count <= wanted)
                wasPartial = wasPartial || count < wanted
                done += Int(count)
                // Interrupts are off.
                #expect(events == 0)
                let batch = rig.harvest()
                try #require(count > 0 || !batch.isEmpty || wanted > 0)
                arrived += batch
            }
            #expect(arrived == frames)
            #expect(wasPartial)
            #expect(rig.driver.fault == .none)
            #expect(rig.counters.packets == 300)
            #expect((rig.counters.split > 0) == (method != .whole))
            #expect(packets.allSatisfy { $0.flags == 0 })
        }

        @Test("What does not fit stays with the caller; CLEAVE_RQ_DROP marks it instead")
        func shortage() throws {
            for drops in [false, true] {
                let rig = try CRig(size: 4)
                if drops { rig.config.flags = CLEAVE_RQ_DROP.rawValue }
                let rq = try rig.attach()
                let set = PacketSet()
                for number in 0..<6 {
                    set.add(TestFrames.udp4(TestFrames.payload(90, seed: number)))
                }
                var packets = set.packets
                let count = cleave_rq_enqueue_burst(rq, &packets, 6, nil)
                #expect(count == (drops ? 6 : 4))
                let marked = packets.map { $0.flags == UInt16(CLEAVE_PACKET_DROPPED.rawValue) }
                #expect(marked == [false, false, false, false, drops, drops])
                #expect(rig.harvest().count == 4)
                let reason = Int(DropReason.noBuffer.rawValue)
                let dropped = withUnsafeBytes(of: rig.counters.dropped) {
                    $0.load(fromByteOffset: 8 * reason, as: UInt64.self)
                }
                #expect(dropped == (drops ? 2 : 0))
                #expect(String(cString: cleave_drop_name(UInt32(reason))) == "noBuffer")
            }
        }

        @Test("The driver's wish to be called is told, or goes to the eventfd")
        func notification() throws {
            for usesDescriptor in [false, true] {
                let rig = try CRig()
                let event = try EventDescriptor()
                if usesDescriptor {
                    rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
                    rig.config.call_fd = event.fileDescriptor
                }
                let rq = try rig.attach()
                rig.driver.setInterrupts(true)
                let set = PacketSet()
                set.add(TestFrames.udp4(TestFrames.payload(10)))
                var packets = set.packets
                var events: UInt32 = 0
                #expect(cleave_rq_enqueue_burst(rq, &packets, 1, &events) == 1)
                #expect(events == (usesDescriptor ? 0 : CLEAVE_EVENT_CALL.rawValue))
                #expect(event.drain() == usesDescriptor)
            }
        }

        @Test("A stopped queue is resumed by a new one", arguments: RingFormat.allCases)
        func resume(ring: RingFormat) throws {
            let rig = try CRig(ring: ring, size: 8)
            var frames: [[UInt8]] = []
            for round in 0..<5 {
                let rq = try rig.attach()
                let set = PacketSet()
                for number in 0..<3 {
                    frames.append(TestFrames.tcp4(TestFrames.payload(70, seed: 3 * round + number)))
                    set.add(frames[frames.count - 1])
                }
                var packets = set.packets
                #expect(cleave_rq_enqueue_burst(rq, &packets, 3, nil) == 3)
                var base: UInt16 = 0
                #expect(cleave_rq_stop(rq, &base) == 0)
                #expect(cleave_rq_destroy(rq) == 0)
                rig.config.last_avail = base
                rig.config.last_used = base
                #expect(rig.harvest() == Array(frames.suffix(3)))
            }
        }

        @Test("A queue that the driver broke says so, drops, and logs one line")
        func broken() throws {
            let log = CallbackLog()
            let rig = try CRig(context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let rq = try rig.attach()
            // avail.idx of the split ring: far ahead of what was posted.
            rig.host(rig.driver.virtqueue.driverArea)?.storeBytes(
                of: 0x7000, toByteOffset: 2, as: UInt16.self)
            let set = PacketSet()
            for _ in 0..<40 { set.add(TestFrames.udp4([1])) }
            var packets = set.packets
            for _ in 0..<3 {
                var events: UInt32 = 0
                _ = cleave_rq_enqueue_burst(rq, &packets, 40, &events)
                #expect(events & CLEAVE_EVENT_BROKEN.rawValue != 0)
            }
            #expect(log.lines == ["1 the driver broke its receive queue: availJump"])
            #expect(String(cString: cleave_fault_name(rig.counters.fault)) == "availJump")
        }

        @Test("Header queues are shared, and tell what is claimed")
        func headerQueue() throws {
            let rig = try CRig(method: .headerQueue(.usedLength))
            let rq = try rig.attach()
            let set = PacketSet()
            for number in 0..<5 { set.add(TestFrames.tcp4(TestFrames.payload(99, seed: number))) }
            var packets = set.packets
            #expect(cleave_rq_enqueue_burst(rq, &packets, 5, nil) == 5)
            var status = cleave_header_queue_status()
            status.struct_size = UInt32(MemoryLayout<cleave_header_queue_status>.size)
            #expect(cleave_header_queue_get_status(rig.headerQueue, &status) == 0)
            #expect(status.claimed == 5)
            #expect(status.free == 59)
            #expect(status.broken == 0)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == -EBUSY)
        }
    }
}

/// The arguments of the log callback.
final class CallbackLog: @unchecked Sendable {
    // SAFETY: used by one thread in each test.
    private(set) var lines: [String] = []
    /// Runs inside the callback.
    var during: () -> Void = {}

    func callbacks(level: cleave_log_level) -> cleave_context_config {
        var config = cleave_context_config()
        config.struct_size = UInt32(MemoryLayout<cleave_context_config>.size)
        config.log_level = level.rawValue
        config.user = Unmanaged.passUnretained(self).toOpaque()
        config.log = { user, level, message in
            guard let user, let message else { return }
            // SAFETY: the log outlives its context in every test.
            let log = Unmanaged<CallbackLog>.fromOpaque(user).takeUnretainedValue()
            log.lines.append("\(level) \(String(cString: message))")
            log.during()
        }
        return config
    }
}
