// Every pair of public calls on related handles, from two threads. Made from the list of functions
// in the header, so that a new one takes part by itself. `make test-tsan` runs it under
// ThreadSanitizer.
import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Synchronization
import Testing

/// A guest and one handle of each kind, all made from each other as far as that can be.
private final class World: @unchecked Sendable {
    // SAFETY: handles are tokens that any thread may use; the rest is set up before there are
    // threads, and read after they have ended.

    private let allocator = WatchfulAllocator()
    let rig: CRig
    let rq: Handle
    let txq: Handle
    let engine: Handle
    let lane: Handle
    /// With a connection on which nobody says anything.
    let vhost: Handle
    private let peer = ConnectedPair()
    private let frame: UnsafeMutableRawPointer
    private let frameByteCount: Int

    init() throws {
        // Memory of an allocator, without asking the kernel: hundreds of these are made.
        rig = try CRig(
            size: 32, method: .headerQueue(.usedLength), slotReturn: .ring, drivers: 3,
            context: allocator.callbacks, pages: .small)
        var first = rig.config(0)
        rq = try made { [rig] in cleave_rq_create(rig.memory, &first, $0) }
        engine = try #require(rig.makeEngine([rig.config(1)], capacity: 64).engine)
        lane = try made { [engine] in cleave_engine_get_lane(engine, 0, $0) }
        // Over the buffers of the third driver, which a transmit queue may not read.
        var config = rig.txqConfig
        let third = rig.config(2)
        config.descriptor_area = third.descriptor_area
        config.driver_area = third.driver_area
        config.device_area = third.device_area
        txq = try made { [rig] in cleave_txq_create(rig.memory, &config, $0) }
        var device = VhostRecorder.config(socket: peer.near)
        vhost = try made { [rig] in cleave_vhost_create(rig.context, &device, $0) }
        let bytes = TestFrames.udp4([1, 2, 3])
        frameByteCount = bytes.count
        frame = .allocate(byteCount: bytes.count, alignment: 8)
        frame.copyMemory(from: bytes, byteCount: bytes.count)
    }

    deinit { frame.deallocate() }

    var packet: cleave_packet {
        var packet = cleave_packet()
        packet.data = UnsafeRawPointer(frame)
        packet.length = UInt32(frameByteCount)
        return packet
    }

    /// Ends everything, children first, whatever the calls left; afterwards no handle is valid.
    func end() {
        let all: [(Handle?, (Handle?) -> Int32)] = [
            (txq, { cleave_txq_destroy($0) }), (rq, { cleave_rq_destroy($0) }),
            (engine, { cleave_engine_destroy($0) }), (vhost, { cleave_vhost_destroy($0) }),
            (rig.headerQueue, { cleave_header_queue_destroy($0) }),
            (rig.memory, { cleave_memory_destroy($0) }),
            (rig.context, { cleave_context_destroy($0) }),
        ]
        for (handle, destroy) in all {
            let result = destroy(handle)
            #expect(result == 0 || result == -EBADF)
            #expect(destroy(handle) == -EBADF)
        }
    }
}

extension CFunctions {
    @Suite("Every pair of calls") struct PairTests {
        private typealias Call = @Sendable (World) -> Int32

        /// Creates something, and ends it if that succeeded.
        private static func passing(
            _ create: (UnsafeMutablePointer<Handle?>) -> Int32, _ destroy: (Handle?) -> Int32
        ) -> Int32 {
            var handle: Handle?
            let result = create(&handle)
            if result != 0 { return result }
            var ended = destroy(handle)
            while ended == -EBUSY { ended = destroy(handle) }
            return ended
        }

