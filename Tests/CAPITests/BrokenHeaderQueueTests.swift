import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Testing

extension CFunctions {
    /// A driver that breaks its header queue: the caller, the log and the driver learn of it.
    @Suite("Broken header queue") struct BrokenHeaderQueueTests {
        private static let both =
            CLEAVE_EVENT_BROKEN.rawValue
            | CLEAVE_EVENT_HEADER_QUEUE_BROKEN.rawValue
        private static let line =
            "1 the driver broke its header queue: packets go whole until it is reset"

        /// Makes the driver write an impossible value.
        private func lie(_ rig: CRig) throws {
            let layout = rig.slots.layout
            if let ring = layout.returnRing {
                // A slot that does not exist, in the first entry of the first lap.
                try #require(rig.host(ring)).storeBytes(
                    of: 64 | 0x8000 << 16, toByteOffset: layout.firstEntryOffset, as: UInt32.self)
            } else {
                try #require(rig.host(layout.control)).storeBytes(of: 0x7000, as: UInt32.self)
            }
        }

        /// The word that the driver reads in the control words.
        private func word(_ rig: CRig) throws -> UInt32 {
            try #require(rig.host(rig.slots.layout.control))
                .load(fromByteOffset: HeaderQueueLayout.statusOffset, as: UInt32.self)
        }

        @Test(
            "RQs tell it with each burst that had to go whole, the log once until a reset",
            arguments: SlotReturn.allCases)
        func queueLevel(slotReturn: SlotReturn) throws {
            let log = CallbackLog()
            let rig = try CRig(
                size: 64, method: .headerQueue(.usedLength), slotReturn: slotReturn, drivers: 2,
                context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let rqs = try (0..<2).map { number in
                var config = rig.config(number)
                return try made { cleave_rq_create(rig.memory, &config, $0) }
            }
            defer { for rq in rqs { cleave_rq_destroy(rq) } }
            for round in 1...2 {
                #expect(try word(rig) == 0)
                #expect(!rig.slots.isBroken)
                try lie(rig)
                for rq in rqs + rqs {
                    let set = PacketSet()
                    set.add(TestFrames.udp4([1]))
                    var packets = set.packets
                    var events: UInt32 = 0
                    #expect(cleave_rq_enqueue_burst(rq, &packets, 1, &events) == 1)
                    #expect(events == Self.both)
                    var ref = cleave_ref(
                        data: packets[0].data, length: packets[0].length, flags: 0, cookie: 0)
                    #expect(cleave_rq_enqueue_refs(rq, &ref, 1, &events) == 1)
                    #expect(events == Self.both)
                }
                #expect(log.lines == Array(repeating: Self.line, count: round))
                #expect(try word(rig) == 1)
                #expect(rig.slots.isBroken)
                #expect(rig.status.broken == 1)
                rig.slots.prepareReset()
                #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
                rig.slots.finishReset()
                var events: UInt32 = 0
                let set = PacketSet()
                set.add(TestFrames.udp4([1]))
                var packets = set.packets
                #expect(cleave_rq_enqueue_burst(rqs[0], &packets, 1, &events) == 1)
                #expect(events == 0)
                for number in 0..<2 { _ = rig.takeSlots(number) }
                // A value that is impossible in any state of the queue.
                rig.slots.prepareReset()
                #expect(cleave_header_queue_reset(rig.headerQueue) == 0)
            }
        }

        @Test("An engine tells the log when its completions are reaped")
        func engineLevel() throws {
            let log = CallbackLog()
            let rig = try CRig(
                size: 64, method: .headerQueue(.usedLength),
                context: log.callbacks(level: CLEAVE_LOG_ERROR))
            let engine = try #require(rig.makeEngine([rig.config]).engine)
            let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
            try lie(rig)
            for _ in 0..<3 {
                let set = PacketSet()
                set.add(TestFrames.udp4([1]))
                #expect(cleave_lane_submit(lane, set.packets, 1) == 1)
                #expect(cleave_lane_turn(lane) == 1)
                var completion = cleave_completion()
                #expect(cleave_lane_reap(lane, &completion, 1) == 1 && completion.flags == 0)
            }
            #expect(log.lines == [Self.line])
            // The same for the virtqueue itself.
            rig.host(rig.driver.virtqueue.driverArea)?.storeBytes(
                of: 0x7000, toByteOffset: 2, as: UInt16.self)
            for _ in 0..<200 {
                let set = PacketSet()
                set.add(TestFrames.udp4([1]))
                guard cleave_lane_submit(lane, set.packets, 1) == 1 else { break }
                #expect(cleave_lane_turn(lane) >= 0)
                var completion = cleave_completion()
                if cleave_lane_reap(lane, &completion, 1) == 1 && completion.flags != 0 { break }
            }
            #expect(log.lines == [Self.line, "1 the driver broke receive queue 0: availJump"])
            #expect(cleave_engine_destroy(engine) == 0)
        }

        @Test("Slots that are posted again and again are not counted as free again")
        func freeIsBounded() throws {
            let rig = try CRig(
                size: 128, method: .headerQueue(.usedLength), slotReturn: .ring)
            #expect(enqueue(64, on: try rig.attach()) == 64)
            #expect(rig.takeSlots().count == 64)
            for _ in 0..<8 { rig.slots.retire(first: 0, count: 4) }
            #expect(rig.status.free == 4)
            #expect(enqueue(1, on: rig.rq!) == 1)
            // Slot 0 is the driver's, and was posted again: it counts, once, as do the others.
            #expect(rig.status.free == 4)
            for _ in 0..<4 { rig.slots.retire(first: 0, count: 4) }
            #expect(rig.status.free == 4)
            #expect(rig.status.free <= 64 && rig.status.broken == 0)
        }

        @Test("Looking at a queue's status breaks nothing")
        func observation() throws {
            let rig = try CRig(
                size: 128, method: .headerQueue(.usedLength), slotReturn: .ring)
            #expect(enqueue(64, on: try rig.attach()) == 64)
            _ = rig.takeSlots()
            try #require(rig.host(rig.slots.layout.returnRing!))
                .storeBytes(of: 64 | 0x8001 << 16, as: UInt32.self)
            #expect(rig.status.free == 0)
            #expect(rig.status.broken == 0)
        }
    }
}
