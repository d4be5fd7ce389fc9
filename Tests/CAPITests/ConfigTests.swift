import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension CFunctions {
    @Suite("Configurations") struct ConfigTests {
        private typealias Change = @Sendable (inout cleave_rq_config, CRig) -> Void

        /// Configurations that an RQ refuses, the result, and a part of the sentence.
        private static let refused: [(change: Change, result: Int32, words: String)] = [
            ({ config, _ in config.flags = 1 << 6 }, -EINVAL, "flags 0x40"),
            (
                { config, _ in
                    config.use(CLEAVE_METHOD_B)
                    config.features &= ~(1 << 15)
                }, -EINVAL, "MRG_RXBUF"
            ),
            (
                { config, _ in
                    config.use(CLEAVE_METHOD_C)
                    config.header_buffer_size = 63
                }, -EINVAL, "size 63"
            ),
            ({ config, _ in config.return_ring = 1 }, -EINVAL, "return_ring is 1"),
            ({ config, _ in config.method = 5 }, -EINVAL, "method 5"),
            ({ config, _ in config.report = 3 }, -EINVAL, "report 3"),
            // What a configuration says that names none, and what programs of earlier versions do.
            (
                { config, _ in config.report = 0 }, -EINVAL,
                "report is 0: method 4 (CLEAVE_METHOD_D) needs CLEAVE_REPORT_USED_LENGTH (2) or "
                    + "CLEAVE_REPORT_NET_HEADER (1)"
            ),
            (
                { config, _ in config.header_queue = nil }, -EINVAL,
                "header_queue is NULL: method 4 (CLEAVE_METHOD_D) needs one"
            ),
            ({ config, rig in config.header_queue = rig.memory }, -EBADF, "header_queue"),
            ({ config, _ in config.burst = 257 }, -EINVAL, "burst 257"),
            ({ config, _ in config.split_threshold = .max }, -EINVAL, "split_threshold"),
            ({ config, _ in config.size = 0 }, -EINVAL, "size 0"),
            ({ config, _ in config.size = 12 }, -EINVAL, "size 12"),
            ({ config, _ in config.size = .max }, -EINVAL, "4294967295"),
            ({ config, _ in config.features = 0 }, -ENOTSUP, "VERSION_1"),
            ({ config, _ in config.features |= 1 << 26 }, -ENOTSUP, "LOG_ALL"),
            ({ config, _ in config.last_used = 1 }, -EINVAL, "differ"),
            ({ config, _ in config.descriptor_area = nil }, -EINVAL, "descriptor_area is NULL"),
            ({ config, _ in config.driver_area? += 1 }, -EINVAL, "aligned"),
            ({ config, _ in config.device_area? += 2 }, -EINVAL, "aligned"),
            (
                { config, rig in
                    config.device_area = rig.space.arena.base + rig.space.arena.byteCount
                }, -EINVAL, "device_area is not inside"
            ),
            (
                { config, rig in
                    config.device_area = rig.space.arena.base + rig.space.arena.byteCount - 4
                }, -EINVAL, "not in one memory region"
            ),
            (
                { config, _ in
                    config.flags = CLEAVE_RQ_CALL_FD.rawValue
                    config.call_fd = -1
                }, -EINVAL, "call_fd is -1"
            ),
            (
                { config, _ in
                    config.flags = CLEAVE_RQ_NODE.rawValue
                    config.node = -1
                }, -EINVAL, "node is -1"
            ),
            (
                { config, _ in
                    config.flags = CLEAVE_RQ_NODE.rawValue
                    config.node = 999
                }, -EINVAL, "node 999"
            ),
        ]

        @Test("Whatever cannot be is refused by name, and leaves nothing behind")
        func refusals() throws {
            for (change, result, words) in Self.refused {
                let rig = try CRig(method: .headerQueue(.usedLength))
                change(&rig.config, rig)
                var rq: Handle?
                #expect(cleave_rq_create(rig.memory, &rig.config, &rq) == result, "\(words)")
                #expect(rq == nil)
                #expect(lastError(rig.memory).contains(words), "\(lastError(rig.memory))")
                // Nothing keeps the memory in use.
                #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)
                #expect(cleave_memory_destroy(rig.memory) == 0)
            }
        }

        /// What only some methods obey: how to set it, its name, and which methods are those.
        private static let settings: [(set: Change, name: String, users: Set<UInt32>)] = [
            ({ $0.header_queue = $1.headerQueue }, "header_queue", [4]),
            ({ config, _ in config.report = 2 }, "report", [4]),
            ({ config, _ in config.flags |= CLEAVE_RQ_TINY.rawValue }, "CLEAVE_RQ_TINY", [4]),
            (
                { config, _ in config.flags |= CLEAVE_RQ_ZERO_PAD.rawValue },
                "CLEAVE_RQ_ZERO_PAD", [4]
            ),
            ({ config, _ in config.split_threshold = 1 }, "split_threshold", [1, 2, 3, 4]),
            ({ config, _ in config.header_buffer_size = 64 }, "header_buffer_size", [3]),
        ]

        @Test(
            "What is set is obeyed or refused by its name, whatever the method",
            arguments: 0...4 as ClosedRange<UInt32>)
        func nothingIsIgnored(method: UInt32) throws {
            for (set, name, users) in Self.settings {
                let rig = try CRig(method: .headerQueue(.usedLength))
                if method != CLEAVE_METHOD_D.rawValue { rig.config.use(cleave_method(method)) }
                set(&rig.config, rig)
                var rq: Handle?
                let result = cleave_rq_create(rig.memory, &rig.config, &rq)
                if users.contains(method) {
                    #expect(result == 0, "\(name): \(lastError(rig.memory))")
                    #expect(cleave_rq_destroy(rq) == 0)
                } else {
                    #expect(result == -EINVAL && rq == nil)
                    let words = "\(name) is set, and method \(method) ignores it"
                    #expect(lastError(rig.memory).hasPrefix(words), "\(lastError(rig.memory))")
                }
                #expect(cleave_header_queue_destroy(rig.headerQueue) == 0)
            }
        }

        @Test("A header queue of another guest is refused")
        func isolation() throws {
            let mine = try CRig(method: .headerQueue(.usedLength))
            let theirs = try CRig(method: .headerQueue(.usedLength))
            mine.config.header_queue = theirs.headerQueue
            var rq: Handle?
            #expect(cleave_rq_create(mine.memory, &mine.config, &rq) == -EINVAL)
            #expect(lastError(mine.memory).contains("belongs to another guest"))
        }

        @Test("Memory tables are checked")
        func memory() throws {
            let rig = try CRig()
            let good = CRig.region(rig.space)
            var table = cleave_memory_config()
            table.struct_size = UInt32(MemoryLayout<cleave_memory_config>.size)
            var memory: Handle?
            func create(_ regions: [cleave_region], count: Int? = nil) -> Int32 {
                regions.withUnsafeBufferPointer {
                    table.regions = $0.baseAddress
                    table.region_count = UInt32(count ?? regions.count)
                    return cleave_memory_create(rig.context, &table, &memory)
                }
            }
            #expect(create([good], count: 0) == -EINVAL)
            #expect(create([good], count: 65) == -EINVAL)
            #expect(create([good, good]) == -EINVAL)
            #expect(lastError(rig.context).contains("overlap"))
            var bad = good
            bad.size = 0
            #expect(create([bad]) == -EINVAL)
            bad.size = .max
            #expect(create([bad]) == -EINVAL)
            bad = good
            bad.guest_address = .max - 5
            #expect(create([bad]) == -EINVAL)
            bad = good
            bad.host = nil
            #expect(create([bad]) == -EINVAL)
            bad = good
            bad.reserved = 1
            #expect(create([bad]) == -EINVAL)
            table.regions = nil
            table.region_count = 1
            #expect(cleave_memory_create(rig.context, &table, &memory) == -EINVAL)
            #expect(memory == nil)
            var host: UnsafeMutableRawPointer?
            let start = GuestSpace.guestBase.rawValue
            for (address, size) in [
                (UInt64(0), UInt64(1)), (start, .max), (.max, .max), (start - 1, 2),
            ] {
                #expect(cleave_memory_translate(rig.memory, address, size, &host) == -EINVAL)
            }
            #expect(cleave_memory_translate(rig.memory, start, 1, nil) == -EINVAL)
            #expect(cleave_memory_translate(rig.memory, start + 9, 5, &host) == 0)
            #expect(host == rig.space.arena.base + 9)
        }

        @Test("Header queues are checked")
        func headerQueues() throws {
            let rig = try CRig()
            var config = cleave_header_queue_config()
            config.struct_size = UInt32(MemoryLayout<cleave_header_queue_config>.size)
            config.slot_size = 128
            config.slot_count = 8
            config.slots = rig.space.arena.base
            config.control = rig.space.arena.base + 4096
            var queue: Handle?
            func refused(_ change: (inout cleave_header_queue_config) -> Void) -> Bool {
                var changed = config
                change(&changed)
                return cleave_header_queue_create(rig.memory, &changed, &queue) == -EINVAL
            }
            #expect(refused { $0.slot_size = 100 })
            #expect(refused { $0.slot_size = .max })
            #expect(refused { $0.slot_count = 0 })
            #expect(refused { $0.slot_count = 3 })
            #expect(refused { $0.slot_count = 65536 })
            #expect(refused { $0.reserved = 1 })
            #expect(refused { $0.group_size = 2 })
            #expect(refused { $0.group_rings = 2 })
            let wrong: [(UInt32, UInt32)] = [(2, 0), (2, 3), (2, 16), (129, 1), (1 << 31, 1)]
            for (rings, size) in wrong {
                #expect(
                    refused {
                        $0.returns = rig.space.arena.base + 8192
                        ($0.group_rings, $0.group_size) = (rings, size)
                    }, "\(rings) \(size)")
            }
            #expect(refused { $0.slots = nil })
            #expect(refused { $0.slots? += 8 })
            #expect(refused { $0.control? += 64 })
            #expect(refused { $0.control = $0.slots.map { $0 + rig.space.arena.byteCount - 128 } })
            config.returns = config.control.map { $0 + 256 }
            #expect(refused { $0.returns? += 4 })
            #expect(refused { $0.returns = $0.slots.map { $0 + rig.space.arena.byteCount } })
            #expect(refused { $0.returns = $0.slots.map { $0 - 64 } })
            config.slot_count = 32
            #expect(
                refused { $0.returns = $0.slots.map { $0 + rig.space.arena.byteCount - 64 } })
            #expect(queue == nil)
            #expect(cleave_header_queue_create(rig.memory, &config, &queue) == 0)
            #expect(cleave_header_queue_destroy(queue) == 0)
        }

        @Test("The program's allocator is used, balanced, and may fail")
        func allocator() throws {
            let allocator = CountingAllocator()
            for failing in [false, true] {
                allocator.isFailing = failing
                let rig = try CRig(context: allocator.callbacks)
                var rq: Handle?
                let result = cleave_rq_create(rig.memory, &rig.config, &rq)
                #expect(result == (failing ? -ENOMEM : 0))
                #expect(allocator.held == (failing ? 0 : 1))
                if !failing { #expect(cleave_rq_destroy(rq) == 0) }
                #expect(allocator.held == 0)
            }
            allocator.isFailing = false
            allocator.misalignment = 8
            let rig = try CRig(context: allocator.callbacks)
            var rq: Handle?
            #expect(cleave_rq_create(rig.memory, &rig.config, &rq) == -EINVAL)
            #expect(lastError(rig.memory).contains("aligned to 128"))
            #expect(allocator.held == 0)
            var half = allocator.callbacks
            half.release = nil
            var context: Handle?
            #expect(cleave_context_create(&half, &context) == -EINVAL)
            half = cleave_context_config()
            half.struct_size = UInt32(MemoryLayout<cleave_context_config>.size)
            half.log_level = 4
            #expect(cleave_context_create(&half, &context) == -EINVAL)
        }

        @Test("Handles run out politely, and their places serve again")
        func exhaustion() {
            var contexts: [Handle] = []
            var result: Int32 = 0
            while result == 0 && contexts.count <= 20_000 {
                var context: Handle?
                result = cleave_context_create(nil, &context)
                if let context { contexts.append(context) }
            }
            #expect(result == -ENOSPC)
            #expect(contexts.count > 16_000)
            #expect(Set(contexts).count == contexts.count)
            for context in contexts { #expect(cleave_context_destroy(context) == 0) }
            var again: Handle?
            #expect(cleave_context_create(nil, &again) == 0)
            #expect(!contexts.contains { $0 == again })
            #expect(cleave_context_destroy(again) == 0)
        }
    }
}

