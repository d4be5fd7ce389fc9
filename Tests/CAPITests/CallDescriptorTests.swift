import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    /// Everything that a front end may pass as call descriptor, in every place that takes one.
    @Suite("Call descriptors") struct CallDescriptorTests {
        private let peer = PeerDescriptors()

        /// Creates an object that has a `call_fd`, and ends it again.
        /// - Returns: the result, and the sentence if it failed.
        private func create(_ place: String, _ descriptor: Int32) throws -> (Int32, String) {
            let rig = try CRig()
            rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
            rig.config.call_fd = descriptor
            var handle: Handle?
            let result: Int32
            switch place {
            case "rq":
                result = cleave_rq_create(rig.memory, &rig.config, &handle)
                cleave_rq_destroy(handle)
            case "txq":
                var config = rig.txqConfig
                config.flags = CLEAVE_TXQ_CALL_FD.rawValue
                config.call_fd = descriptor
                result = cleave_txq_create(rig.memory, &config, &handle)
                cleave_txq_destroy(handle)
            default:
                let made = rig.makeEngine([rig.config])
                (result, handle) = (made.result, made.engine)
                cleave_engine_destroy(handle)
            }
            return (result, result == 0 ? "" : lastError(rig.memory))
        }

        @Test("Eventfds, pipes and stream sockets are taken", arguments: ["rq", "txq", "engine"])
        func taken(place: String) throws {
            for descriptor in [peer.event(), peer.pipe().writer, peer.sockets().near] {
                #expect(try create(place, descriptor) == (0, ""))
            }
        }

        @Test("Every other kind is refused when it is given", arguments: ["rq", "txq", "engine"])
        func refused(place: String) throws {
            for (name, descriptor) in peer.unfit() {
                let (result, text) = try create(place, descriptor)
                #expect(result == -EINVAL, "\(name)")
                #expect(text.contains("call descriptor: \(descriptor) "), "\(name): \(text)")
            }
            let (result, text) = try create(place, -1)
            #expect(result == -EINVAL && text.hasSuffix("call_fd is -1"))
        }

        /// Places one packet on a queue that calls through `descriptor`, on a thread that the
        /// caller waits for: a test of calls that must not block.
        private func place(_ descriptor: Int32) throws -> (
            events: UInt32, counters: cleave_counters
        ) {
            let rig = try CRig()
            rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
            rig.config.call_fd = descriptor
            let rq = try rig.attach()
            rig.driver.setInterrupts(true)
            let set = PacketSet()
            set.add(TestFrames.udp4([1]))
            var packets = set.packets
            var events: UInt32 = 0
            #expect(cleave_rq_enqueue_burst(rq, &packets, 1, &events) == 1)
            return (events, rig.counters)
        }

        @Test("A full one holds nobody up, and loses nothing")
        func full() throws {
            let event = peer.event()
            var most: UInt64 = .max - 1
            #expect(write(event, &most, 8) == 8)
            let pipe = peer.pipe()
            PeerDescriptors.fill(pipe.writer)
            let sockets = peer.sockets()
            PeerDescriptors.fill(sockets.near)
            for descriptor in [event, pipe.writer, sockets.near] {
                let (events, counters) = try place(descriptor)
                #expect(events == 0 && counters.calls == 1 && counters.lost_calls == 0)
            }
        }

        @Test("Without another end calls are counted and told; no signal ends the process")
        func abandoned() throws {
            let pipe = peer.pipe()
            peer.end(pipe.reader)
            let sockets = peer.sockets()
            peer.end(sockets.far)
            signal(SIGPIPE, SIG_DFL)
            for descriptor in [pipe.writer, sockets.near] {
                let (events, counters) = try place(descriptor)
                #expect(events == CLEAVE_EVENT_CALL_LOST.rawValue)
                #expect(counters.calls == 1 && counters.lost_calls == 1)
            }
        }

        @Test("The same of a transmit queue")
        func transmit() throws {
            let rig = try TransmitRig()
            let pipe = peer.pipe()
            rig.config.flags = CLEAVE_TXQ_CALL_FD.rawValue
            rig.config.call_fd = pipe.writer
            let txq = try rig.attach()
            rig.send(count: 1)
            var packet = cleave_packet()
            var events: UInt32 = 0
            #expect(cleave_txq_dequeue_burst(txq, &packet, 1, &events) == 1 && events == 0)
            peer.end(pipe.reader)
            #expect(cleave_txq_complete(txq, 1, &events) == 0)
            #expect(events == CLEAVE_EVENT_CALL_LOST.rawValue)
            var counters = cleave_txq_counters()
            counters.struct_size = UInt32(MemoryLayout<cleave_txq_counters>.size)
            #expect(cleave_txq_get_counters(txq, &counters) == 0)
            #expect(counters.calls == 1 && counters.lost_calls == 1)
        }

        @Test("An engine whose driver's descriptors are full or abandoned stops at once")
        func engine() throws {
            for isFull in [true, false] {
                let rig = try CRig(size: 64)
                let pipe = peer.pipe()
                if isFull { PeerDescriptors.fill(pipe.writer) } else { peer.end(pipe.reader) }
                rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
                rig.config.call_fd = pipe.writer
                let engine = try #require(rig.makeEngine([rig.config]).engine)
                let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
                rig.driver.setInterrupts(true)
                #expect(cleave_engine_start(engine) == 0)
                let set = PacketSet()
                for _ in 0..<20 { set.add(TestFrames.udp4([1])) }
                #expect(cleave_lane_submit(lane, set.packets, 20) == 20)
                #expect(cleave_engine_drain(engine, 10_000) == 0)
                #expect(cleave_engine_stop(engine) == 0)
                var counters = cleave_counters()
                counters.struct_size = UInt32(MemoryLayout<cleave_counters>.size)
                #expect(cleave_lane_get_counters(lane, &counters) == 0)
                #expect(counters.packets == 20 && counters.calls > 0)
                #expect(counters.lost_calls == (isFull ? 0 : counters.calls))
                #expect(cleave_engine_destroy(engine) == 0)
            }
        }

        @Test("The caller may close it, and use its number for something else")
        func duplicated() throws {
            let rig = try CRig()
            let event = peer.event()
            let number = dup(event)
            rig.config.flags = CLEAVE_RQ_CALL_FD.rawValue
            rig.config.call_fd = number
            let rq = try rig.attach()
            #expect(dup2(peer.memory(), number) == number)
            rig.driver.setInterrupts(true)
            let set = PacketSet()
            set.add(TestFrames.udp4([1]))
            var packets = set.packets
            #expect(cleave_rq_enqueue_burst(rq, &packets, 1, nil) == 1)
            var count: UInt64 = 0
            #expect(read(event, &count, 8) == 8 && count == 1)
            #expect(lseek(number, 0, SEEK_END) == 0)
            close(number)
        }
    }
}
