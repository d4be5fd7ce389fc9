import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveCAPI

extension CFunctions {
    /// Callers that do what the header forbids: every one gets an errno, none a trap.
    @Suite("Hostile caller") struct HostileCallerTests {
        /// Every function that takes a handle, called on one handle; with NULL for all else.
        private static let calls: [(name: String, call: @Sendable (Handle?) -> Int32)] = [
            ("context_destroy", { cleave_context_destroy($0) }),
            ("memory_create", { cleave_memory_create($0, nil, nil) }),
            ("memory_destroy", { cleave_memory_destroy($0) }),
            ("memory_translate", { cleave_memory_translate($0, 0, 0, nil) }),
            ("header_queue_create", { cleave_header_queue_create($0, nil, nil) }),
            ("header_queue_destroy", { cleave_header_queue_destroy($0) }),
            ("header_queue_get_status", { cleave_header_queue_get_status($0, nil) }),
            ("header_queue_get_base", { cleave_header_queue_get_base($0, nil) }),
            ("header_queue_reset", { cleave_header_queue_reset($0) }),
            ("rq_create", { cleave_rq_create($0, nil, nil) }),
            ("rq_enqueue_burst", { cleave_rq_enqueue_burst($0, nil, 1, nil) }),
            ("rq_stop", { cleave_rq_stop($0, nil) }),
            ("rq_destroy", { cleave_rq_destroy($0) }),
            ("rq_counters", { cleave_rq_get_counters($0, nil) }),
            ("txq_create", { cleave_txq_create($0, nil, nil) }),
            ("txq_dequeue_burst", { cleave_txq_dequeue_burst($0, nil, 1, nil) }),
            ("txq_complete", { cleave_txq_complete($0, 0, nil) }),
            ("txq_set_kicks", { cleave_txq_set_kicks($0, 1) }),
            ("txq_stop", { cleave_txq_stop($0, nil) }),
            ("txq_destroy", { cleave_txq_destroy($0) }),
            ("txq_get_counters", { cleave_txq_get_counters($0, nil) }),
            ("engine_create", { cleave_engine_create($0, nil, nil) }),
            ("engine_start", { cleave_engine_start($0) }),
            ("engine_drain", { cleave_engine_drain($0, 1) }),
            ("engine_stop", { cleave_engine_stop($0) }),
            ("engine_destroy", { cleave_engine_destroy($0) }),
            ("engine_lane", { cleave_engine_get_lane($0, 0, nil) }),
            ("lane_submit", { cleave_lane_submit($0, nil, 1) }),
            ("lane_reap", { cleave_lane_reap($0, nil, 1) }),
            ("lane_turn", { cleave_lane_turn($0) }),
            ("lane_base", { cleave_lane_get_base($0, nil) }),
            ("lane_counters", { cleave_lane_get_counters($0, nil) }),
            ("vhost_create", { cleave_vhost_create($0, nil, nil) }),
            ("vhost_destroy", { cleave_vhost_destroy($0) }),
            ("vhost_get_fd", { cleave_vhost_get_fd($0) }),
            ("vhost_poll", { cleave_vhost_poll($0) }),
            ("vhost_get_status", { cleave_vhost_get_status($0, nil) }),
            ("vhost_describe", { cleave_vhost_describe($0, nil, 1) }),
        ]

        @Test("NULL, stale and foreign handles are refused by every function")
        func handles() throws {
            let rig = try CRig()
            let stale = try rig.attach()
            #expect(cleave_rq_destroy(stale) == 0)
            var local = 0
            let address = withUnsafeMutablePointer(to: &local) { Handle($0) }
            let noise = [1, 0x10000, 0x7fff_ffff_ffff, -1, -4096].map { Handle(bitPattern: $0) }
            for (name, call) in Self.calls {
                #expect(call(nil) == -EINVAL, "\(name) of NULL")
                for handle in [stale, address] + noise {
                    #expect(call(handle) == -EBADF, "\(name) of a foreign handle")
                }
            }
            var text = [CChar](repeating: 1, count: 4)
            #expect(cleave_last_error(nil, &text, 4) == -EINVAL)
            #expect(cleave_last_error(UnsafeRawPointer(stale), &text, 4) == -EBADF)
        }

