// control path
import Host
import RxPath

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

    /// - Throws: `RxPathError` if the host cannot give the memory.
    public init(
        byteCount: Int, node: Int? = nil, pages: PagePreference = .automatic, shared: Bool = false
    ) throws(RxPathError) {
        do {
            arena = try MemoryArena(
                byteCount: byteCount, node: node, pages: pages, shared: shared, name: "guest")
        } catch { throw RxPathError("guest memory: \(error)") }
        memory = try GuestMemory(regions: [
            MemoryRegion(guestBase: Self.guestBase, host: arena.base, byteCount: arena.byteCount)
        ])
    }

    /// Cuts a zeroed block; blocks are never given back singly.
    public func allocate(
        byteCount: Int, alignment: Int = 128
    ) throws(RxPathError) -> GuestBlock {
        do {
            let pointer = try arena.allocate(byteCount: byteCount, alignment: alignment)
            return GuestBlock(
                pointer: pointer,
                address: Self.guestBase.advanced(by: arena.base.distance(to: pointer)),
                byteCount: byteCount)
        } catch { throw RxPathError("guest memory: \(error)") }
    }
}
