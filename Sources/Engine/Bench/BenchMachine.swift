import Host

/// The plan fitted to this machine: which CPUs, which mode, and what had to give way.
struct BenchMachine {
    let mode: BenchMode
    /// CPUs in the order they are given out: the first to port and driver.
    let cpus: [Int]
    let portNode: Int?
    private(set) var warnings: [String] = []
    private let topology = NUMATopology.current()
    private let fixedNode: Int?

    init(_ plan: BenchPlan) throws(EngineError) {
        let allowed = CPUSet.allowed().cpus
        let cpus = plan.cpus.isEmpty ? allowed : plan.cpus
        guard !cpus.isEmpty else { throw EngineError("no CPU may be used") }
        for cpu in cpus {
            do { try PinnedThread.validate(cpu: cpu) } catch { throw EngineError("\(error)") }
        }
        guard Set(cpus).count == cpus.count else {
            throw EngineError("a CPU is listed twice")
        }
        if let node = plan.node {
            do { try topology.validate(node: node) } catch { throw EngineError("\(error)") }
        }
        for one in plan.cases where plan.mode == .threads && one.rqs > cpus.count {
            throw EngineError(
                "\(one.displayName): \(one.rqs) RQs, but only \(cpus.count) CPUs can be used "
                    + "(\(CPUSet(cpus)))")
        }
        self.cpus = cpus
        fixedNode = plan.node
        portNode = plan.node ?? topology.node(ofCPU: cpus[0])
        if plan.mode == .threads && cpus.count == 1 {
            mode = .turns
            warnings.append(
                "mode threads needs 2 CPUs and there is 1: measured in turns on one thread")
        } else {
            mode = plan.mode
            if mode == .threads, plan.cases.contains(where: { $0.rqs >= cpus.count }) {
                warnings.append(
                    "port and driver share CPU \(cpus[0]) with an RQ: there are only "
                        + "\(cpus.count) CPUs")
            }
        }
        if let fallback = topology.fallback { warnings.append(fallback) }
    }

    /// In `threads`, RQs get the CPUs behind the port's, and that one last.
    func queuePlan(rqs: Int) throws(EngineError) -> QueuePlan {
        var plan: QueuePlan
        if mode == .threads {
            plan = try QueuePlan(
                rqs: rqs, cpus: Array(cpus.dropFirst()) + [cpus[0]], topology: topology)
        } else {
            plan = QueuePlan(unpinned: rqs, topology: topology)
            for index in plan.places.indices { plan.places[index].node = portNode }
        }
        if let fixedNode {
            for index in plan.places.indices { plan.places[index].node = fixedNode }
        }
        return plan
    }
}
