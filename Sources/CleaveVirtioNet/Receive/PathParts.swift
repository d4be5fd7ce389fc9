// control path
//
// Parts of the packet path by themselves, for benchmarks and instruction counts: what each costs
// with nothing around it. `@_spi(Measure) import CleaveVirtioNet` shows them; devices do not use
// them. Many packets go by one call, since a call between modules costs as much as a part.

import CleaveHost

extension HeaderParser {
    /// Parses frames of one segment each, which is what a burst of a port's packets mostly is.
    /// - Parameters:
    ///   - refs: the frames; flags and cookies are ignored.
    ///   - count: how many.
    ///   - splits: room for as many answers.
    @_spi(Measure)
    @inline(never)
    public static func parse(
        _ refs: UnsafePointer<PacketRef>, count: Int,
        into splits: UnsafeMutablePointer<HeaderSplit>
    ) {
        var index = 0
        while index < count {
            splits[index] = parse(refs[index].pointer, byteCount: Int(refs[index].byteCount))
            index &+= 1
        }
    }
}

/// The packet path's copy by itself, to be measured.
@_spi(Measure)
public enum CopyKernel {
    /// Copies each reference's bytes to a place of its own.
    /// - Parameters:
    ///   - refs: what to copy.
    ///   - count: how many.
    ///   - target: where the first goes; room for `count` times `stride` bytes.
    ///   - stride: bytes from place to place, no less than any reference has.
    @inline(never)
    public static func copy(
        _ refs: UnsafePointer<PacketRef>, count: Int, to target: UnsafeMutableRawPointer,
        stride: Int
    ) {
        var place = target
        var index = 0
        while index < count {
            copyBytes(place, refs[index].pointer, Int(refs[index].byteCount))
            place += stride
            index &+= 1
        }
    }
}

extension HeaderQueue {
    /// Claims up to `wanted` slots, as a burst does, and leaves them unwritten: to measure claims,
    /// or to hold slots back. For queues whose slots return by the tail.
    /// - Returns: number of the first slot, free-running, and how many.
    @_spi(Measure)
    public func claim(_ wanted: Int) -> (first: UInt32, count: Int) {
        let claim = claimer.claim(wanted)
        return (claim.first, claim.count)
    }
}

/// The device side of a virtqueue by itself: takes buffers and publishes them, with nothing placed
/// in between, to measure fetching and flushing. A device uses `RxQueue`.
///
/// One thread at a time.
@_spi(Measure)
public final class BareVirtqueue {
    /// Pops, uses and publishes buffers, specialised for a ring format.
    private let pollRing: (Int, UInt32) -> Int

    /// - Parameters:
    ///   - burst: most buffers of one poll, 1 to the size of the ring.
    ///   - arena: `Self.arenaByteCount(size:burst:)` bytes of it; it must outlive the queue.
    /// - Throws: if the addresses are invalid.
    public init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory, burst: Int,
        in arena: MemoryArena
    ) throws(SetupError) {
        guard (1...addresses.size).contains(burst) else {
            throw SetupError("burst \(burst) is not between 1 and \(addresses.size)")
        }
        switch addresses.format {
        case .split:
            pollRing = try Self.operation(
                SplitVirtqueue.self, addresses, features: features, memory: memory, burst: burst,
                arena: arena)
        case .packed:
            pollRing = try Self.operation(
                PackedVirtqueue.self, addresses, features: features, memory: memory, burst: burst,
                arena: arena)
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
    public func poll(_ count: Int, byteCount: Int) -> Int {
        pollRing(count, UInt32(truncatingIfNeeded: byteCount))
    }

    @inline(__always)
    private static func operation<Queue: Virtqueue>(
        _ type: Queue.Type, _ addresses: VirtqueueAddresses, features: VirtioFeatures,
        memory: GuestMemory, burst: Int, arena: MemoryArena
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
            let taken = queue.popRun(needs, count: wanted, into: &list, OneDescriptor.self)
            queue.publish()
            state.pointee = queue
            return taken
        }
    }
}
