// Counts the calls of the allocator and of reference counting by an RQ's thread while it carries a
// million packets. A release program of its own, hot-loop-probe, does the counting.
import CleaveTestSupport
import Testing

@Suite("Allocations and reference counts of the hot loop")
struct AllocationTests {
    /// "worker whole packets 100 split 0 ..." as a name and its counts.
    private static func parse(_ line: Substring) -> (name: String, counts: [String: Int]) {
        var words = line.split(separator: " ")[...]
        var name = String(words.removeFirst())
        if words.count % 2 == 1 { name += " " + words.removeFirst() }
        var counts: [String: Int] = [:]
        while let key = words.popFirst(), let count = words.popFirst() {
            counts[String(key)] = Int(count)
        }
        return (name, counts)
    }

    @Test("None over a million packets, measured or not; a thread that does allocate is seen")
    func none() throws {
        let program = try ReleaseProgram("hot-loop-probe")
        let packets = 1_000_000
        let output = try ReleaseProgram.output(program.path, [String(packets)])
        let lines = output.split(separator: "\n").map(Self.parse)
        let workers = lines.filter { $0.name.hasPrefix("worker ") }
        let names = ["whole", "netHeader", "usedLength", "measured"].map {
            "worker " + $0
        }
        #expect(workers.map(\.name) == names)
        for worker in workers {
            #expect(worker.counts["packets"] == packets)
            // Other threads' share of slots does not matter here: most packets must be split.
            let isSplit = worker.counts["split", default: 0] > packets / 2
            #expect(isSplit == (worker.name != "worker whole"))
            for key in ["allocations", "frees", "retains", "releases"] {
                #expect(worker.counts[key] == 0, "\(worker.name): \(key)")
            }
        }
        let canary = try #require(lines.first { $0.name == "canary" })
        for key in ["allocations", "retains"] {
            #expect(canary.counts[key, default: 0] >= 1000, "\(key) of the canary")
        }
        for key in ["frees", "releases"] {
            #expect(canary.counts[key, default: 0] > 0, "\(key) of the canary")
        }
    }
}
