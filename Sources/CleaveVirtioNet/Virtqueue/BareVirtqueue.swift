// control path
import CleaveHost

/// The device side of a virtqueue by itself: takes buffers and publishes them, with nothing placed
/// in between. What fetching and flushing cost; a device uses `RxQueue`.
///
/// One thread at a time.
public final class BareVirtqueue {
    /// Takes, uses and publishes buffers, specialised for a ring format.
    private let body: (Int, UInt32) -> Int

    /// - Parameters:
    ///   - burst: most buffers of one turn, 1 to the size of the ring.
    ///   - arena: `Self.arenaByteCount(size:burst:)` bytes of it; it must outlive the queue.
    /// - Throws: if the addresses do not hold.
    public init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory, burst: Int,
        in arena: MemoryArena
    ) throws(SetupError) {
        guard (1...addresses.size).contains(burst) else {
            throw SetupError("burst \(burst) is not between 1 and \(addresses.size)")
        }
        switch addresses.format {
        case .split:
            body = try Self.body(SplitVirtqueue.self, addresses, features, memory, burst, arena)
        case .packed:
            body = try Self.body(PackedVirtqueue.self, addresses, features, memory, burst, arena)
        }
    }

    /// Bytes that a queue takes from its arena, alignment included.
    public static func arenaByteCount(size: Int, burst: Int) -> Int {
        size * PackedVirtqueue.shadowEntryByteCount
            + burst * (MemoryLayout<Int>.stride + MemoryLayout<Segment>.stride) + 1024
    }

    /// Takes up to `count` buffers of one descriptor, at most a burst, says of each that
    /// `byteCount` bytes were written, and publishes them at once.
    /// - Returns: how many there were.
    public func turn(_ count: Int, byteCount: Int) -> Int {
        body(count, UInt32(truncatingIfNeeded: byteCount))
    }

    @inline(__always)
    private static func body<Queue: Virtqueue>(
        _ type: Queue.Type, _ addresses: VirtqueueAddresses, _ features: VirtioFeatures,
        _ memory: GuestMemory, _ burst: Int, _ arena: MemoryArena
    ) throws(SetupError) -> (Int, UInt32) -> Int {
        let needs: UnsafeMutablePointer<Int>
        let segments: SegmentList
        let state: UnsafeMutablePointer<Queue>
        do {
            let shadow = try arena.allocate(
                byteCount: addresses.size * Queue.shadowEntryByteCount)
            let queue = try Queue(
                addresses, features: features, memory: memory, shadow: shadow)
            needs = try arena.allocate(byteCount: burst * MemoryLayout<Int>.stride)
                .bindMemory(to: Int.self, capacity: burst)
            segments = SegmentList(
                base: try arena.allocate(byteCount: burst * MemoryLayout<Segment>.stride)
                    .bindMemory(to: Segment.self, capacity: burst), capacity: burst)
            state = try arena.allocate(byteCount: MemoryLayout<Queue>.stride)
                .bindMemory(to: Queue.self, capacity: 1)
            state.initialize(to: queue)
        } catch { throw SetupError("bare virtqueue: \(error)") }
        needs.initialize(repeating: 0, count: burst)
        return { count, byteCount in
            let wanted = count < burst ? count : burst
            var index = 0
            while index < wanted {
                needs[index] = Int(byteCount)
                index &+= 1
            }
            var queue = state.pointee
            var list = segments
            queue.refresh(wanted)
            let taken = queue.takeRun(needs, wanted, &list, OneDescriptor.self)
            queue.publish()
            state.pointee = queue
            return taken
        }
    }
}
