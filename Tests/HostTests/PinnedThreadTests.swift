import CCleaveHost
import Glibc
import Synchronization
import Testing

@testable import CleaveHost

@Suite struct PinnedThreadTests {
    /// What a thread saw of itself.
    final class Report: Sendable {
        let value = Mutex<(name: String, cpus: CPUSet, cpu: Int, thread: Int32)?>(nil)

        func fill() {
            let seen = (
                PinnedThread.currentName(), CPUSet.ofCurrentThread(), PinnedThread.currentCPU(),
                cleave_thread_id()
            )
            value.withLock { $0 = seen }
        }
    }

    @Test(arguments: CPUSet.allowed().cpus.prefix(4))
    func runsNamedOnItsCPUFromTheStart(cpu: Int) throws {
        let report = Report()
        let thread = try PinnedThread(name: "cleave-rq-\(cpu)", cpu: cpu) { report.fill() }
        thread.join()
        thread.join()
        let seen = try #require(report.value.withLock { $0 })
        #expect(seen.name == "cleave-rq-\(cpu)")
        #expect(seen.cpus.cpus == [cpu])
        #expect(seen.cpu == cpu)
        #expect(seen.thread != cleave_thread_id())
    }

    @Test func unpinnedInheritsItsCreatorsCPUs() throws {
        let report = Report()
        let mine = CPUSet.ofCurrentThread()
        try PinnedThread(name: "free", cpu: nil) { report.fill() }.join()
        #expect(report.value.withLock { $0?.cpus } == mine)
    }

    @Test(arguments: [
        ("short", "short"), ("exactly-fifteen", "exactly-fifteen"),
        ("sixteen-letters!", "sixteen-letters"), ("14-bytes-then-\u{e9}", "14-bytes-then-"),
        ("", ""),
    ])
    func cutsNamesToWholeCharacters(name: String, expected: String) throws {
        #expect(PinnedThread.cut(name) == expected)
        let report = Report()
        try PinnedThread(name: name, cpu: nil) { report.fill() }.join()
        #expect(report.value.withLock { $0?.name } == expected)
    }

    @Test(arguments: [-1, 8191, 1_000_000, Int.max, Int.min])
    func refusesACPUThatDoesNotExist(cpu: Int) {
        let expected = "CPU \(cpu): does not exist; allowed CPUs: \(CPUSet.allowed())"
        let ran = Atomic(false)
        let thrown = error {
            _ = try PinnedThread(name: "never", cpu: cpu) { ran.store(true, ordering: .relaxed) }
        }
        #expect(thrown?.description == expected)
        let didRun = ran.load(ordering: .relaxed)
        #expect(!didRun)
        #expect(error { try PinnedThread.pinCurrent(to: cpu) }?.description == expected)
    }

    @Test func saysWhetherACPUIsOfflineOrForbidden() {
        let check = { (cpu: Int) in
            error {
                try PinnedThread.validate(
                    cpu: cpu, allowed: CPUSet([0, 2]), online: CPUSet([0, 1, 2]),
                    present: CPUSet(0...3))
            }?.description
        }
        #expect(check(0) == nil)
        #expect(
            check(1)
                == "CPU 1: is outside the affinity mask of this process; allowed CPUs: 0,2")
        #expect(check(3) == "CPU 3: is offline; allowed CPUs: 0,2")
        #expect(check(4) == "CPU 4: does not exist; allowed CPUs: 0,2")
    }

    @Test func pinsTheCallingThreadAndStillKnowsTheOtherCPUs() throws {
        let before = CPUSet.allowed()
        let last = try #require(before.cpus.last)
        let seen = Mutex<CPUSet?>(nil)
        try PinnedThread(name: "self-pinned", cpu: nil) {
            try? PinnedThread.pinCurrent(to: last)
            seen.withLock { $0 = CPUSet.ofCurrentThread() }
        }.join()
        #expect(seen.withLock { $0 } == CPUSet([last]))
        #expect(CPUSet.allowed() == before)
    }

    @Test func lastReleaseJoins() throws {
        let finished = Atomic(0)
        for _ in 0..<20 {
            _ = try PinnedThread(name: "brief", cpu: nil) {
                finished.add(1, ordering: .relaxed)
            }
        }
        let count = finished.load(ordering: .relaxed)
        #expect(count == 20)
    }

    @Test func concurrentJoinsAllReturn() throws {
        let gate = try EventDescriptor()
        let fd = gate.fileDescriptor
        let thread = try PinnedThread(name: "joined", cpu: nil) {
            var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, -1)
        }
        let joiners = try (0..<3).map { _ in
            try PinnedThread(name: "joiner", cpu: nil) { thread.join() }
        }
        gate.signal()
        for joiner in joiners { joiner.join() }
        thread.join()
        withExtendedLifetime(gate) {}
    }
}
