import CleaveHost
import CleaveVirtioNet

/// A packet as a port holds it: one source segment or several.
public struct SourcePacket: Sendable, Equatable {
    public var segments: [[UInt8]]
    /// Sent ahead of the segments.
    public var offloads: PacketOffloads?

    public init(_ bytes: [UInt8], offloads: PacketOffloads? = nil) {
        self.init(segments: [bytes], offloads: offloads)
    }

    public init(segments: [[UInt8]], offloads: PacketOffloads? = nil) {
        self.segments = segments
        self.offloads = offloads
    }

    public var bytes: [UInt8] { segments.count == 1 ? segments[0] : Array(segments.joined()) }
    public var byteCount: Int { segments.reduce(0) { $0 + $1.count } }

    /// The same bytes in random segments of 1 to `most` bytes.
    public func scattered(_ random: inout SeededRandom, most: Int) -> SourcePacket {
        var rest = bytes[...]
        var parts: [[UInt8]] = []
        // One reference is left for the rest, and one for offloads.
        while !rest.isEmpty && parts.count < RxQueue.maximumRefsPerPacket - 2 {
            let count = min(random.int(1...most), rest.count)
            parts.append([UInt8](rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        if !rest.isEmpty || parts.isEmpty { parts.append([UInt8](rest)) }
        return SourcePacket(segments: parts, offloads: offloads)
    }
}

/// Hands arrays of bytes to an RQ, each segment in an allocation of its own of exactly its size.
public final class MockPort {
    /// Result of one call.
    public struct Outcome {
        public let result: EnqueueResult
        /// The references after the call.
        public let refs: [PacketRef]
        /// Packets done with, in order: whether each was delivered.
        public let fates: [Bool]
        /// Packets that were not touched and stay with the port.
        public let leftCount: Int
    }

    private var allocations: [UnsafeMutableRawPointer] = []

    public init() {}
    deinit { release() }

    private func release() {
        for allocation in allocations { allocation.deallocate() }
        allocations.removeAll(keepingCapacity: true)
    }

    /// References to copies of the packets; valid until the next call.
    public func references(_ packets: [SourcePacket]) -> [PacketRef] {
        release()
        var refs: [PacketRef] = []
        for (number, packet) in packets.enumerated() {
            if let offloads = packet.offloads { refs.append(PacketRef(context: offloads)) }
            for (index, segment) in packet.segments.enumerated() {
                let copy = UnsafeMutableRawPointer.allocate(
                    byteCount: max(1, segment.count), alignment: 1)
                segment.withUnsafeBytes {
                    if let base = $0.baseAddress {
                        copy.copyMemory(from: base, byteCount: $0.count)
                    }
                }
                allocations.append(copy)
                refs.append(
                    PacketRef(
                        copy, byteCount: segment.count,
                        flags: index + 1 < packet.segments.count ? .more : [],
                        cookie: UInt16(truncatingIfNeeded: number)))
            }
        }
        return refs
    }

    /// Offers packets to `queue` in one call.
    public func enqueue(_ packets: [SourcePacket], to queue: RxQueue) -> Outcome {
        var refs = references(packets)
        let result = refs.withUnsafeMutableBufferPointer { buffer -> EnqueueResult in
            guard let base = buffer.baseAddress else {
                var none = PacketRef(address: 1, byteCount: 0)
                return queue.enqueue(&none, count: 0)
            }
            return queue.enqueue(base, count: buffer.count)
        }
        var fates: [Bool] = []
        for ref in refs.prefix(result.consumed) where !ref.flags.contains(.more) {
            fates.append(!ref.flags.contains(.dropped))
        }
        return Outcome(
            result: result, refs: refs, fates: fates, leftCount: packets.count - fates.count)
    }

    /// Offers packets of one segment each.
    public func enqueue(_ packets: [[UInt8]], to queue: RxQueue) -> Outcome {
        enqueue(packets.map { SourcePacket($0) }, to: queue)
    }
}

/// Arenas for the private memory of many short-lived queues: mapping one for each would be slow.
/// Memory lives as long as the supply does.
public final class ArenaSupply {
    private var arenas: [MemoryArena] = []
    private let chunk: Int

    public init(chunk: Int = 4 << 20) { self.chunk = chunk }

    /// An arena with at least `byteCount` bytes left.
    public func arena(_ byteCount: Int) throws -> MemoryArena {
        if let last = arenas.last, last.byteCount - last.usedBytes >= byteCount { return last }
        let fresh = try MemoryArena(byteCount: max(chunk, byteCount), pages: .small)
        arenas.append(fresh)
        return fresh
    }

    /// An RQ with its private memory from here.
    public func queue(_ configuration: RxQueueConfiguration) throws -> RxQueue {
        try RxQueue(configuration, in: arena(configuration.arenaByteCount))
    }
}
