// Additions to the rig for single suites: engines over its drivers, and a guest that sends.
import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

extension CRig {
    /// An engine over queues as they are configured.
    func makeEngine(
        _ queues: [cleave_rq_config], capacity: UInt32 = 0
    ) -> (result: Int32, engine: Handle?) {
        var config = cleave_engine_config()
        config.struct_size = UInt32(MemoryLayout<cleave_engine_config>.size)
        config.queue_count = UInt32(queues.count)
        config.ring_capacity = capacity
        var handle: Handle?
        let result = queues.withUnsafeBufferPointer { queues in
            config.queues = queues.baseAddress
            return cleave_engine_create(memory, &config, &handle)
        }
        return (result, handle)
    }

    /// A transmit queue over the ring of the first driver, whose buffers cannot be sent.
    var txqConfig: cleave_txq_config {
        var config = cleave_txq_config()
        config.struct_size = UInt32(MemoryLayout<cleave_txq_config>.size)
        config.features = self.config.features
        config.size = self.config.size
        config.descriptor_area = self.config.descriptor_area
        config.driver_area = self.config.driver_area
        config.device_area = self.config.device_area
        config.last_avail = self.config.last_avail
        config.last_used = self.config.last_used
        return config
    }
}

/// A guest that sends over a split ring, and the C functions as its device.
final class TransmitRig {
    let guest: EvilGuest
    private var ring: EvilRing
    let context: Handle
    let memory: Handle
    private(set) var txq: Handle?
    var config = cleave_txq_config()
    private var sentCount = 0

    static let ringAddress: UInt64 = 0x1_0000
    static let dataAddress: UInt64 = 0x2_0000

    init(size: Int = 64) throws {
        let guest = try EvilGuest()
        self.guest = guest
        ring = EvilRing(guest, size: size, at: Self.ringAddress)
        let context = try made { cleave_context_create(nil, $0) }
        self.context = context
        memory = try made { handle in
            let region = guest.regions[0]
            var table = cleave_region(
                guest_address: region.base, size: UInt64(region.byteCount),
                host: guest.pointer(region.base), reserved: 0)
            return withUnsafePointer(to: &table) { regions in
                var config = cleave_memory_config(
                    struct_size: UInt32(MemoryLayout<cleave_memory_config>.size), region_count: 1,
                    regions: regions, same_guest_as: nil)
                return cleave_memory_create(context, &config, handle)
            }
        }
        config.struct_size = UInt32(MemoryLayout<cleave_txq_config>.size)
        config.features = CRig.features
        config.size = UInt32(size)
        config.descriptor_area = guest.pointer(ring.descriptorTable)
        config.driver_area = guest.pointer(ring.availRing)
        config.device_area = guest.pointer(ring.usedRing)
    }

    deinit {
        cleave_txq_destroy(txq)
        cleave_memory_destroy(memory)
        cleave_context_destroy(context)
    }

    func attach() throws -> Handle {
        let handle = try made { cleave_txq_create(memory, &config, $0) }
        txq = handle
        return handle
    }

    /// Sends packets of one descriptor each.
    func send(count: Int) {
        for _ in 0..<count {
            let head = sentCount % ring.size
            let bytes = [UInt8](repeating: 0, count: 12) + TestFrames.udp4([UInt8(head)])
            let address = Self.dataAddress + UInt64(256 * head)
            guest.write(bytes, at: address)
            ring.describe(head, address, bytes.count, flags: 0)
            ring.post(head)
            sentCount += 1
        }
    }

    var usedIndex: UInt16 { ring.usedIndex }
}

/// An allocator that can refuse, and that notes whether it was called after its context was gone.
final class WatchfulAllocator: Sendable {
    let refuses = Atomic<Bool>(false)
    let isGone = Atomic<Bool>(false)
    let lateCalls = Atomic<Int>(0)
    let outstanding = Atomic<Int>(0)

    private func note() {
        if isGone.load(ordering: .sequentiallyConsistent) {
            lateCalls.add(1, ordering: .relaxed)
        }
    }

    var callbacks: cleave_context_config {
        var config = cleave_context_config()
        config.struct_size = UInt32(MemoryLayout<cleave_context_config>.size)
        config.user = Unmanaged.passUnretained(self).toOpaque()
        config.allocate = { user, size, alignment, _ in
            let allocator = Unmanaged<WatchfulAllocator>.fromOpaque(user!).takeUnretainedValue()
            allocator.note()
            if allocator.refuses.load(ordering: .relaxed) { return nil }
            allocator.outstanding.add(1, ordering: .relaxed)
            return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
        }
        config.release = { user, memory, _ in
            let allocator = Unmanaged<WatchfulAllocator>.fromOpaque(user!).takeUnretainedValue()
            allocator.note()
            allocator.outstanding.subtract(1, ordering: .relaxed)
            free(memory)
        }
        return config
    }
}
