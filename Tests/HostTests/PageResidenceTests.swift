import Testing

@testable import CleaveHost

@Suite struct PageResidenceTests {
    @Test func theKernelConfirmsABoundArena() throws {
        let node = try #require(NUMATopology.current().nodes.first { $0.memoryBytes > 0 }?.id)
        let arena = try MemoryArena(byteCount: 10_000, node: node, pages: .small)
        let residence = arena.residence("test", node: node)
        #expect(residence.misplacedCount == 0)
        #expect(
            residence.pageCounts.values.reduce(0, +) + residence.unknownCount
                == arena.mappedByteCount / arena.residentPageByteCount)
        if !arena.residentNodes().isEmpty {
            #expect(residence.isConfirmed)
            #expect(residence.pageCounts == [node: 3])
            #expect(residence.description == "test: 3 pages on node \(node)")
        }
        // The same pages, wanted elsewhere.
        let elsewhere = arena.residence("test", node: node + 1)
        #expect(elsewhere.misplacedCount == residence.pageCounts.values.reduce(0, +))
        #expect(!elsewhere.isConfirmed)
    }

    @Test func memoryWithoutANodeIsNeverMisplaced() throws {
        let residence = PageResidence(
            name: "any", node: nil, pageCounts: [0: 1, 3: 2], unknownCount: 0)
        #expect(residence.isConfirmed && residence.misplacedCount == 0)
        #expect(residence.description == "any: 1 page on node 0, 2 pages on node 3")
    }

    @Test func saysWhatIsWrong() {
        let residence = PageResidence(
            name: "RQ 1", node: 1, pageCounts: [0: 4, 1: 2], unknownCount: 3)
        #expect(residence.misplacedCount == 4 && !residence.isConfirmed)
        #expect(
            residence.description
                == "RQ 1: 4 pages on node 0, 2 pages on node 1, 3 unknown; should be node 1")
        let silent = PageResidence(name: "RQ 1", node: 1, pageCounts: [:], unknownCount: 3)
        #expect(!silent.isConfirmed && silent.misplacedCount == 0)
        #expect(silent.description == "RQ 1: no page known, 3 unknown")
    }

    @Test func refusesANodeWithoutMemory() {
        let topology = NUMATopology(
            nodes: [
                NUMANode(id: 0, cpus: CPUSet(0...1), memoryBytes: 1 << 30),
                NUMANode(id: 1, cpus: CPUSet(2...3), memoryBytes: 0),
            ], distances: [[10, 20], [20, 10]], fallback: nil)
        #expect(error { try topology.validate(node: 0) } == nil)
        #expect(
            error { try topology.validate(node: 1) }?.description
                == "NUMA node 1: has no memory; nodes with memory: 0")
    }

    @Test func listsKeepTheirOrder() throws {
        #expect(try CPUSet.numbers(parsing: "3,0-1,3") == [3, 0, 1, 3])
        #expect(try CPUSet.numbers(parsing: " ") == [])
        #expect(error { _ = try CPUSet.numbers(parsing: "3-1") }?.topic == "CPU list \"3-1\"")
    }

    @Test func waitsForEitherDescriptor() throws {
        let one = try EventDescriptor()
        let other = try EventDescriptor()
        let before = one.wait(orAt: other.fileDescriptor, nanoseconds: 1)
        other.signal()
        let atOther = one.wait(orAt: other.fileDescriptor, nanoseconds: 60_000_000_000)
        let alone = one.wait(nanoseconds: 1)
        one.signal()
        let atOne = one.wait(nanoseconds: 60_000_000_000)
        #expect(!before && atOther && !alone && atOne)
        // Waiting leaves the signal to the thread that drains it.
        let drained = one.drain()
        #expect(drained)
    }
}
