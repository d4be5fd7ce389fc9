import CCleave
import CleaveTestSupport
import CleaveVirtioNet
import Testing

extension CFunctions {
    /// A virtqueue in plain memory, in either format, and the C functions as its device.
    private final class ResumeRig {
        private let guest: EvilGuest
        private let isPacked: Bool
        private var split: EvilRing
        private var packed: PackedEvilRing
        private let context: Handle
        let memory: Handle
        /// Where the device begins.
        var base: UInt16

        init(_ format: RingFormat) throws {
            let guest = try EvilGuest()
            let context = try made { cleave_context_create(nil, $0) }
            self.guest = guest
            self.context = context
            memory = try made { handle in
                var region = cleave_region(
                    guest_address: EvilRig.ringAddress, size: 1 << 18,
                    host: guest.pointer(EvilRig.ringAddress), reserved: 0)
                return withUnsafePointer(to: &region) { regions in
                    var table = cleave_memory_config(
                        struct_size: UInt32(MemoryLayout<cleave_memory_config>.size),
                        region_count: 1, regions: regions, same_guest_as: nil)
                    return cleave_memory_create(context, &table, handle)
                }
            }
            isPacked = format == .packed
            split = EvilRing(guest, size: 16, at: EvilRig.ringAddress)
            packed = PackedEvilRing(guest, size: 16, at: EvilRig.headerAddress)
            base = (isPacked ? packed.addresses : split.addresses).base
        }

        deinit {
            cleave_memory_destroy(memory)
            cleave_context_destroy(context)
        }

        /// VERSION_1, EVENT_IDX, MRG_RXBUF, RING_PACKED.
        var features: UInt64 { 1 << 32 | 1 << 29 | 1 << 15 | (isPacked ? 1 << 34 : 0) }

        func area(_ part: KeyPath<VirtqueueAddresses, GuestAddress>) -> UnsafeMutableRawPointer {
            let addresses = isPacked ? packed.addresses : split.addresses
            return guest.pointer(addresses[keyPath: part].rawValue)
        }

        /// Posts `count` buffers of 100 bytes, the first named `id`.
        func post(_ count: Int, id: Int, flags: UInt16) {
            for id in id..<id + count {
                if isPacked {
                    packed.post([PostedPiece(EvilRig.page(id), 100, flags: flags)], id: id)
                } else {
                    split.describe(id, EvilRig.page(id), 100, flags: flags)
                    split.post(id)
                }
            }
        }

        /// The driver sleeps until entry 4.
        func sleep() {
            split.setUsedEvent(4)
            packed.setDriverEvent(packed.base(4), flags: 2)
        }
    }

    @Suite("The first call after a start") struct FirstCallTests {
        private func receiver(_ rig: ResumeRig) throws -> Handle {
            var config = cleave_rq_config()
            config.struct_size = UInt32(MemoryLayout<cleave_rq_config>.size)
            config.features = rig.features
            config.size = 16
            config.descriptor_area = rig.area(\.descriptorArea)
            config.driver_area = rig.area(\.driverArea)
            config.device_area = rig.area(\.deviceArea)
            (config.last_avail, config.last_used) = (rig.base, rig.base)
            config.method = CLEAVE_METHOD_WHOLE.rawValue
            return try made { cleave_rq_create(rig.memory, &config, $0) }
        }

        /// Places `count` packets.
        /// - Returns: the events.
        private func enqueue(_ rq: Handle, _ count: Int) -> UInt32 {
            let set = PacketSet()
            for _ in 0..<count { set.add(TestFrames.udp4([1])) }
            var packets = set.packets
            var events: UInt32 = 0
            #expect(cleave_rq_enqueue_burst(rq, &packets, UInt32(count), &events) == count)
            return events
        }

        @Test(
            "A receive queue that is resumed calls once for what may have been missed",
            arguments: RingFormat.allCases)
        func receive(format: RingFormat) throws {
            let rig = try ResumeRig(format)
            rig.post(8, id: 0, flags: DescriptorFlags.write)
            let first = try receiver(rig)
            #expect(enqueue(first, 5) == CLEAVE_EVENT_CALL.rawValue)
            #expect(cleave_rq_stop(first, &rig.base) == 0)
            #expect(cleave_rq_destroy(first) == 0)
            #expect(rig.base & 0x7fff == 5)
            // The caller that read those events died before it called the driver.
            rig.sleep()
            let second = try receiver(rig)
            #expect(enqueue(second, 0) == 0)
            #expect(enqueue(second, 1) == CLEAVE_EVENT_CALL.rawValue)
            #expect(enqueue(second, 1) == 0)
            #expect(cleave_rq_destroy(second) == 0)
        }

        private func sender(_ rig: ResumeRig) throws -> Handle {
            var config = cleave_txq_config()
            config.struct_size = UInt32(MemoryLayout<cleave_txq_config>.size)
            config.features = rig.features
            config.size = 16
            config.descriptor_area = rig.area(\.descriptorArea)
            config.driver_area = rig.area(\.driverArea)
            config.device_area = rig.area(\.deviceArea)
            (config.last_avail, config.last_used) = (rig.base, rig.base)
            return try made { cleave_txq_create(rig.memory, &config, $0) }
        }

        /// Takes and completes `count` packets.
        /// - Returns: the events of the completion.
        private func complete(_ txq: Handle, _ count: Int) -> UInt32 {
            var packets = [cleave_packet](repeating: .init(), count: 8)
            var events: UInt32 = 0
            let taken = cleave_txq_dequeue_burst(txq, &packets, UInt32(count), &events)
            #expect(taken == count && events == 0)
            #expect(cleave_txq_complete(txq, UInt32(count), &events) == 0)
            return events
        }

        @Test(
            "A transmit queue that is resumed calls once for what may have been missed",
            arguments: RingFormat.allCases)
        func transmit(format: RingFormat) throws {
            let rig = try ResumeRig(format)
            rig.post(8, id: 0, flags: 0)
            let first = try sender(rig)
            #expect(complete(first, 5) == CLEAVE_EVENT_CALL.rawValue)
            #expect(cleave_txq_stop(first, &rig.base) == 0)
            #expect(cleave_txq_destroy(first) == 0)
            #expect(rig.base & 0x7fff == 5)
            rig.sleep()
            let second = try sender(rig)
            #expect(complete(second, 0) == 0)
            #expect(complete(second, 1) == CLEAVE_EVENT_CALL.rawValue)
            #expect(complete(second, 1) == 0)
            #expect(cleave_txq_destroy(second) == 0)
        }
    }
}
