// Hash to RQ: sizes, even and skewed tables, and tables that lie.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("RSS indirection table")
struct IndirectionTableTests {
    private func refusal(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch { return (error as? SetupError)?.description }
    }

    @Test("Entries are given out in turn, and the low bits of the hash pick one")
    func even() throws {
        try withEvery(Axis("rqs", 1...9), Axis("size", [1, 2, 64, 128, 32768])) { rqs, size in
            let table = try IndirectionTable(rqs: rqs, size: size)
            try #require(table.entries.count == size && table.rqCount == rqs)
            for hash: UInt32 in [0, 1, 127, 128, 0x1234_5678, .max] {
                try #require(table.rq(ofHash: hash) == Int(hash) % size % rqs)
            }
        }
        #expect(try IndirectionTable(rqs: 3).entries.count == 128)
    }

    @Test("Imbalance moves that share of the others' entries to RQ 0")
    func skewed() throws {
        try withEvery(Axis("rqs", 2...8), Axis("imbalance", [0, 1, 25, 50, 90, 100])) {
            rqs, imbalance in
            let size = 4096
            let even = try IndirectionTable(rqs: rqs, size: size)
            let table = try IndirectionTable(rqs: rqs, size: size, imbalance: imbalance)
            let others = even.entries.count { $0 != 0 }
            let moved = zip(even.entries, table.entries).count { $0 != $1 }
            try #require(moved == others * imbalance / 100)
            try #require(zip(even.entries, table.entries).allSatisfy { $0 == $1 || $1 == 0 })
        }
    }

    @Test("Sizes that are none, and entries that name no RQ, are refused")
    func refusals() {
        for size in [0, 3, 127, -1, 65536, Int.min] {
            #expect(
                refusal { _ = try IndirectionTable(rqs: 1, size: size) }
                    == "indirection table size \(size) is not a power of two between 1 and 32768")
        }
        #expect(
            refusal { _ = try IndirectionTable(entries: [0, 1, 2, 1], rqs: 2) }
                == "indirection table entry 2 names RQ 2 of 2")
        #expect(
            refusal { _ = try IndirectionTable(rqs: 2, imbalance: 101) }
                == "imbalance 101 is not between 0 and 100 percent")
        #expect(
            refusal { _ = try IndirectionTable(rqs: 0) }
                == "an indirection table needs an RQ to name")
        #expect(refusal { _ = try IndirectionTable(entries: [1, 0], rqs: 2) } == nil)
    }
}