        @Test("A handle of another type is refused")
        func types() throws {
            let rig = try CRig(method: .headerQueue(.usedLength))
            let rq = try rig.attach()
            let handles: [(prefix: String, handle: Handle?)] = [
                ("context_", rig.context), ("memory_", rig.memory), ("rq_", rq),
                ("header_queue_", rig.headerQueue),
            ]
            let takers = [
                "memory_create": "context_", "header_queue_create": "memory_",
                "rq_create": "memory_", "txq_create": "memory_", "engine_create": "memory_",
                "vhost_create": "context_",
            ]
            for (name, call) in Self.calls {
                for (prefix, handle) in handles {
                    let wanted = takers[name] ?? handles.map(\.prefix).first { name.hasPrefix($0) }
                    if wanted != prefix { #expect(call(handle) == -EBADF, "\(name) of \(prefix)") }
                }
            }
        }

        @Test("Nothing goes before what was made from it, and nothing goes twice")
        func order() throws {
            let rig = try CRig(method: .headerQueue(.usedLength))
            let rq = try rig.attach()
            #expect(cleave_context_destroy(rig.context) == -EBUSY)
            #expect(lastError(rig.context) == "1 objects made from it are left")
            #expect(cleave_memory_destroy(rig.memory) == -EBUSY)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == -EBUSY)
            #expect(cleave_rq_destroy(rq) == 0)
            #expect(cleave_rq_destroy(rq) == -EBADF)
            #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)
            #expect(cleave_memory_destroy(rig.memory) == 0)
            #expect(cleave_memory_destroy(rig.memory) == -EBADF)
            #expect(cleave_context_destroy(rig.context) == 0)
            #expect(cleave_context_destroy(rig.context) == -EBADF)
        }

        @Test("Packets are checked before anything is read")
        func packets() throws {
            let rig = try CRig()
            let rq = try rig.attach()
            let set = PacketSet()
            set.add(TestFrames.udp4([1, 2, 3]), cuts: [20])
            let good = set.packets[0]
            func refused(_ change: (inout cleave_packet) -> Void) -> (Int32, String) {
                var packet = good
                change(&packet)
                let result = cleave_rq_enqueue_burst(rq, &packet, 1, nil)
                return (result, lastError(rq))
            }
            #expect(refused { $0.data = nil } == (-EINVAL, "packets[0].data is NULL"))
            #expect(refused { $0.more = nil } == (-EINVAL, "packets[0].more is NULL"))
            #expect(
                refused { $0.more_count = 64 }
                    == (-EINVAL, "packets[0].more_count is 64, more than 63"))
            #expect(refused { $0.more_count = .max }.0 == -EINVAL)
            #expect(refused { $0.length = 0 }.0 == -EINVAL)
            for change: (inout cleave_packet) -> Void in [
                { $0.net_flags = 1 }, { $0.gso_type = 1 }, { $0.gso_size = 1 },
                { $0.csum_start = 1 }, { $0.csum_offset = 1 }, { $0.hash_value = 1 },
                { $0.hash_report = 1 },
            ] {
                // Accepted: fields that the driver did not negotiate are left out, or drop the
                // packet.
                #expect(refused(change).0 == 1)
            }
            #expect(rig.counters.packets == 5)
            #expect(refused { ($0.hash_value, $0.more_count) = (1, 63) }.0 == -EINVAL)
            var hole = cleave_segment(data: nil, length: 5, reserved: 0)
            #expect(
                withUnsafePointer(to: &hole) { segment in refused { $0.more = segment } }.0
                    == -EINVAL)
            // An empty piece may point anywhere.
            hole.length = 0
            #expect(
                withUnsafePointer(to: &hole) { segment in refused { $0.more = segment } }.0 == 1)
            #expect(cleave_rq_enqueue_burst(rq, nil, 1, nil) == -EINVAL)
            var packet = good
            #expect(cleave_rq_enqueue_burst(rq, &packet, .max, nil) == -EINVAL)
            #expect(cleave_rq_enqueue_burst(rq, &packet, 0, nil) == 0)
            #expect(rig.counters.packets == 6)
        }

        @Test("What comes before a malformed packet is placed, what comes behind is not")
        func malformedInTheMiddle() throws {
            for position in [1, 5, 9] {
                let rig = try CRig(size: 32)
                rig.config.burst = 4
                let rq = try rig.attach()
                let set = PacketSet()
                for number in 0..<12 {
                    set.add(TestFrames.udp4(TestFrames.payload(50, seed: number)))
                }
                var packets = set.packets
                packets[position].data = nil
                #expect(cleave_rq_enqueue_burst(rq, &packets, 12, nil) == Int32(position))
                #expect(rig.harvest().count == position)
            }
        }

        @Test("Packets of impossible length are dropped and counted, not read")
        func lengths() throws {
            let rig = try CRig()
            let rq = try rig.attach()
            var byte: UInt8 = 0
            let count = withUnsafeMutablePointer(to: &byte) { pointer in
                var packets = [UInt32(1), 13, 65590, .max].map { length in
                    var packet = cleave_packet()
                    packet.data = UnsafeRawPointer(pointer)
                    packet.length = length
                    return packet
                }
                let count = cleave_rq_enqueue_burst(rq, &packets, 4, nil)
                #expect(packets.allSatisfy { $0.flags == UInt16(CLEAVE_PACKET_DROPPED.rawValue) })
                return count
            }
            #expect(count == 4)
            #expect(rig.counters.dropped.0 == 2)
            #expect(rig.counters.dropped.1 == 2)
            #expect(rig.counters.packets == 0)
        }

        @Test("Sizes of structures: older is understood, newer only if it asks for nothing")
        func structSizes() throws {
            let rig = try CRig()
            let size = MemoryLayout<cleave_rq_config>.size
            var bytes = [UInt8](repeating: 0, count: size + 64)
            withUnsafeBytes(of: rig.config) { bytes.replaceSubrange(0..<size, with: $0) }
            func create(_ claimed: Int) -> Int32 {
                bytes.withUnsafeMutableBytes {
                    $0.storeBytes(of: UInt32(claimed), as: UInt32.self)
                    var rq: Handle?
                    let result = cleave_rq_create(
                        rig.memory,
                        $0.baseAddress?.assumingMemoryBound(to: cleave_rq_config.self), &rq)
                    if result == 0 { cleave_rq_destroy(rq) }
                    return result
                }
            }
            #expect(create(0) == -EINVAL)
            // The size of the first published version.
            let least = cleave_rq_config.firstByteCount
            #expect(create(least - 1) == -EINVAL)
            #expect(lastError(rig.memory).contains("struct_size is \(least - 1)"))
            for known in least...size { #expect(create(known) == 0) }
            #expect(create(size + 64) == 0)
            bytes[size + 63] = 1
            #expect(create(size + 64) == -E2BIG)
            #expect(create(size + 63) == 0)
            #expect(create(0x7fff_ffff) == -E2BIG)
        }

        @Test("Counters fill as much as the caller has")
        func partialCounters() throws {
            let rig = try CRig()
            let rq = try rig.attach()
            var counters = cleave_counters()
            counters.struct_size = 16
            counters.bytes = 77
            #expect(cleave_rq_get_counters(rq, &counters) == 0)
            #expect(counters.struct_size == 16)
            #expect(counters.bytes == 77)
            counters.struct_size = 7
            #expect(cleave_rq_get_counters(rq, &counters) == -EINVAL)
            counters.struct_size = 4096
            #expect(cleave_rq_get_counters(rq, &counters) == 0)
            #expect(counters.struct_size == UInt32(MemoryLayout<cleave_counters>.size))
            #expect(counters.bytes == 0)
        }

        @Test("The text of an error is cut to the caller's room")
        func errorText() throws {
            let rig = try CRig()
            #expect(cleave_rq_create(rig.memory, nil, nil) == -EINVAL)
            let whole = lastError(rig.memory)
            #expect(whole == "rq is NULL")
            var text = [CChar](repeating: 9, count: 5)
            #expect(
                cleave_last_error(UnsafeRawPointer(rig.memory), &text, 4) == Int32(whole.utf8.count)
            )
            #expect(text == [114, 113, 32, 0, 9])
            #expect(cleave_last_error(UnsafeRawPointer(rig.memory), nil, 0) == 10)
            #expect(cleave_last_error(UnsafeRawPointer(rig.memory), nil, 1) == -EINVAL)
        }
    }
}