        /// The call of each function of the header. Functions without a handle have none of their
        /// own to meet on, but may meet on the library's shared state.
        private static let calls: [String: Call] = [
            "cleave_abi_version": { _ in Int32(truncatingIfNeeded: cleave_abi_version()) },
            "cleave_version": { _ in cleave_version() == nil ? -1 : 0 },
            "cleave_strerror": { _ in cleave_strerror(-22) == nil ? -1 : 0 },
            "cleave_drop_name": { _ in cleave_drop_name(0) == nil ? -1 : 0 },
            "cleave_fallback_name": { _ in cleave_fallback_name(0) == nil ? -1 : 0 },
            "cleave_fault_name": { _ in cleave_fault_name(1) == nil ? -1 : 0 },
            "cleave_txq_drop_name": { _ in cleave_txq_drop_name(0) == nil ? -1 : 0 },
            "cleave_last_error": { world in
                var text: (UInt64, UInt64) = (0, 0)
                return withUnsafeMutableBytes(of: &text) {
                    cleave_last_error(
                        UnsafeRawPointer(world.rq),
                        $0.baseAddress?.assumingMemoryBound(to: CChar.self), 16)
                }
            },
            "cleave_context_create": { _ in
                passing({ cleave_context_create(nil, $0) }, { cleave_context_destroy($0) })
            },
            "cleave_context_destroy": { cleave_context_destroy($0.rig.context) },
            "cleave_memory_create": { world in
                var region = CRig.region(world.rig.space)
                return withUnsafePointer(to: &region) { regions in
                    var table = cleave_memory_config(
                        struct_size: UInt32(MemoryLayout<cleave_memory_config>.size),
                        region_count: 1, regions: regions, same_guest_as: nil)
                    return passing(
                        { cleave_memory_create(world.rig.context, &table, $0) },
                        { cleave_memory_destroy($0) })
                }
            },
            "cleave_memory_destroy": { cleave_memory_destroy($0.rig.memory) },
            "cleave_memory_translate": { world in
                var host: UnsafeMutableRawPointer?
                return cleave_memory_translate(
                    world.rig.memory, GuestSpace.guestBase.rawValue, 16, &host)
            },
            "cleave_header_queue_create": { world in
                var config = cleave_header_queue_config()
                config.struct_size = 32
                let layout = world.rig.slots.layout
                config.slot_size = UInt32(layout.slotSize)
                config.slot_count = UInt32(layout.slotCount)
                config.slots = world.rig.host(layout.base)
                config.control = world.rig.host(layout.control)
                return passing(
                    { cleave_header_queue_create(world.rig.memory, &config, $0) },
                    { cleave_header_queue_destroy($0) })
            },
            "cleave_header_queue_destroy": { cleave_header_queue_destroy($0.rig.headerQueue) },
            "cleave_header_queue_get_status": { world in
                var status = cleave_header_queue_status()
                status.struct_size = 32
                return cleave_header_queue_get_status(world.rig.headerQueue, &status)
            },
            "cleave_header_queue_get_base": { world in
                var base: UInt32 = 0
                return cleave_header_queue_get_base(world.rig.headerQueue, &base)
            },
            "cleave_header_queue_reset": { cleave_header_queue_reset($0.rig.headerQueue) },
            "cleave_rq_create": { world in
                // Another method, so that no ring is used by two.
                var config = world.rig.config(2)
                config.method = CLEAVE_METHOD_D.rawValue
                config.report = CLEAVE_REPORT_USED_LENGTH.rawValue
                return passing(
                    { cleave_rq_create(world.rig.memory, &config, $0) }, { cleave_rq_destroy($0) })
            },
            "cleave_rq_enqueue_burst": { world in
                var packet = world.packet
                var events: UInt32 = 0
                return cleave_rq_enqueue_burst(world.rq, &packet, 1, &events)
            },
            "cleave_rq_enqueue_refs": { world in
                let packet = world.packet
                var ref = cleave_ref(data: packet.data, length: packet.length, flags: 0, cookie: 0)
                return cleave_rq_enqueue_refs(world.rq, &ref, 1, nil)
            },
            "cleave_rq_stop": { cleave_rq_stop($0.rq, nil) },
            "cleave_rq_destroy": { cleave_rq_destroy($0.rq) },
            "cleave_rq_get_counters": { world in
                var counters = cleave_counters()
                counters.struct_size = 400
                return cleave_rq_get_counters(world.rq, &counters)
            },
            "cleave_txq_create": { world in
                var config = world.rig.txqConfig
                config.size = 1
                return passing(
                    { cleave_txq_create(world.rig.memory, &config, $0) },
                    { cleave_txq_destroy($0) })
            },
            "cleave_txq_dequeue_burst": { world in
                var packet = cleave_packet()
                return cleave_txq_dequeue_burst(world.txq, &packet, 1, nil)
            },
            "cleave_txq_complete": { cleave_txq_complete($0.txq, 0, nil) },
            "cleave_txq_set_kicks": { cleave_txq_set_kicks($0.txq, 1) },
            "cleave_txq_stop": { cleave_txq_stop($0.txq, nil) },
            "cleave_txq_destroy": { cleave_txq_destroy($0.txq) },
            "cleave_txq_get_counters": { world in
                var counters = cleave_txq_counters()
                counters.struct_size = 184
                return cleave_txq_get_counters(world.txq, &counters)
            },
            "cleave_engine_create": { world in
                passing(
                    {
                        let made = world.rig.makeEngine([world.rig.config(2)], capacity: 64)
                        $0.pointee = made.engine
                        return made.result
                    }, { cleave_engine_destroy($0) })
            },
            "cleave_engine_start": { cleave_engine_start($0.engine) },
            "cleave_engine_drain": { cleave_engine_drain($0.engine, 0) },
            "cleave_engine_stop": { cleave_engine_stop($0.engine) },
            "cleave_engine_destroy": { cleave_engine_destroy($0.engine) },
            "cleave_engine_get_lane": { world in
                var lane: Handle?
                return cleave_engine_get_lane(world.engine, 0, &lane)
            },
            "cleave_lane_submit": { world in
                var packet = world.packet
                return cleave_lane_submit(world.lane, &packet, 1)
            },
            "cleave_lane_reap": { world in
                var completion = cleave_completion()
                return cleave_lane_reap(world.lane, &completion, 1)
            },
            "cleave_lane_turn": { cleave_lane_turn($0.lane) },
            "cleave_lane_get_counters": { world in
                var counters = cleave_counters()
                counters.struct_size = 400
                return cleave_lane_get_counters(world.lane, &counters)
            },
            "cleave_lane_get_base": { world in
                var base: UInt16 = 0
                return cleave_lane_get_base(world.lane, &base)
            },
            "cleave_vhost_create": { world in
                let pair = ConnectedPair()
                var config = VhostRecorder.config(socket: pair.near)
                return passing(
                    { cleave_vhost_create(world.rig.context, &config, $0) },
                    { cleave_vhost_destroy($0) })
            },
            "cleave_vhost_destroy": { cleave_vhost_destroy($0.vhost) },
            "cleave_vhost_get_fd": { min(0, cleave_vhost_get_fd($0.vhost)) },
            "cleave_vhost_poll": { cleave_vhost_poll($0.vhost) },
            "cleave_vhost_get_status": { world in
                var status = cleave_vhost_status()
                status.struct_size = 72
                return cleave_vhost_get_status(world.vhost, &status)
            },
            "cleave_vhost_describe": { world in
                var text: (UInt64, UInt64) = (0, 0)
                return withUnsafeMutableBytes(of: &text) {
                    cleave_vhost_describe(
                        world.vhost, $0.baseAddress?.assumingMemoryBound(to: CChar.self), 16)
                }
            },
        ]

