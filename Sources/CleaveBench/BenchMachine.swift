import CleaveEngine
import CleaveHost

/// The plan fitted to this machine: which CPUs, which mode, and what had to give way.
struct BenchMachine {
    let mode: BenchMode
    /// CPUs in the order they are given out: the first to port and driver.
    let cpus: [Int]
    let portNode: Int?
    private(set) var warnings: [String] = []
    private let topology = NUMATopology.current()
    private let fixedNode: Int?
    private let rqCPUs: [Int]
    private let oversubscribe: Bool

    init(_ plan: BenchPlan) throws(SetupError) {
        let allowed = CPUSet.allowed().cpus
        let cpus = plan.cpus.isEmpty ? allowed : plan.cpus
        guard !cpus.isEmpty else { throw SetupError("no CPU may be used") }
        for cpu in cpus {
            do { try PinnedThread.validate(cpu: cpu) } catch { throw SetupError("\(error)") }
        }
        guard Set(cpus).count == cpus.count else {
            throw SetupError("a CPU is listed twice")
        }
        if let node = plan.node {
            do { try topology.validate(node: node) } catch { throw SetupError("\(error)") }
        }
        self.cpus = cpus
        rqCPUs = plan.rqCPUs
        oversubscribe = plan.oversubscribe
        fixedNode = plan.node
        portNode = plan.node ?? topology.node(ofCPU: cpus[0])
        if plan.mode == .threads && cpus.count == 1 {
            mode = .oneCore
            warnings.append(
                "mode threads needs 2 CPUs and there is 1: measured on one core")
        } else {
            mode = plan.mode
        }
        if let fallback = topology.fallback { warnings.append(fallback) }
        try checkThreads(plan)
    }

    /// Whether there are CPUs for every case that asks for threads.
    private mutating func checkThreads(_ plan: BenchPlan) throws(SetupError) {
        guard plan.mode != .oneCore else { return }
        var sharesPortsCPU = false
        for one in plan.cases {
            do {
                let places = try threadPlan(rqs: one.rqs, plan.mode)
                sharesPortsCPU =
                    sharesPortsCPU || places.places.contains { $0.cpu == cpus[0] }
                for warning in places.warnings where !warnings.contains(warning) {
                    warnings.append(warning)
                }
            } catch { throw SetupError("\(one.displayName): \(error)") }
        }
        if mode == .threads && sharesPortsCPU {
            warnings.append(
                "port and driver share CPU \(cpus[0]) with an RQ: there are only "
                    + "\(cpus.count) CPUs")
        }
    }

    /// In `threads`, RQs get the CPUs named for them, or those after the port's and that one last;
    /// if there are more RQs than CPUs, they share those after the port's.
    func queuePlan(rqs: Int) throws(SetupError) -> QueuePlan {
        if mode != .oneCore {
            let plan = try threadPlan(rqs: rqs, mode)
            guard let fixedNode else { return plan }
            return try plan.placed(onNode: fixedNode, topology: topology)
        }
        var plan = QueuePlan(unpinned: rqs, topology: topology)
        for index in plan.places.indices { plan.places[index].node = portNode }
        return plan
    }

    private func threadPlan(rqs: Int, _ mode: BenchMode) throws(SetupError) -> QueuePlan {
        var given = rqCPUs
        // Without a port that wants one, every CPU is an RQ's.
        if given.isEmpty && mode == .cores { given = cpus }
        if given.isEmpty {
            let behind = Array(cpus.dropFirst())
            let sharesBehind = oversubscribe && rqs > cpus.count && !behind.isEmpty
            given = sharesBehind ? behind : behind + [cpus[0]]
        }
        return try QueuePlan(
            rqs: rqs, cpus: given, topology: topology, oversubscribe: oversubscribe)
    }
}
