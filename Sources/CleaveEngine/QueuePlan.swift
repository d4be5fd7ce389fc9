import CleaveHost
import CleaveVirtioNet

/// Which CPU and which NUMA node each RQ gets.
public struct QueuePlan: Sendable, Equatable, CustomStringConvertible {
    /// CPU and node of one RQ.
    public struct Place: Sendable, Equatable, CustomStringConvertible {
        /// CPU that the RQ's thread is pinned to; nil = not pinned.
        public var cpu: Int?
        /// Node that the RQ's memory is bound to; nil = wherever the kernel puts it.
        public var node: Int?

        public init(cpu: Int?, node: Int?) {
            self.cpu = cpu
            self.node = node
        }

        /// Such as `CPU 1 -> node 0`.
        public var description: String {
            let cpu = cpu.map { "CPU \($0)" } ?? "any CPU"
            return "\(cpu) -> " + (node.map { "node \($0)" } ?? "any node")
        }
    }

    /// Most RQs of one engine: vhost-user peers go up to 128 queue pairs.
    public static let maximumRQs = 128

    public var places: [Place]
    /// Why figures measured under this plan mean less, one sentence each.
    public private(set) var warnings: [String] = []

    /// Pins RQ i to the i-th of `cpus`, its memory to that CPU's node.
    /// - Parameters:
    ///   - rqs: how many.
    ///   - cpus: in the order in which they are given out; a number may come again only with
    ///     `oversubscribe`.
    ///   - oversubscribe: allows more RQs than CPUs: they share the CPUs, with a warning.
    ///   - topology: the nodes and their CPUs.
    /// - Throws: if a CPU does not exist or may not be used, its node has no memory, or there are
    ///   fewer CPUs than RQs.
    public init(
        rqs: Int, cpus: [Int], topology: NUMATopology = .current(), oversubscribe: Bool = false
    ) throws(SetupError) {
        try Self.check(rqs: rqs)
        guard !cpus.isEmpty else { throw SetupError("\(rqs) RQs, but no CPU for them") }
        for cpu in cpus {
            do { try PinnedThread.validate(cpu: cpu) } catch { throw SetupError("\(error)") }
        }
        let distinct = CPUSet(cpus)
        let used = (0..<rqs).map { cpus[$0 % cpus.count] }
        if !oversubscribe {
            guard rqs <= cpus.count else {
                throw SetupError(
                    "\(rqs) RQs need \(rqs) CPUs of their own, but only \(cpus.count) "
                        + "(\(distinct)) can be used; oversubscribe lets them share")
            }
            guard Set(used).count == rqs else {
                throw SetupError(
                    "a CPU is given to two RQs (\(used)); oversubscribe lets them share")
            }
        } else if Set(used).count < rqs {
            warnings.append(
                "\(rqs) RQs share \(CPUSet(used).cpus.count) CPUs (\(CPUSet(used))): their threads "
                    + "take turns, and figures of threads measure the scheduler as well")
        }
        places = []
        for cpu in used {
            let node = topology.node(ofCPU: cpu)
            if let node {
                do { try topology.validate(node: node) } catch {
                    throw SetupError("CPU \(cpu): \(error)")
                }
            }
            places.append(Place(cpu: cpu, node: node))
        }
    }

    /// All RQs are polled on the caller's thread; memory on the node of the CPU it runs on.
    public init(unpinned rqs: Int, topology: NUMATopology = .current()) {
        let node = topology.node(ofCPU: PinnedThread.currentCPU())
        places = Array(repeating: Place(cpu: nil, node: node), count: max(0, rqs))
    }

    /// The places as given, unchecked.
    public init(places: [Place]) { self.places = places }

    /// Checks a number of RQs alone: what a configuration file or a command line can get wrong.
    public static func check(rqs: Int) throws(SetupError) {
        guard (1...maximumRQs).contains(rqs) else {
            throw SetupError("\(rqs) RQs: need 1 to \(maximumRQs)")
        }
    }

    /// The plan with all memory on `node`.
    /// - Throws: if there is no such node, or it has no memory.
    public func placed(
        onNode node: Int, topology: NUMATopology = .current()
    ) throws(SetupError) -> QueuePlan {
        do { try topology.validate(node: node) } catch { throw SetupError("\(error)") }
        var plan = self
        for index in plan.places.indices { plan.places[index].node = node }
        return plan
    }

    /// One line for RQs that follow each other in one place, such as `RQ 0-2 -> CPU 1 -> node 0`.
    public var description: String {
        var lines: [String] = []
        var first = 0
        for rq in places.indices where rq + 1 == places.count || places[rq + 1] != places[rq] {
            lines.append("RQ \(CPUSet(first...rq)) -> \(places[rq])")
            first = rq + 1
        }
        return lines.joined(separator: "\n")
    }
}
