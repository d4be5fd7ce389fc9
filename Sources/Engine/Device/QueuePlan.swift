import Host

/// Which CPU and which NUMA node each RQ gets.
public struct QueuePlan: Sendable, Equatable {
    /// One RQ's place.
    public struct Place: Sendable, Equatable {
        /// CPU that the RQ's thread is pinned to; nil = not pinned.
        public var cpu: Int?
        /// Node that the RQ's memory is bound to; nil = wherever the kernel puts it.
        public var node: Int?
    }

    public var places: [Place]

    /// Pins RQ i to the i-th of `cpus`, its memory to that CPU's node.
    /// - Throws: if a CPU does not exist or may not be used, or there are fewer CPUs than RQs.
    public init(
        rqs: Int, cpus: [Int], topology: NUMATopology = .current()
    ) throws(EngineError) {
        guard rqs > 0 else { throw EngineError("\(rqs) RQs: need at least 1") }
        guard rqs <= cpus.count else {
            throw EngineError(
                "\(rqs) RQs need \(rqs) CPUs of their own, but only \(cpus.count) "
                    + "(\(CPUSet(cpus))) can be used")
        }
        for cpu in cpus {
            do { try PinnedThread.validate(cpu: cpu) } catch { throw EngineError("\(error)") }
        }
        places = cpus.prefix(rqs).map { Place(cpu: $0, node: topology.node(ofCPU: $0)) }
    }

    /// All RQs take turns on the caller's thread; memory on the node of the CPU it runs on.
    public init(unpinned rqs: Int, topology: NUMATopology = .current()) {
        let node = topology.node(ofCPU: PinnedThread.currentCPU())
        places = Array(repeating: Place(cpu: nil, node: node), count: max(0, rqs))
    }
}
