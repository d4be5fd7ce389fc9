import Testing

@testable import CleaveHost

@Suite struct NUMATopologyTests {
    static let two = NUMATopology(
        nodes: [
            NUMANode(id: 0, cpus: CPUSet(0...1), memoryBytes: 1 << 30),
            NUMANode(id: 2, cpus: CPUSet(2...3), memoryBytes: 1 << 30),
        ], distances: [[10, 21], [22, 10]], fallback: nil)

    @Test func knowsThisMachine() {
        let topology = NUMATopology.current()
        #expect(!topology.nodes.isEmpty)
        #expect(topology.nodes.reduce(0) { $0 + $1.memoryBytes } > 0)
        for node in topology.nodes {
            for cpu in node.cpus.cpus { #expect(topology.node(ofCPU: cpu) == node.id) }
        }
        for cpu in CPUSet.allowed().cpus { #expect(topology.node(ofCPU: cpu) != nil) }
        let first = topology.nodes[0].id
        #expect(topology.distance(from: first, to: first) == 10)
    }

    @Test func fallsBackToOneNodeAndSaysSo() throws {
        let topology = NUMATopology.current(
            probe: FakeMachine.with(
                [
                    "/proc/meminfo": "MemTotal:  2048 kB\n",
                    "/sys/devices/system/cpu/online": "0-6\n",
                ], numa: false))
        #expect(topology.nodes.count == 1)
        #expect(
            topology.nodes[0]
                == NUMANode(id: 0, cpus: CPUSet(0...6), memoryBytes: 2 << 20))
        #expect(topology.fallback?.contains("one node") == true)
        #expect(topology.distance(from: 0, to: 0) == 10)
        try topology.validate(node: 0)
    }

    @Test func answersForSparseNodes() {
        #expect(Self.two.node(ofCPU: 1) == 0)
        #expect(Self.two.node(ofCPU: 2) == 2)
        #expect(Self.two.node(ofCPU: 4) == nil)
        #expect(Self.two.distance(from: 0, to: 2) == 21)
        #expect(Self.two.distance(from: 2, to: 0) == 22)
        #expect(Self.two.distance(from: 1, to: 0) == 0)
    }

    @Test(arguments: [-1, 1, 3])
    func refusesNodesThatDoNotExist(node: Int) {
        let thrown = error { try Self.two.validate(node: node) }
        #expect(
            thrown?.description
                == "NUMA node \(node): does not exist; nodes of this machine: 0, 2")
    }
}
