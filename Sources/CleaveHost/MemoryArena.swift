// Memory for rings, slots and buffers: mapped once, in the best pages available, on one node,
// pre-faulted, and handed out in pieces that live as long as the arena. Nothing is allocated later.
import CCleaveHost
import CCleaveNuma
import Glibc

/// A mapped, zeroed, pre-faulted range of memory that is handed out from front to back.
///
/// `allocate` and `usedBytes` may be called from any thread.
public final class MemoryArena: @unchecked Sendable {
    // SAFETY: everything but `used` is constant; `used` is guarded by `lock`.

    /// First byte: aligned to 2 MiB (1 GiB) for huge and transparent pages, otherwise to a page.
    public let base: UnsafeMutableRawPointer
    /// Bytes that can be handed out, as requested.
    public let byteCount: Int
    /// Bytes mapped from `base` on: `byteCount` rounded up to whole pages. The size of the memfd.
    public let mappedByteCount: Int
    /// The pages that back it.
    public let pageKind: PageKind
    /// One sentence that says what it fell back to and why; nil if it is as requested.
    public let fallback: String?
    /// The node that it is bound to, nil for none.
    public let node: Int?
    /// The memfd (size sealed) to share it by, nil for private memory; owned by the arena.
    public let fileDescriptor: Int32?

    private let mapping: Mapping?
    private let foreign: ForeignMemory?
    private let lock = Lock()
    private var used = 0

    /// Maps and faults in `byteCount` bytes.
    /// - Parameters:
    ///   - byteCount: at least 1.
    ///   - node: NUMA node to place it on, strictly (MPOL_BIND): all of its pages lie there or
    ///     there is no arena.
    ///   - pages: which pages to try; it never fails for lack of huge pages.
    ///   - shared: whether another process is to map it, by `fileDescriptor`.
    ///   - name: of the memfd, as in /proc/PID/maps.
    /// - Throws: if the node does not exist or there is not that much memory.
    public convenience init(
        byteCount: Int, node: Int? = nil, pages: PagePreference = .automatic,
        shared: Bool = false, name: String = "cleave"
    ) throws(HostError) {
        try self.init(
            byteCount: byteCount, node: node, pages: pages, sharedAs: shared ? name : nil,
            probe: .live)
    }

    init(
        byteCount: Int, node: Int?, pages: PagePreference, sharedAs name: String?,
        probe: HostProbe
    ) throws(HostError) {
        guard byteCount >= 1, byteCount <= 1 << 46 else {
            throw HostError("memory arena", "size must be 1 byte to 64 TiB, is \(byteCount)")
        }
        let topology = NUMATopology.current(probe: probe)
        if let node { try topology.validate(node: node) }
        let plan = PagePlan(
            byteCount: byteCount, node: node, isShared: name != nil,
            isOneOfMany: topology.nodes.count > 1, probe: probe)
        let candidates = plan.candidates(for: pages)
        var log = FallbackLog(wanted: candidates[0])
        let mapping = try Self.bestMapping(candidates, plan: plan, name: name, log: &log)
        let kind = Self.actualKind(of: mapping, probe: probe, log: &log)
        base = mapping.base
        self.byteCount = byteCount
        mappedByteCount = mapping.byteCount
        pageKind = kind
        fallback = log.sentence(got: kind)
        self.node = log.isUnbound ? nil : node
        fileDescriptor = mapping.fileDescriptor
        self.mapping = consume mapping
        foreign = nil
    }

    /// Hands out memory that the caller provides, and zeroes it first.
    /// - Parameters:
    ///   - memory: aligned to 128 bytes, readable and writable until `release`.
    ///   - byteCount: at least 1.
    ///   - release: takes `memory` back when the arena ends, on any thread.
    public init(
        memory: UnsafeMutableRawPointer, byteCount: Int,
        release: @escaping @Sendable (UnsafeMutableRawPointer) -> Void
    ) throws(HostError) {
        guard byteCount >= 1, UInt(bitPattern: memory) % 128 == 0 else {
            throw HostError(
                "memory arena",
                "needs at least 1 byte, aligned to 128, not \(byteCount) bytes "
                    + "at 0x\(String(UInt(bitPattern: memory), radix: 16))")
        }
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        base = memory
        self.byteCount = byteCount
        mappedByteCount = byteCount
        pageKind = .small
        fallback = nil
        node = nil
        fileDescriptor = nil
        mapping = nil
        foreign = ForeignMemory(memory: memory, release: release)
    }

    /// Hands out `byteCount` zeroed bytes, which live as long as the arena and are never freed one
    /// by one.
    /// - Parameters:
    ///   - byteCount: at least 1.
    ///   - alignment: a power of two.
    public func allocate(
        byteCount: Int, alignment: Int = 128
    ) throws(HostError) -> UnsafeMutableRawPointer {
        guard alignment > 0, alignment & (alignment - 1) == 0 else {
            throw HostError("memory arena", "alignment \(alignment) is not a power of two")
        }
        guard byteCount >= 1 else {
            throw HostError("memory arena", "cannot allocate \(byteCount) bytes")
        }
        return try lock.withLock { () throws(HostError) -> UnsafeMutableRawPointer in
            // Computed as distances from here, so that no size or alignment can overflow.
            let misfit = (UInt(bitPattern: base) + UInt(used)) & UInt(alignment - 1)
            let padding = misfit == 0 ? 0 : alignment - Int(misfit)
            let left = self.byteCount - used
            guard padding <= left, byteCount <= left - padding else {
                throw HostError(
                    "memory arena",
                    "\(byteCount) bytes aligned to \(alignment) are asked for, "
                        + "\(left) of \(self.byteCount) are left")
            }
            let result = base + used + padding
            used += padding + byteCount
            return result
        }
    }

