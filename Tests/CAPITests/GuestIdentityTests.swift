// Header queues that outlive a memory table, and a back end: identity of guests, and bases.
import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CRig {
    /// A further memory table over the same bytes.
    /// - Parameter other: of the same guest; nil for a guest of its own.
    func table(sameGuestAs other: Handle?) -> (result: Int32, memory: Handle?) {
        var region = CRig.region(space)
        var memory: Handle?
        let result = withUnsafePointer(to: &region) { regions in
            var config = cleave_memory_config(
                struct_size: UInt32(MemoryLayout<cleave_memory_config>.size), region_count: 1,
                regions: regions, same_guest_as: other)
            return cleave_memory_create(context, &config, &memory)
        }
        return (result, memory)
    }

    /// How many slots the driver has given, modulo 2^32.
    var tail: UInt32 {
        host(slots.layout.control)?.load(as: UInt32.self) ?? 0
    }

    /// The configuration of a header queue over the driver's slots.
    func headerQueueConfig(base: UInt32 = 0) -> cleave_header_queue_config {
        let layout = slots.layout
        var config = cleave_header_queue_config()
        config.struct_size = UInt32(MemoryLayout<cleave_header_queue_config>.size)
        config.slot_size = UInt32(layout.slotSize)
        config.slot_count = UInt32(layout.slotCount)
        config.slots = host(layout.base)
        config.control = host(layout.control)
        config.returns = layout.returnRing.flatMap(host)
        config.group_rings = UInt32(layout.groupRingCount)
        config.group_size = layout.groupRingCount > 0 ? UInt32(layout.groupSize) : 0
        config.base = base
        return config
    }
}

/// A back end that takes over a rig's rings and slots: objects of its own, as another process has.
private final class Successor {
    let context: Handle
    let memory: Handle
    let headerQueue: Handle
    let rq: Handle

    init(_ rig: CRig, ringBase: UInt16, base: UInt32) throws {
        let context = try made { cleave_context_create(nil, $0) }
        self.context = context
        let memory = try made { handle in
            var region = CRig.region(rig.space)
            return withUnsafePointer(to: &region) { regions in
                var table = cleave_memory_config(
                    struct_size: UInt32(MemoryLayout<cleave_memory_config>.size), region_count: 1,
                    regions: regions, same_guest_as: nil)
                return cleave_memory_create(context, &table, handle)
            }
        }
        self.memory = memory
        var slots = rig.headerQueueConfig(base: base)
        let queue = try made { cleave_header_queue_create(memory, &slots, $0) }
        headerQueue = queue
        var config = rig.config(0)
        config.header_queue = queue
        config.last_avail = ringBase
        config.last_used = ringBase
        rq = try made { cleave_rq_create(memory, &config, $0) }
    }

    deinit {
        cleave_rq_destroy(rq)
        cleave_header_queue_destroy(headerQueue)
        cleave_memory_destroy(memory)
        cleave_context_destroy(context)
    }

    var status: cleave_header_queue_status {
        var status = cleave_header_queue_status()
        status.struct_size = UInt32(MemoryLayout<cleave_header_queue_status>.size)
        cleave_header_queue_get_status(headerQueue, &status)
        return status
    }
}

extension CFunctions {
    @Suite("Guests apart from their tables") struct GuestIdentityTests {
        private static let method = RxMethod.headerQueue(.netHeader)

