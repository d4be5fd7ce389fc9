import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// What surrounds a run: when it began, what took CPU time from it, and the busy threads that were
/// put beside it.
struct RunWatch {
    /// UTC, by ISO 8601.
    let started = SystemClock.timestamp
    private let stopsBefore = ResourceLimits.stops()
    private let neighbours: BusyNeighbours

    /// - Parameter cpus: where busy threads run from now on until `end`.
    init(preempting cpus: [Int]) throws(SetupError) {
        neighbours = try BusyNeighbours(cpus: cpus)
    }

    var preemptedCPUs: [Int] { neighbours.cpus }

    func end() { neighbours.stop() }

    /// What makes the run's figures less certain.
    /// - Parameter plan: what had to give way in the plan.
    func warnings(_ machine: MachineFacts, plan: [String]) -> [String] {
        machine.warnings + plan
            + [ProgramRecord.current.warning, preempted, stopped].compactMap(\.self)
    }

    private var preempted: String? {
        if preemptedCPUs.isEmpty { return nil }
        return "A busy thread ran beside the benchmark's own on each of CPUs "
            + "\(CPUSet(preemptedCPUs)), as asked: cycles and rates have in them what it took."
    }

    /// What quotas took from the run; nil for nothing.
    private var stopped: String? {
        guard let stopsBefore, let now = ResourceLimits.stops() else { return nil }
        let stops = now - stopsBefore
        if stops.count == 0 { return nil }
        let milliseconds = Int((stops.seconds * 1000).rounded())
        return "The quota of a control group stopped this run \(stops.count) times, for "
            + "\(milliseconds) ms of its CPUs together: rates are too low by as much."
    }
}

/// A thread on each of some CPUs that never waits, so that whatever else is to run there is
/// preempted: as the CPUs of a guest are whose host has more to do. Threads of this process, so
/// none outlives it, however it ends.
final class BusyNeighbours: @unchecked Sendable {
    // SAFETY: `threads` is written in `init` and read in `stop`, by the owner; the threads use
    // `ends` alone, which is freed after they were joined.
    let cpus: [Int]
    private let ends: SharedWord64
    private var threads: [PinnedThread] = []

    init(cpus: [Int]) throws(SetupError) {
        self.cpus = cpus
        let ends = SharedWord64(UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8))
        ends.store(0)
        self.ends = ends
        for cpu in cpus {
            do {
                threads.append(
                    try PinnedThread(name: "cleave-busy\(cpu)", cpu: cpu) {
                        while ends.load() == 0 {}
                    })
            } catch { throw SetupError("a busy thread on CPU \(cpu): \(error)") }
        }
    }

    /// Ends the threads. May be called again.
    func stop() {
        ends.store(1)
        for thread in threads { thread.join() }
        threads = []
    }

    deinit {
        stop()
        ends.deallocate()
    }
}

/// A pinned thread on which a benchmark works while its caller waits.
enum MeasuringThread {
    private final class Outcome<Value: Sendable>: @unchecked Sendable {
        // SAFETY: written by the thread, read after it was joined.
        var result: Result<Value, SetupError>?
    }

    static func run<Value: Sendable>(
        cpu: Int, _ body: @escaping @Sendable () throws(SetupError) -> Value
    ) throws(SetupError) -> Value {
        let outcome = Outcome<Value>()
        do {
            try PinnedThread(name: "cleave-bench", cpu: cpu) {
                do throws(SetupError) { outcome.result = .success(try body()) } catch {
                    outcome.result = .failure(error)
                }
            }.join()
        } catch { throw SetupError("\(error)") }
        guard let result = outcome.result else { preconditionFailure("the thread was joined") }
        return try result.get()
    }
}
