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
    /// In `threads`, one thread is the device of all RQs on its CPU, so that RQs share CPUs
    /// without taking turns on them.
    private let sharesDevices: Bool

    init(_ plan: BenchPlan, sharesDevices: Bool = false) throws(SetupError) {
        let allowed = CPUSet.allowed().cpus
        let cpus = plan.cpus.isEmpty ? allowed : plan.cpus
        guard !cpus.isEmpty else { throw SetupError("no CPU may be used") }
        for cpu in cpus {
            do { try PinnedThread.validate(cpu: cpu) } catch { throw SetupError("cpus: \(error)") }
        }
        guard Set(cpus).count == cpus.count else {
            throw SetupError("cpus: a CPU is listed twice")
        }
        if let node = plan.node {
            do { try topology.validate(node: node) } catch {
                throw SetupError("node: \(error)")
            }
        }
        self.cpus = cpus
        rqCPUs = plan.rqCPUs
        oversubscribe = plan.oversubscribe
        self.sharesDevices = sharesDevices
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
            } catch {
                let key = rqCPUs.isEmpty ? "rqs" : "rq-cpus"
                throw SetupError("\(key): \(error)")
            }
        }
        if mode == .threads && sharesDevices { warnShared(plan) }
        if mode == .threads && sharesPortsCPU {
            warnings.append(
                "port and driver share CPU \(cpus[0]) with an RQ: there are only "
                    + "\(cpus.count) CPUs")
        }
    }

    private mutating func warnShared(_ plan: BenchPlan) {
        let most = plan.cases.map(\.rqs).max() ?? 1
        let devices = rqCPUs.isEmpty ? cpus.count - 1 : Set(rqCPUs).count
        if most > devices {
            warnings.append(
                "one thread is the device of several RQs, in turn: there are \(most) RQs and "
                    + "\(devices) CPUs beside the driver's")
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

    /// CPUs on which threads of the benchmark work, if its RQs are where `plans` say.
    func usedCPUs(by plans: [QueuePlan]) -> [Int] {
        // In `cores` the first CPU is an RQ's, if one has it.
        let own = mode == .cores ? [] : [cpus[0]]
        return Set(own + plans.flatMap(\.places).compactMap(\.cpu)).sorted()
    }

    private func threadPlan(rqs: Int, _ mode: BenchMode) throws(SetupError) -> QueuePlan {
        var given = rqCPUs
        if mode == .threads && sharesDevices {
            if given.isEmpty { given = Array(cpus.dropFirst()) }
            let device = (0..<rqs).map { given[$0 % given.count] }
            return QueuePlan(
                places: try device.map { cpu throws(SetupError) in
                    try QueuePlan(rqs: 1, cpus: [cpu], topology: topology).places[0]
                })
        }
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