        @Test("RQs over two tables of one guest share a header queue; another guest's do not")
        func tables() throws {
            let rig = try CRig(size: 64, method: Self.method, drivers: 2)
            let first = try rig.attach()
            let (result, found) = rig.table(sameGuestAs: rig.memory)
            #expect(result == 0)
            let second = try #require(found)
            let (_, stranger) = rig.table(sameGuestAs: nil)
            var config = rig.config(1)
            var rq: Handle?
            #expect(cleave_rq_create(stranger, &config, &rq) == -EINVAL)
            #expect(lastError(stranger).contains("header_queue belongs to another guest"))
            #expect(rq == nil)
            #expect(cleave_rq_create(second, &config, &rq) == 0)
            // A third table knows the guest by the second.
            let (third, last) = rig.table(sameGuestAs: second)
            #expect(third == 0)
            let other = try #require(rq)
            #expect(enqueue(10, on: first) == 10 && enqueue(10, on: other) == 10)
            #expect(rig.takeSlots(0) == Array(0..<10))
            #expect(rig.takeSlots(1) == Array(10..<20))
            // Engines, too.
            #expect(cleave_rq_destroy(rq) == 0)
            let made = engine(over: last, config)
            #expect(made.result == 0)
            #expect(cleave_engine_destroy(made.handle) == 0)
            #expect(engine(over: stranger, config).result == -EINVAL)
            #expect(lastError(stranger).contains("queues[0]: header_queue belongs to another"))
            // The table that the slots were translated by is in use as long as they are.
            #expect(cleave_rq_destroy(first) == 0)
            #expect(cleave_memory_destroy(rig.memory) == -EBUSY)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)
            #expect(cleave_memory_destroy(rig.memory) == 0)
            for memory in [second, stranger, last] { #expect(cleave_memory_destroy(memory) == 0) }
        }

        private func engine(
            over memory: Handle?, _ queue: cleave_rq_config
        ) -> (result: Int32, handle: Handle?) {
            var queue = queue
            var handle: Handle?
            let result = withUnsafePointer(to: &queue) { queues in
                var config = cleave_engine_config()
                config.struct_size = UInt32(MemoryLayout<cleave_engine_config>.size)
                config.queue_count = 1
                config.queues = queues
                return cleave_engine_create(memory, &config, &handle)
            }
            return (result, handle)
        }

        @Test("What is no live memory names no guest")
        func identities() throws {
            let rig = try CRig(method: Self.method)
            for handle in [rig.context, rig.headerQueue, Handle(bitPattern: 0x1234_5678)] {
                let (result, memory) = rig.table(sameGuestAs: handle)
                #expect(result == -EBADF && memory == nil)
                #expect(lastError(rig.context).contains("same_guest_as is not a live memory"))
            }
            let gone = try #require(rig.table(sameGuestAs: rig.memory).memory)
            #expect(cleave_memory_destroy(gone) == 0)
            #expect(rig.table(sameGuestAs: gone).result == -EBADF)
        }

        @Test("Structures of older headers mean what they meant")
        func olderSizes() throws {
            let rig = try CRig(size: 64, method: Self.method)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)
            // Up to minor version 4: 16 bytes; what follows is not the structure's.
            var region = CRig.region(rig.space)
            withUnsafePointer(to: &region) { regions in
                for size in [15, 16, 20, 23, 24] {
                    var config = cleave_memory_config(
                        struct_size: UInt32(size), region_count: 1, regions: regions,
                        same_guest_as: size < 24 ? Handle(bitPattern: 0x7fff_0000_0000) : nil)
                    if size > 16 { config.same_guest_as = nil }
                    var memory: Handle?
                    let result = cleave_memory_create(rig.context, &config, &memory)
                    #expect(result == (size < 16 ? -EINVAL : 0), "\(size)")
                    cleave_memory_destroy(memory)
                }
            }
            // 32 bytes before `returns`, 40 before `base`, 48 before `group_rings`, whose garbage
            // is not looked at.
            for size in [31, 32, 39, 40, 48, 56] {
                var config = rig.headerQueueConfig(base: size < 48 ? 0xdead_beef : 0)
                config.struct_size = UInt32(size)
                config.returns = nil
                config.group_size = size < 48 ? 0x5555 : 0
                config.group_rings = size < 56 ? 0x5555 : 0
                config.reserved2 = size < 56 ? 0x5555 : 0
                var queue: Handle?
                let result = cleave_header_queue_create(rig.memory, &config, &queue)
                #expect(result == (size < 32 ? -EINVAL : 0), "\(size)")
                guard result == 0 else { continue }
                var base: UInt32 = 1
                #expect(cleave_header_queue_get_base(queue, &base) == 0)
                #expect(base == 0, "\(size)")
                #expect(cleave_header_queue_destroy(queue) == 0)
            }
            var config = rig.headerQueueConfig()
            config.reserved2 = 1
            var queue: Handle?
            #expect(cleave_header_queue_create(rig.memory, &config, &queue) == -EINVAL)
            #expect(lastError(rig.memory).contains("reserved2"))
        }

