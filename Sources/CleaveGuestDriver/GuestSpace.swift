import CleaveHost
import CleaveVirtioNet

/// A block of guest memory: the same bytes as the driver and as the device name them.
public struct GuestBlock: Sendable {
    // SAFETY: memory of a `GuestSpace`, which the holder keeps alive; access rules are those of
    // whatever is laid over it.
    public nonisolated(unsafe) let pointer: UnsafeMutableRawPointer
    public let address: GuestAddress
    public let byteCount: Int
}

/// The memory of a guest inside this process: one region, node-bound and pre-faulted, from which
/// rings, data buffers and header slots are cut.
public final class GuestSpace: Sendable {
    /// Guest address of the first byte: not 0, and not a host address, so that a forgotten
    /// translation shows at once.
    public static let guestBase = GuestAddress(0x1_0000_0000)

    public let arena: MemoryArena
    /// The memory table that the device translates with.
    public let memory: GuestMemory
    /// Guest address of the arena's first byte.
    private let base: GuestAddress

    /// - Throws: `SetupError` if the host cannot give the memory.
    public convenience init(
        byteCount: Int, node: Int? = nil, pages: PagePreference = .automatic, shared: Bool = false
    ) throws(SetupError) {
        let arena = try Self.arena(byteCount, node, pages, shared: shared)
        let memory = try GuestMemory(regions: [
            MemoryRegion(guestBase: Self.guestBase, host: arena.base, byteCount: arena.byteCount)
        ])
        self.init(arena, memory, base: Self.guestBase)
    }

    private init(_ arena: MemoryArena, _ memory: GuestMemory, base: GuestAddress) {
        self.arena = arena
        self.memory = memory
        self.base = base
    }

    /// One guest whose memory lies on several nodes: a space for each, all with the same table.
    /// - Parameters:
    ///   - parts: the bytes on each node; nil is no node in particular.
    ///   - pages: the size of pages to try.
    public static func spread(
        over parts: [(node: Int?, byteCount: Int)], pages: PagePreference = .automatic
    ) throws(SetupError) -> [GuestSpace] {
        var arenas: [(arena: MemoryArena, base: GuestAddress)] = []
        for (index, part) in parts.enumerated() {
            let arena = try Self.arena(part.byteCount, part.node, pages, shared: false)
            arenas.append((arena, guestBase.advanced(by: index * regionStride)))
        }
        let memory = try GuestMemory(
            regions: arenas.map {
                MemoryRegion(guestBase: $0.base, host: $0.arena.base, byteCount: $0.arena.byteCount)
            })
        return arenas.map { GuestSpace($0.arena, memory, base: $0.base) }
    }

    /// Guest addresses between two regions: more than an arena may have.
    private static let regionStride = 1 << 47

    private static func arena(
        _ byteCount: Int, _ node: Int?, _ pages: PagePreference, shared: Bool
    ) throws(SetupError) -> MemoryArena {
        do {
            return try MemoryArena(
                byteCount: byteCount, node: node, pages: pages, shared: shared, name: "guest")
        } catch { throw SetupError("guest memory: \(error)") }
    }

    /// Cuts a zeroed block; blocks are never given back singly.
    public func allocate(
        byteCount: Int, alignment: Int = 128
    ) throws(SetupError) -> GuestBlock {
        do {
            let pointer = try arena.allocate(byteCount: byteCount, alignment: alignment)
            return GuestBlock(
                pointer: pointer,
                address: base.advanced(by: arena.base.distance(to: pointer)),
                byteCount: byteCount)
        } catch { throw SetupError("guest memory: \(error)") }
    }
}
