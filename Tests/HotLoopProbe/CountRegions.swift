// Buffers that alternate between two regions of guest memory, as those of a guest with memory on
// both sides of its hole below 4 GiB do.
import CCleaveTestSupport
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// A split ring whose buffers are posted again and again, in order: the simplest driver.
private final class TwoRegions {
    private static let size = 256
    private static let bufferByteCount = 2048
    private static let upperBase: UInt64 = 1 << 32
    private static let half = 1 << 20

    private let bytes: UnsafeMutableRawPointer
    private let arena: MemoryArena
    let queue: RxQueue

    init() throws {
        bytes = .allocate(byteCount: 2 * Self.half, alignment: 4096)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: 2 * Self.half)
        let memory = try GuestMemory(regions: [
            MemoryRegion(guestBase: GuestAddress(0), host: bytes, byteCount: Self.half),
            MemoryRegion(
                guestBase: GuestAddress(Self.upperBase), host: bytes + Self.half,
                byteCount: Self.half),
        ])
        let configuration = RxQueueConfiguration(
            virtqueue: VirtqueueAddresses(
                format: .split, size: Self.size, descriptorArea: GuestAddress(0),
                driverArea: GuestAddress(0x1000), deviceArea: GuestAddress(0x2000)),
            features: .mergeableBuffers, memory: memory, method: .whole)
        arena = try MemoryArena(byteCount: configuration.arenaByteCount, pages: .small)
        queue = try RxQueue(configuration, in: arena)
        for index in 0..<Self.size {
            let offset = UInt64(0x4000 + index / 2 * Self.bufferByteCount)
            let descriptor = bytes + 16 * index
            descriptor.storeBytes(
                of: index % 2 == 0 ? offset : Self.upperBase + offset, as: UInt64.self)
            descriptor.storeBytes(
                of: UInt32(Self.bufferByteCount), toByteOffset: 8, as: UInt32.self)
            descriptor.storeBytes(of: 2, toByteOffset: 12, as: UInt16.self)
            bytes.storeBytes(
                of: UInt16(index), toByteOffset: 0x1004 + 2 * index, as: UInt16.self)
        }
    }

    deinit { bytes.deallocate() }

    func post(_ count: Int) {
        let index = bytes.load(fromByteOffset: 0x1002, as: UInt16.self)
        bytes.storeBytes(of: index &+ UInt16(count), toByteOffset: 0x1002, as: UInt16.self)
    }
}

/// Counts packets placed whole into such buffers.
func countRegions(_ pool: PacketPool, packets: Int) throws {
    let guest = try TwoRegions()
    guest.post(256)
    let refs = UnsafeMutablePointer<PacketRef>.allocate(capacity: 32)
    defer { refs.deallocate() }
    for index in 0..<32 { (refs + index).initialize(to: pool.refs[index]) }
    var lost = 0
    countPart("whole", "regions", packets: packets) {
        lost += 32 - guest.queue.enqueue(refs, count: 32).delivered
        guest.post(32)
    }
    guard lost == 0 else { throw ProbeError(description: "\(lost) packets were not placed") }
}