        @Test(
            "Another back end goes on where this one stopped; the driver notices nothing",
            arguments: SlotReturn.allCases, RingFormat.allCases)
        func restart(slotReturn: SlotReturn, ring: RingFormat) throws {
            let rig = try CRig(ring: ring, size: 128, method: Self.method, slotReturn: slotReturn)
            let rq = try rig.attach()
            // Round the slots more than once: the tail is far from 0.
            for _ in 0..<5 {
                #expect(enqueue(30, on: rq) == 30)
                #expect(rig.harvest().count == 30)
            }
            // Some slots are the driver's when the back end ends.
            #expect(enqueue(10, on: rq) == 10)
            let held = rig.takeSlots()
            #expect(held.allSatisfy { $0 != nil })
            // Not those ten; a tail moves by groups of slots, so that it may lag by some more.
            let free = rig.status.free
            // A group of which the driver has some slots waits for them.
            switch slotReturn {
            case .tail: #expect((38...54).contains(free))
            case .ring: #expect(free == 54)
            case .groups: #expect(free == 52)
            }
            var base: UInt32 = 0
            #expect(cleave_header_queue_get_base(rig.headerQueue, &base) == -EBUSY)
            #expect(lastError(rig.headerQueue).contains("1 RQs or engines"))
            #expect(cleave_header_queue_get_base(rig.headerQueue, nil) == -EINVAL)
            var ringBase: UInt16 = 0
            #expect(cleave_rq_stop(rq, &ringBase) == 0)
            #expect(cleave_header_queue_get_base(rig.headerQueue, &base) == 0)
            #expect(base == (slotReturn == .groups ? 1 : 160))
            #expect(cleave_rq_destroy(rq) == 0)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)

            let next = try Successor(rig, ringBase: ringBase, base: base)
            #expect(next.status.free == free && next.status.claimed == 0)
            #expect(enqueue(60, on: next.rq) == 60)
            let slots = rig.takeSlots()
            #expect(slots.prefix(Int(free)).allSatisfy { $0 != nil })
            #expect(slots.dropFirst(Int(free)).allSatisfy { $0 == nil })
            #expect(Set(slots.compactMap(\.self)).isDisjoint(with: held.compactMap(\.self)))
            #expect(next.status.broken == 0 && next.status.duplicates == 0)
            #expect(rig.driver.fault == .none)
        }

        @Test("Without its base the successor breaks, so the base is what carries it")
        func forgotten() throws {
            let rig = try CRig(size: 128, method: Self.method)
            let rq = try rig.attach()
            for _ in 0..<5 {
                #expect(enqueue(30, on: rq) == 30)
                #expect(rig.harvest().count == 30)
            }
            var ringBase: UInt16 = 0
            #expect(cleave_rq_stop(rq, &ringBase) == 0)
            let next = try Successor(rig, ringBase: ringBase, base: 0)
            #expect(enqueue(3, on: next.rq) == 3)
            #expect(next.status.broken != 0)
            #expect(rig.takeSlots() == [nil, nil, nil])
        }

        @Test(
            "A base that is garbage costs slots at most: every packet arrives",
            arguments: SlotReturn.allCases)
        func garbage(slotReturn: SlotReturn) throws {
            // Before and after the tail, and the tail less a queue; around the ends; anywhere.
            let distances: [UInt32] = [0, 1, 30, 31, 63, 64, 65, .max, .max - 1, 128, 0x8000_0000]
            let bases: [UInt32] = [0, 1, .max, 0x7fff_ffff, 0x0020_0000, 0x001f_ffff, 0xdead_beef]
            for number in 0..<distances.count + bases.count {
                let rig = try CRig(size: 128, method: Self.method, slotReturn: slotReturn)
                let rq = try rig.attach()
                #expect(enqueue(30, on: rq) == 30)
                #expect(rig.harvest().count == 30)
                var ringBase: UInt16 = 0
                #expect(cleave_rq_stop(rq, &ringBase) == 0)
                let base =
                    number < distances.count
                    ? rig.tail &- distances[number] : bases[number - distances.count]
                let next = try Successor(rig, ringBase: ringBase, base: base)
                let free = next.status.free
                #expect(free <= 64, "\(base)")
                let set = PacketSet()
                for number in 0..<40 { set.add(TestFrames.udp4([UInt8(number), 1, 2])) }
                var packets = set.packets
                var events: UInt32 = 0
                #expect(cleave_rq_enqueue_burst(next.rq, &packets, 40, &events) == 40, "\(base)")
                if slotReturn == .tail {
                    let isPossible = rig.tail &- base <= 64
                    #expect((next.status.broken != 0) == !isPossible, "\(base)")
                    let told = CLEAVE_EVENT_HEADER_QUEUE_BROKEN.rawValue
                    #expect((events & told != 0) == !isPossible, "\(base)")
                }
                #expect(next.status.claimed <= 64, "\(base)")
                #expect(packets.allSatisfy { $0.flags == 0 }, "\(base)")
                // A harvest of slots that the driver holds to be its own would be a fault.
                #expect(rig.takeSlots().count == 40, "\(base)")
            }
        }
    }
}
