import CleaveEngine
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveBench

@Suite("Preempted runs, and advice where slots run out", .serialized)
struct PreemptionTests {
    /// Names of this process's threads.
    private func threadNames() -> [String] {
        let folder = "/proc/self/task"
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return threads.compactMap {
            try? String(contentsOfFile: "\(folder)/\($0)/comm", encoding: .utf8)
        }.map { $0.trimmingCharacters(in: .newlines) }
    }

    @Test("Busy threads are where they were asked for, and gone afterwards, also by a throw")
    func neighbours() throws {
        let cpus = CPUSet.allowed().cpus
        do {
            let neighbours = try BusyNeighbours(cpus: cpus)
            // A thread names itself once it runs.
            let names = Set(cpus.map { "cleave-busy\($0)" })
            for _ in 0..<20_000 where !names.isSubset(of: threadNames()) { usleep(1000) }
            #expect(names.isSubset(of: threadNames()))
            neighbours.stop()
            neighbours.stop()
        }
        #expect(throws: SetupError.self) { _ = try BusyNeighbours(cpus: cpus + [99_999]) }
        #expect(!threadNames().contains { $0.hasPrefix("cleave-busy") })
    }

    @Test("A preempted run says so, on the CPUs that it used, and delivers everything")
    func run() throws {
        for mode in BenchMode.allCases {
            var plan = BenchPlan()
            plan.cases = [BenchCase()]
            plan.cases[0].rqs = mode == .cores ? min(2, CPUSet.allowed().cpus.count) : 1
            (plan.mode, plan.preempts, plan.repeats) = (mode, true, 1)
            (plan.packetsPerRepeat, plan.sourcePackets, plan.verifyPackets) = (500, 64, 64)
            let report = try BenchRunner(plan).run { _ in }
            var used = Set(report.queuePlan?.places.compactMap(\.cpu) ?? [])
            if report.mode != .cores { used.insert(CPUSet.allowed().cpus[0]) }
            #expect(report.preemptedCPUs == used.sorted(), "\(mode)")
            #expect(report.warnings.contains { $0.hasPrefix("A busy thread ran beside") })
            #expect(report.results[0].packets >= 500 && report.isVerified)
            let document = BenchDocument(report, command: [])
            #expect(document.preemptedCPUs == report.preemptedCPUs)
        }
        #expect(!threadNames().contains { $0.hasPrefix("cleave-busy") })
    }

    private func advice(
        noSlot: UInt64 = 10, least: Int? = nil, isPreempted: Bool = false,
        _ change: (inout BenchCase) -> Void
    ) -> SlotAdvice? {
        var one = BenchCase()
        one.method = .d
        change(&one)
        return SlotAdvice(
            one, places: Array(repeating: .init(cpu: nil, node: nil), count: one.rqs),
            leastPacketByteCount: least, noSlot: noSlot, packets: 1000, isPreempted: isPreempted)
    }

    @Test("Advice follows the facts of the case")
    func advice() throws {
        #expect(advice(noSlot: 0) { _ in } == nil)
        // One RQ, fewer slots than its ring has buffers.
        let few = try #require(advice { $0.slots = 64 })
        #expect(few.tries == ["--slots 256 (as many as an RQ's ring can hold)"])
        #expect(
            few.words
                == "10 of 1000 packets (1.0 %) found no header slot free and stayed whole; try "
                + "--slots 256 (as many as an RQ's ring can hold)")
        // Enough by count: drivers still hold them.
        let held = try #require(advice { $0.slots = 256 })
        #expect(held.tries == ["--slots 512 (drivers hold slots that have not come back)"])
        // RQs that share by the tail hold each other up; more so when they are preempted.
        let shared = try #require(advice { ($0.rqs, $0.slots, $0.slotReturn) = (4, 512, .tail) })
        #expect(
            shared.tries == [
                "--slot-return groups (a slow driver then holds up its own group alone)",
                "--slots 1024 (as many as the rings of 4 RQs can hold)",
            ])
        let preempted = try #require(
            advice(least: 64, isPreempted: true) {
                ($0.rqs, $0.slots, $0.slotReturn) = (2, 512, .tail)
            })
        #expect(
            preempted.tries == [
                "--slot-return groups (a preempted driver then holds up its own group alone)",
                "--slots 1024 (drivers hold slots that have not come back)",
                "--split-threshold 64 (the smallest packets leave their slots to others)",
            ])
        // In groups, what RQs have begun is theirs.
        let groups = try #require(
            advice { ($0.rqs, $0.slots, $0.slotReturn) = (2, 512, .groups) })
        #expect(
            groups.tries == [
                "--slots 1024 (as many as the rings of 2 RQs can hold and two groups for each)"
            ])
        // Queues of their own are not shared; what cannot grow is not advised to.
        let own = try #require(
            advice { ($0.rqs, $0.slots, $0.sharing) = (4, 32_768, .perRQ) })
        #expect(own.tries.isEmpty && !own.words.contains("try"))
        let threshold = try #require(
            advice(least: 64) { ($0.slots, $0.splitThreshold) = (64, 128) })
        #expect(!threshold.tries.contains { $0.hasPrefix("--split-threshold") })
    }

    @Test("A run short of slots gives the advice with its own counts; one with enough gives none")
    func counted() throws {
        var plan = BenchPlan()
        plan.cases = [BenchCase(), BenchCase()]
        plan.cases[0].slots = 16
        (plan.mode, plan.repeats, plan.packetsPerRepeat) = (.oneCore, 1, 500)
        (plan.sourcePackets, plan.verifyPackets) = (64, 64)
        let report = try BenchRunner(plan).run { _ in }
        let advice = try #require(report.results[0].noSlot)
        #expect(advice.packets == report.results[0].fallback["noSlot"] && advice.packets > 0)
        #expect(advice.of == report.results[0].packets)
        #expect(report.results[1].noSlot == nil)
        #expect(RunRecord(report.results[0]).noSlot == advice)
    }
}