        /// The same functions under the names of older headers.
        private static let earlierNames: Set = [
            "cleave_rq_counters", "cleave_engine_lane", "cleave_lane_counters", "cleave_lane_base",
        ]

        @Test("The list has every function of the header")
        func completeness() throws {
            let map = try String(
                contentsOf: LibraryTests.root.appendingPathComponent("Sources/CCleave/cleave.map"),
                encoding: .utf8)
            let exported = Set(map.matches(of: /(cleave_[a-z0-9_]+);/).map { String($0.1) })
            #expect(exported == Self.earlierNames.union(Self.calls.keys))
        }

        /// Results that calls may have when they meet.
        private static let allowed: Set = [-EBUSY, -EBADF, -ESHUTDOWN, -ETIMEDOUT]
        private static let roundCount = 8

        /// Runs a call several times; gives the first result that is not allowed.
        private static func run(
            _ call: Call, _ world: World, _ ready: borrowing Atomic<Int>
        ) -> Int32? {
            ready.add(1, ordering: .relaxed)
            while ready.load(ordering: .relaxed) < 2 {}
            for _ in 0..<roundCount {
                let result = call(world)
                if result < 0 && !allowed.contains(result) { return result }
            }
            return nil
        }

        @Test("No pair does harm; both give what the header says", arguments: calls.keys.sorted())
        func pair(name: String) throws {
            let first = try #require(Self.calls[name])
            for (other, second) in Self.calls.sorted(by: { $0.key < $1.key }) where other >= name {
                let world = try World()
                let ready = Atomic<Int>(0)
                let strange = Atomic<Int32>(0)
                let thread = try PinnedThread(name: "pair", cpu: nil) {
                    if let result = Self.run(second, world, ready) {
                        strange.store(result, ordering: .relaxed)
                    }
                }
                let result = Self.run(first, world, ready)
                thread.join()
                #expect(result == nil, "\(name) beside \(other)")
                #expect(strange.load(ordering: .relaxed) == 0, "\(other) beside \(name)")
                for driver in world.rig.drivers {
                    while driver.harvest() > 0 { driver.finish() }
                    #expect(driver.fault == .none, "\(name) beside \(other)")
                }
                world.end()
            }
        }
    }
}
