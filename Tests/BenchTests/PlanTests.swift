// A plan that cannot be measured gets one line that names what is wrong.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveBench

@Suite("Plans that cannot be")
struct PlanTests {
    struct Wrong: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let change: @Sendable (inout BenchCase) -> Void
        init(_ words: String, _ change: @escaping @Sendable (inout BenchCase) -> Void) {
            testDescription = words
            self.change = change
        }
    }

    @Test(
        "Each axis of a case",
        arguments: [
            Wrong("ring size 300") { $0.ringSize = 300 }, Wrong("ring size 0") { $0.ringSize = 0 },
            Wrong("ring size -4") { $0.ringSize = -4 },
            Wrong("ring size 65536") { $0.ringSize = 65536 },
            Wrong("burst 0") { $0.burst = 0 }, Wrong("burst 257") { $0.burst = 257 },
            Wrong("0 RQs") { $0.rqs = 0 }, Wrong("129 RQs") { $0.rqs = 129 },
            Wrong("RQ 1 is in none") {
                $0.rqs = 2
                $0.sharing = .groups([[0]])
            }, Wrong("imbalance 101") { $0.imbalance = 101 },
            Wrong("buffer size 100") { $0.bufferByteCount = 100 },
            Wrong("buffer size 32") { $0.bufferByteCount = 32 },
            Wrong("buffer size 2097152") { $0.bufferByteCount = 1 << 21 },
            Wrong("slot size 100") { $0.slotSize = 100 },
            Wrong("slot size 32") { $0.slotSize = 32 },
            Wrong("slot size 2048") { $0.slotSize = 2048 },
            Wrong("slot count 0") { $0.slots = 0 }, Wrong("slot count 300") { $0.slots = 300 },
            Wrong("slot count 65536") { $0.slots = 65536 },
        ])
    func cases(_ wrong: Wrong) throws {
        var one = BenchCase()
        try one.validate()
        wrong.change(&one)
        #expect(message { try one.validate() }.contains(wrong.testDescription))
        // The message names the case.
        var plan = BenchPlan()
        plan.cases = [BenchCase(), one]
        let text = message { try plan.validate() }
        #expect(text.hasPrefix("case 2 (") && text.contains(wrong.testDescription))
        #expect(!text.contains("\n"))
    }

    @Test("Limits that are possible")
    func possible() throws {
        for change: (inout BenchCase) -> Void in [
            { $0.ringSize = 1 }, { $0.ringSize = 32768 }, { $0.burst = 1 }, { $0.burst = 256 },
            { $0.rqs = 64 }, { $0.bufferByteCount = 64 }, { $0.slotSize = 64 },
            { $0.slotSize = 1024 }, { $0.slots = 1 }, { $0.slots = 32768 },
            {
                $0.buffers = .single
                $0.bufferByteCount = 1
            },
        ] {
            var one = BenchCase()
            change(&one)
            try one.validate()
        }
    }

    @Test("Counts of a plan")
    func plans() {
        func text(_ change: (inout BenchPlan) -> Void) -> String {
            var plan = BenchPlan()
            plan.cases = [BenchCase()]
            change(&plan)
            return message { try plan.validate() }
        }
        #expect(text { $0.cases = [] }.contains("no cases"))
        #expect(text { $0.repeats = 0 }.contains("repeats"))
        #expect(text { $0.sourcePackets = 0 }.contains("source-packets: 0"))
        #expect(text { $0.flows = 0 }.contains("flows"))
        #expect(text { $0.indirectionSize = 100 }.contains("indirection table size 100"))
        #expect(text { $0.idle.wakeMicroseconds = 0 }.contains("wake after 0 microseconds"))
        #expect(text { $0.packetsPerRepeat = 0 }.contains("packets: 0"))
        #expect(text { _ in } == "(no error)")
    }

    @Test("What only the machine can refuse: CPUs, nodes, packets, chains")
    func machine() {
        func text(_ change: (inout BenchPlan) -> Void) -> String {
            var plan = BenchPlan()
            plan.cases = [BenchCase()]
            plan.sourcePackets = 4
            change(&plan)
            return message { _ = try BenchRunner(plan) }
        }
        let cpu = CPUSet.allowed().cpus[0]
        #expect(text { $0.cpus = [4095] }.contains("4095"))
        #expect(text { $0.node = 999 }.contains("999"))
        // In mode `one-core` one thread does the work of all RQs, so that only mode `threads` needs
        // CPUs.
        let many = text {
            $0.mode = .threads
            $0.cpus = [cpu]
            $0.cases[0].rqs = 2
            $0.mode = .threads
        }
        #expect(many.contains("2 RQs need 2 CPUs") && many.contains("only 1 "))
        #expect(text { $0.cases[0].packet = "nonsense" }.contains("nonsense"))
        #expect(text { $0.cases[0].packet = "none.pcap" }.contains("none.pcap"))
        let chain = text {
            $0.cases[0].packet = "9000"
            $0.cases[0].buffers = .chained
            $0.cases[0].ringSize = 2
        }
        #expect(chain.contains("does not fit a ring of 2"))
    }

    @Test("Slots go back in groups where RQs share a header queue, unless it is said")
    func slotReturn() {
        var one = BenchCase()
        #expect(one.slotReturn == .tail)
        one.rqs = 2
        #expect(one.slotReturn == .groups)
        one.sharing = .groups([[0, 1]])
        #expect(one.slotReturn == .groups)
        one.sharing = .perRQ
        #expect(one.slotReturn == .tail)
        one.slotReturn = .ring
        #expect(one.slotReturn == .ring)
    }
}