    /// Bytes handed out, padding for alignment included.
    public var usedBytes: Int { lock.withLock { used } }

    /// Number of its pages on each node, in pages of `residentPageByteCount`; empty if the kernel
    /// does not tell. Not cheap.
    public func residentNodes() -> [Int: Int] {
        PageResidence.ask(
            base, byteCount: mappedByteCount, pageByteCount: residentPageByteCount
        ).pageCounts
    }

    /// Bytes of the pages that `residentNodes` counts: base pages, or the reserved huge ones.
    public var residentPageByteCount: Int { pageKind.pageByteCount }

    private static func bestMapping(
        _ candidates: [PageKind], plan: PagePlan, name: String?, log: inout FallbackLog
    ) throws(HostError) -> Mapping {
        for kind in candidates.dropLast() {
            if let obstacle = plan.obstacle(to: kind) {
                log.obstacles.append(obstacle)
                continue
            }
            do throws(HostError) {
                return try map(kind, plan: plan, name: name, log: &log)
            } catch {
                log.obstacles.append(error.description)
            }
        }
        return try map(candidates[candidates.count - 1], plan: plan, name: name, log: &log)
    }

    private static func map(
        _ kind: PageKind, plan: PagePlan, name: String?, log: inout FallbackLog
    ) throws(HostError) -> Mapping {
        if !kind.isReserved, let obstacle = plan.memoryObstacle(kind) {
            throw HostError("memory arena", code: ENOMEM, obstacle)
        }
        let byteCount = plan.mappedByteCount(kind)
        var refusal: Int32 = 0
        let mapping = try Mapping(
            byteCount: byteCount, kind: kind, sharedAs: name, isBound: plan.node != nil
        ) { (base: UnsafeMutableRawPointer) throws(HostError) in
            // The kernel may refuse the advice if it has no such pages: the result is checked
            // later.
            if !kind.isReserved { _ = cleave_advise_huge(base, byteCount, kind == .small ? 0 : 1) }
            guard let node = plan.node, plan.probe.isNUMAAvailable() else { return }
            refusal = plan.probe.bindToNode(base, byteCount, node)
            if refusal != 0 && refusal != EPERM && refusal != ENOSYS {
                throw HostError("mbind", code: refusal, "cannot bind memory to node \(node)")
            }
        }
        log.bindRefusal = refusal
        return mapping
    }

    /// Transparent pages are a request: returns what the kernel granted.
    private static func actualKind(
        of mapping: borrowing Mapping, probe: HostProbe, log: inout FallbackLog
    ) -> PageKind {
        guard mapping.kind == .transparent,
            let covered = TransparentHugePages.coveredByteCount(
                base: UInt(bitPattern: mapping.base), probe: probe)
        else { return mapping.kind }
        if covered == 0 {
            log.obstacles.append("the kernel had no transparent huge page to give")
            return .small
        }
        if covered < mapping.byteCount {
            log.obstacles.append(
                "only \(covered) of \(mapping.byteCount) bytes are in huge pages")
        }
        return .transparent
    }
}

/// Memory that goes back to its provider.
private struct ForeignMemory: ~Copyable {
    let memory: UnsafeMutableRawPointer
    let release: @Sendable (UnsafeMutableRawPointer) -> Void

    deinit { release(memory) }
}

/// Where arenas come from: the operating system, or a program's own allocator.
public struct ArenaSource: Sendable {
    /// Makes an arena of `byteCount` bytes on `node` (nil = anywhere); `name` is for its owner.
    public let make:
        @Sendable (_ byteCount: Int, _ node: Int?, _ name: String) throws(HostError) -> MemoryArena

    public init(
        _ make: @escaping @Sendable (Int, Int?, String) throws(HostError) -> MemoryArena
    ) { self.make = make }

    /// Anonymous memory in the best pages available.
    public static let system = ArenaSource {
        (byteCount, node, name) throws(HostError) in
        try MemoryArena(byteCount: byteCount, node: node, name: name)
    }
}

/// Obstacles to the best kind of page.
private struct FallbackLog {
    let wanted: PageKind
    var obstacles: [String] = []
    /// errno of a refused mbind, 0 when the memory is bound or no node was named.
    var bindRefusal: Int32 = 0

    init(wanted: PageKind) { self.wanted = wanted }

    var isUnbound: Bool { bindRefusal != 0 }

    func sentence(got: PageKind) -> String? {
        var parts: [String] = []
        if got != wanted || !obstacles.isEmpty {
            parts.append(
                "asked for \(wanted.words), got \(got.words): "
                    + obstacles.joined(separator: "; "))
        }
        if isUnbound {
            parts.append("not bound to its node: \(HostError.words(of: bindRefusal))")
        }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }
}