extension cleave_rq_config {
    /// Another method than D, without what D alone obeys.
    fileprivate mutating func use(_ other: cleave_method) {
        (method, report, header_queue) = (other.rawValue, 0, nil)
    }
}

/// Counts what it gives and gets back.
private final class CountingAllocator {
    var held = 0
    var isFailing = false
    var misalignment = 0

    var callbacks: cleave_context_config {
        var config = cleave_context_config()
        config.struct_size = UInt32(MemoryLayout<cleave_context_config>.size)
        config.user = Unmanaged.passUnretained(self).toOpaque()
        config.allocate = { user, size, alignment, _ in
            let allocator = CountingAllocator.from(user)
            if allocator.isFailing { return nil }
            allocator.held += 1
            return UnsafeMutableRawPointer.allocate(byteCount: size + 128, alignment: alignment)
                + allocator.misalignment
        }
        config.release = { user, memory, _ in
            let allocator = CountingAllocator.from(user)
            allocator.held -= 1
            memory.map { ($0 - allocator.misalignment).deallocate() }
        }
        return config
    }

    private static func from(_ user: UnsafeMutableRawPointer?) -> CountingAllocator {
        // SAFETY: the pointer above; the allocator outlives its contexts in the test.
        Unmanaged<CountingAllocator>.fromOpaque(user!).takeUnretainedValue()
    }
}
