import CCleaveNuma
import Glibc

/// One NUMA node.
public struct NUMANode: Sendable, Equatable {
    public let id: Int
    /// CPUs of this node; empty for a node of memory only.
    public let cpus: CPUSet
    /// Memory of this node in bytes.
    public let memoryBytes: Int

    public init(id: Int, cpus: CPUSet, memoryBytes: Int) {
        self.id = id
        self.cpus = cpus
        self.memoryBytes = memoryBytes
    }
}

/// The machine's NUMA nodes and the distances between them, from libnuma.
///
/// Without NUMA (no kernel support, or calls forbidden by a sandbox) it is one node 0 that holds
/// every CPU and all memory, and `fallback` says so.
public struct NUMATopology: Sendable {
    /// In ascending order of `id`; ids may have gaps. Never empty.
    public let nodes: [NUMANode]
    /// Why this is the one-node stand-in; nil when libnuma answered.
    public let fallback: String?
    /// Row and column in the order of `nodes`.
    private let distances: [[Int]]

    /// - Parameters:
    ///   - nodes: in ascending order, at least one.
    ///   - distances: row and column in the order of `nodes`.
    ///   - fallback: why this stands in for what libnuma says; nil if that is it.
    public init(nodes: [NUMANode], distances: [[Int]], fallback: String? = nil) {
        self.nodes = nodes
        self.distances = distances
        self.fallback = fallback
    }

    /// Asks the machine. Any thread; not cheap.
    public static func current() -> NUMATopology { current(probe: .live) }

    static func current(probe: HostProbe) -> NUMATopology {
        guard probe.isNUMAAvailable() else {
            return oneNode(
                "no NUMA support in this kernel: taking the machine for one node", probe: probe)
        }
        let nodes = queryLock.withLock { queryNodes() }
        guard !nodes.isEmpty else {
            return oneNode("libnuma names no node: taking the machine for one node", probe: probe)
        }
        let distances = nodes.map { from in
            nodes.map { to in Int(numa_distance(Int32(from.id), Int32(to.id))) }
        }
        return NUMATopology(nodes: nodes, distances: distances, fallback: nil)
    }

    /// The node that `cpu` belongs to, nil for a CPU that no node has.
    public func node(ofCPU cpu: Int) -> Int? {
        nodes.first { $0.cpus.contains(cpu) }?.id
    }

    /// Relative cost of reaching `to` from `from`: 10 is local. 0 when unknown or no such node.
    public func distance(from: Int, to: Int) -> Int {
        guard let row = nodes.firstIndex(where: { $0.id == from }),
            let column = nodes.firstIndex(where: { $0.id == to })
        else { return 0 }
        return distances[row][column]
    }

    /// - Throws: an error that lists the nodes, if `node` does not exist or has no memory.
    public func validate(node: Int) throws(HostError) {
        func list(_ nodes: [NUMANode]) -> String {
            nodes.map { String($0.id) }.joined(separator: ", ")
        }
        guard let found = nodes.first(where: { $0.id == node }) else {
            throw HostError(
                "NUMA node \(node)", "does not exist; nodes of this machine: \(list(nodes))")
        }
        if found.memoryBytes > 0 { return }
        throw HostError(
            "NUMA node \(node)",
            "has no memory; nodes with memory: \(list(nodes.filter { $0.memoryBytes > 0 }))")
    }

    // libnuma fills caches of its own on first use, without a lock.
    private static let queryLock = Lock()

    private static func queryNodes() -> [NUMANode] {
        guard let mask = numa_allocate_cpumask() else { return [] }
        defer { numa_bitmask_free(mask) }
        let cpuCount = UInt32(max(0, numa_num_possible_cpus()))
        return (0...max(0, numa_max_node())).compactMap { id in
            let memoryBytes = numa_node_size64(id, nil)
            guard memoryBytes >= 0 else { return nil }
            guard numa_node_to_cpus(id, mask) == 0 else { return nil }
            let cpus = (0..<cpuCount).filter { numa_bitmask_isbitset(mask, $0) != 0 }
            return NUMANode(
                id: Int(id), cpus: CPUSet(cpus.map { Int($0) }), memoryBytes: Int(memoryBytes))
        }
    }

    private static func oneNode(_ reason: String, probe: HostProbe) -> NUMATopology {
        let memoryBytes = probe.kibibyteField("MemTotal", in: "/proc/meminfo") ?? 0
        let node = NUMANode(id: 0, cpus: .online(probe: probe), memoryBytes: memoryBytes)
        return NUMATopology(nodes: [node], distances: [[10]], fallback: reason)
    }
}
