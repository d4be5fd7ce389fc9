import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CRig {
    /// The driver's half of the header queue.
    var slots: DriverHeaderQueue { driver.configuration.headerQueue! }

    var status: cleave_header_queue_status {
        var status = cleave_header_queue_status()
        status.struct_size = UInt32(MemoryLayout<cleave_header_queue_status>.size)
        cleave_header_queue_get_status(headerQueue, &status)
        return status
    }

    /// Takes the packets that arrived at driver `number` and keeps their slots.
    /// - Returns: the slot of each packet; nil if it came whole.
    func takeSlots(_ number: Int = 0) -> [Int?] {
        let driver = drivers[number]
        let layout = slots.layout
        var found: [Int?] = []
        while driver.harvest() > 0 {
            found += driver.packets.map { packet in
                guard packet.isSplit, let base = host(layout.base) else { return nil }
                return (packet.headers - UnsafeRawPointer(base)) / layout.slotSize
            }
            driver.forgetSlots()
            driver.finish()
        }
        driver.refill()
        return found
    }
}

/// Enqueues `count` small packets.
@discardableResult
func enqueue(_ count: Int, on rq: Handle) -> Int32 {
    let set = PacketSet()
    for number in 0..<count { set.add(TestFrames.udp4([UInt8(truncatingIfNeeded: number)])) }
    var packets = set.packets
    return cleave_rq_enqueue_burst(rq, &packets, UInt32(count), nil)
}

extension CFunctions {
    @Suite("Return of header slots") struct SlotReturnTests {
        /// A rig whose driver has all 64 slots.
        private func rig(_ slotReturn: SlotReturn) throws -> CRig {
            let rig = try CRig(
                size: 128, method: .headerQueue(.usedLength), slotReturn: slotReturn)
            #expect(enqueue(64, on: try rig.attach()) == 64)
            #expect(rig.takeSlots() == Array(0..<64))
            #expect(rig.status.free == 0)
            return rig
        }

        @Test("By the ring slots come back in any order, by the tail in theirs alone")
        func order() throws {
            for slotReturn in SlotReturn.allCases {
                let rig = try rig(slotReturn)
                let isRing = slotReturn == .ring
                for slot in [5, 2] { rig.slots.retire(first: slot, count: 1) }
                #expect(rig.status.free == (isRing ? 2 : 0))
                #expect(enqueue(3, on: rig.rq!) == 3)
                #expect(rig.takeSlots() == (isRing ? [5, 2, nil] : [nil, nil, nil]))
                #expect(rig.status.claimed == (isRing ? 66 : 64))
                #expect(rig.status.broken == 0)
                #expect(rig.status.duplicates == 0)
            }
        }

        @Test("Slots go round, lap after lap", arguments: RingFormat.allCases)
        func laps(ring: RingFormat) throws {
            let rig = try CRig(
                ring: ring, size: 32, method: .headerQueue(.netHeader), slotReturn: .ring)
            let rq = try rig.attach()
            for _ in 0..<50 {
                #expect(enqueue(20, on: rq) == 20)
                #expect(rig.harvest().count == 20)
            }
            #expect(rig.counters.split == 1000)
            #expect(rig.status.claimed == 1000)
            #expect(rig.status.free == 64)
            #expect(rig.status.duplicates == 0)
        }

        @Test("A slot that is returned twice is given out once, and counted")
        func duplicates() throws {
            let rig = try rig(.ring)
            for slot in [5, 5, 2, 5] { rig.slots.retire(first: slot, count: 1) }
            #expect(enqueue(3, on: rig.rq!) == 3)
            #expect(rig.takeSlots() == [5, 2, nil])
            #expect(rig.status.duplicates == 2)
            #expect(rig.status.broken == 0)
        }

        @Test("A slot that there is not breaks the queue")
        func noSuchSlot() throws {
            let rig = try rig(.ring)
            // The first entry of the second lap.
            rig.host(try #require(rig.slots.layout.returnRing))?
                .storeBytes(of: 64 | 0x8001 << 16, as: UInt32.self)
            #expect(enqueue(1, on: rig.rq!) == 1)
            #expect(rig.takeSlots() == [nil])
            #expect(rig.status.broken != 0)
        }

        @Test("Programs built before there was a ring are served as before")
        func olderStructures() throws {
            let rig = try CRig(method: .headerQueue(.usedLength))
            let size = MemoryLayout<cleave_header_queue_config>.size
            var bytes = [UInt8](repeating: 0xee, count: size + 16)
            var config = cleave_header_queue_config()
            config.slot_size = 128
            config.slot_count = 64
            config.slots = rig.host(rig.slots.layout.base)
            config.control = rig.host(rig.slots.layout.control)
            withUnsafeBytes(of: config) { bytes.replaceSubrange(0..<32, with: $0[0..<32]) }
            func create(_ claimed: Int) -> Int32 {
                bytes.withUnsafeMutableBytes {
                    $0.storeBytes(of: UInt32(claimed), as: UInt32.self)
                    var queue: Handle?
                    let result = cleave_header_queue_create(
                        rig.memory,
                        $0.baseAddress?.assumingMemoryBound(
                            to: cleave_header_queue_config.self), &queue)
                    if result == 0 { cleave_header_queue_destroy(queue) }
                    return result
                }
            }
            #expect(create(31) == -EINVAL)
            #expect(create(32) == 0)
            // Bytes after the members that the program knows are ignored.
            for cut in 33...40 { #expect(create(cut) == -EINVAL) }
            #expect(lastError(rig.memory) == "config->returns is not inside a memory region")
            for cut in 41...size { #expect(create(cut) == -EINVAL) }
            #expect(create(size + 1) == -E2BIG)

            var status = cleave_header_queue_status()
            status.struct_size = 24
            status.duplicates = 77
            #expect(cleave_header_queue_get_status(rig.headerQueue, &status) == 0)
            #expect(status.struct_size == 24)
            #expect(status.free == 64)
            #expect(status.duplicates == 77)
        }
    }
}
