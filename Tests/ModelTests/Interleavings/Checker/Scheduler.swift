import CleaveHost
import Glibc

/// Lets one of a few real threads run at a time, and decides who goes on at each access to a
/// shared word.
///
/// A thread that is switched away from although it could go on was preempted; a run has a budget
/// of preemptions. Switches where a thread ends or waits are free, and all are tried.
final class Scheduler: @unchecked Sendable {
    // SAFETY: only the thread that holds the turn touches this; semaphores pass the turn on.

    /// More than this in one run means that it does not end.
    private static let stepLimit = 20_000
    static let maximumThreads = 4

    private struct Task {
        let body: () -> Void
        var isDone = false
        /// The condition that the thread waits for, nil when it can go on.
        var condition: (() -> Bool)?
        var isReady: Bool { !isDone && (condition == nil || condition?() == true) }
    }

    private var tasks: [Task] = []
    private let turns: [UnsafeMutablePointer<sem_t>]
    private let ended: UnsafeMutablePointer<sem_t>
    private var threads: [PinnedThread] = []
    private var isClosing = false

    var choices = Choices()
    private(set) var current = 0
    private var preemptionsLeft = 0
    private var stepsLeft = 0
    /// No thread can go on: those that wait are told that it is in vain.
    private var isStuck = false

    /// - Throws: when threads cannot be made.
    init() throws {
        func semaphore() -> UnsafeMutablePointer<sem_t> {
            let made = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
            sem_init(made, 0, 0)
            return made
        }
        turns = (0..<Self.maximumThreads).map { _ in semaphore() }
        ended = semaphore()
        // All on one CPU: they take turns anyway, and passing the turn is cheaper there.
        let cpu = CPUSet.allowed().cpus.first
        threads = try (0..<Self.maximumThreads).map { index in
            try PinnedThread(name: "model\(index)", cpu: cpu) { [unowned self] in loop(index) }
        }
    }

    func close() {
        isClosing = true
        for turn in turns { sem_post(turn) }
        for thread in threads { thread.join() }
        for semaphore in turns + [ended] {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }
    }

    private func loop(_ index: Int) {
        while true {
            sem_wait(turns[index])
            if isClosing { return }
            tasks[index].body()
            tasks[index].isDone = true
            passOn()
        }
    }

    /// Runs the bodies to their ends, along one sequence of choices.
    func run(_ bodies: [() -> Void], preemptions: Int) {
        precondition(bodies.count <= Self.maximumThreads)
        tasks = bodies.map { Task(body: $0) }
        preemptionsLeft = preemptions
        stepsLeft = Self.stepLimit
        isStuck = false
        passOn()
        while sem_wait(ended) != 0 {}
    }

    /// The running thread cannot go on: another one does, at no cost.
    private func passOn() {
        var ready = tasks.indices.filter { tasks[$0].isReady }
        if ready.isEmpty {
            isStuck = true
            ready = tasks.indices.filter { !tasks[$0].isDone }
        }
        if ready.isEmpty {
            sem_post(ended)
            return
        }
        current = ready[choices.choose(ready.count)]
        tasks[current].condition = nil
        sem_post(turns[current])
    }

    /// The running thread is about to access a shared word: others may come first.
    func step() {
        stepsLeft -= 1
        precondition(stepsLeft > 0, "a modelled run does not end")
        if preemptionsLeft == 0 { return }
        let me = current
        let others = tasks.indices.filter { $0 != me && tasks[$0].isReady }
        let choice = choices.choose(1 + others.count)
        if choice == 0 { return }
        preemptionsLeft -= 1
        current = others[choice - 1]
        tasks[current].condition = nil
        sem_post(turns[current])
        while sem_wait(turns[me]) != 0 {}
    }

    /// Lets others run until `condition` holds.
    /// - Returns: false when it never will, since nobody else can go on.
    func wait(until condition: @escaping () -> Bool) -> Bool {
        if condition() { return true }
        if isStuck { return false }
        let me = current
        tasks[me].condition = condition
        passOn()
        while sem_wait(turns[me]) != 0 {}
        return condition()
    }
}
