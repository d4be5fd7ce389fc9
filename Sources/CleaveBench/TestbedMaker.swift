import CleaveEngine
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// Makes the testbeds of a plan. Packets that several cases have are in memory once for each node.
struct TestbedMaker {
    private let plan: BenchPlan
    private var pools: [String: [Int?: PacketPool]] = [:]

    init(_ plan: BenchPlan) { self.plan = plan }

    /// - Parameter queuePlan: CPU and node of each RQ.
    /// - Throws: what is impossible: packets, geometry or memory.
    mutating func make(_ one: BenchCase, on queuePlan: QueuePlan) throws(SetupError) -> Testbed {
        for node in Set(queuePlan.places.map(\.node)) where pools[one.packet]?[node] == nil {
            do {
                pools[one.packet, default: [:]][node] = try PacketPool.load(
                    one.packet, count: plan.sourcePackets, flows: plan.flows, node: node)
            } catch { throw SetupError("\(error)") }
        }
        return try Testbed(
            one, pools: pools[one.packet] ?? [:], plan: queuePlan, idle: plan.idle,
            indirectionSize: plan.indirectionSize)
    }
}
