import CCleaveHost
import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveRings
import Glibc

/// One pinned thread that polls queues of ports, in turn, and forwards what came in. It alone uses
/// its queues, in both directions; packets to queues of other threads are handed to those.
///
/// The queues and all that the forwarding knows of ports are changed by the control thread while
/// the thread is held; the thread uses them while it is not.
final class SwitchThread: @unchecked Sendable {
    // SAFETY: see above; WorkerControl orders the two. The counters are words with one writer.

    let forwarding: Forwarding
    /// Queues that packets may come in at.
    private var kept: [SwitchQueue] = []
    private let words: Words
    private let idle: IdlePolicy
    let cpu: Int?
    /// The thread's ends of the rings to others, and what wakes it: for commands, and for others'
    /// packets.
    private let links: ThreadLinks
    private let isShared: Bool
    /// What the thread sleeps at: the waker, then a descriptor for each queue that has one.
    private var waits: [pollfd] = []
    /// A queue must be polled: the thread sleeps for short times only.
    private var hasSilentQueue = false
    private var thread: PinnedThread?
    private var holdDepth = 0

    /// Polls without a packet after which the thread lets others of its CPU run.
    private static let pollsBeforeYield = 256

    init(
        _ forwarding: Forwarding, cpu: Int?, idle: IdlePolicy, links: ThreadLinks
    ) throws(SetupError) {
        try idle.validate()
        self.links = links
        isShared = links.peerCount > 0
        self.forwarding = forwarding
        self.cpu = cpu
        self.idle = idle
        words = Words()
        set(queues: [])
    }

    deinit {
        stop()
        words.free()
    }

    // MARK: The thread

    private func run() {
        while let run = words.control.awaitRun(links.waker.event) {
            var last = CycleClock.now()
            var emptyPolls = 0
            while words.control.isLast(run) {
                let result = poll()
                let now = CycleClock.now()
                if !result.isEmpty {
                    words.busyCycles.addSingleWriter(now &- last)
                    words.packets.addSingleWriter(UInt64(truncatingIfNeeded: result.packets))
                    emptyPolls = 0
                    last = now
                    continue
                }
                emptyPolls &+= 1
                rest(run, &emptyPolls)
                let woke = CycleClock.now()
                words.idleCycles.addSingleWriter(woke &- last)
                last = woke
            }
        }
    }

    /// One burst of each queue.
    func poll() -> PollResult {
        if !isShared { return forwarding.poll() }
        let result = forwarding.pollShared()
        links.ring()
        return result
    }

    private func rest(_ run: WorkerControl.NumberedCommand, _ emptyPolls: inout Int) {
        switch idle.kind {
        case .busy: break
        case .pause:
            cleave_pause()
            if emptyPolls >= Self.pollsBeforeYield {
                PinnedThread.yield()
                emptyPolls = 0
            }
        case .park:
            cleave_pause()
            if emptyPolls >= idle.pollsBeforePark && park(run) { emptyPolls = 0 }
        }
    }

    /// Sleeps until a packet or a command comes, or the time is up.
    /// - Returns: whether something came.
    private func park(_ run: WorkerControl.NumberedCommand) -> Bool {
        // A packet that waits for room has a deadline of its own, far shorter than a sleep.
        if kept.contains(where: \.isHolding) || forwarding.isWaiting {
            PinnedThread.yield()
            return false
        }
        for queue in kept { queue.queue.setWakeups(enabled: true) }
        links.beginSleep()
        defer {
            links.endSleep()
            for queue in kept { queue.queue.setWakeups(enabled: false) }
        }
        // What came before the wake-ups were on shows in this poll.
        if links.wasRung() || !poll().isEmpty || !words.control.isLast(run) { return true }
        // Or it came in and waits for room.
        if kept.contains(where: \.isHolding) || forwarding.isWaiting { return true }
        words.parks.addSingleWriter(1)
        let milliseconds = hasSilentQueue ? max(1, idle.wakeMicroseconds / 1000) : 1000
        let ready = Glibc.poll(&waits, nfds_t(waits.count), Int32(milliseconds))
        links.waker.event.drain()
        return ready > 0
    }

    // MARK: The control thread

    func start(name: String) throws(SetupError) {
        words.control.send(holdDepth == 0 ? .run : .pause)
        do { thread = try PinnedThread(name: name, cpu: cpu) { self.run() } } catch {
            throw SetupError("switch thread: ", error)
        }
    }

    func stop() {
        guard let thread else { return }
        send(.stop)
        thread.join()
        self.thread = nil
    }

    /// Asks the thread to use no queue, until `release`. May be nested.
    func beginHold() {
        holdDepth += 1
        if holdDepth == 1 && thread != nil { send(.pause) }
    }

    /// From the return of this the thread uses no queue.
    /// - Parameter late: is told after how many seconds there is no answer yet: 1, 2, 4 and so on.
    func awaitHold(late: (UInt64) -> Void) {
        guard thread != nil else { return }
        var nextWord: UInt64 = 1
        let start = SystemClock.monotonic
        // Bounded: a poll is, and the thread looks for commands between polls.
        while !words.control.isAcknowledged {
            PinnedThread.yield()
            if SystemClock.monotonic &- start >= nextWord * 1_000_000_000 {
                late(nextWord)
                nextWord *= 2
            }
        }
    }

    func release() {
        holdDepth -= 1
        if holdDepth == 0 && thread != nil { send(.run) }
    }

    private func send(_ command: WorkerControl.Command) {
        words.control.send(command)
        links.waker.event.signal()
    }

    /// The queues that packets may come in at. While held.
    func set(queues list: [SwitchQueue]) {
        kept = list
        forwarding.set(polled: list)
        waits = [
            pollfd(fd: links.waker.event.fileDescriptor, events: Int16(POLLIN), revents: 0)
        ]
        hasSilentQueue = false
        for queue in list {
            let descriptor = queue.queue.wakeDescriptor
            if descriptor >= 0 {
                waits.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
            } else {
                hasSilentQueue = true
            }
        }
    }

    func statistics(number: Int) -> ThreadStatistics {
        ThreadStatistics(
            number: number, cpu: cpu, busyCycles: words.busyCycles.load(),
            idleCycles: words.idleCycles.load(), packets: words.packets.load(),
            parks: words.parks.load())
    }

    /// Words that the thread shares with the control thread, each writer's on lines of its own.
    private struct Words {
        // SAFETY: shared words over memory that lives from `init` to `free`.
        private let memory: UnsafeMutableRawPointer
        let busyCycles, idleCycles, packets, parks: SharedWord64
        let control: WorkerControl

        init() {
            let byteCount = 2 * CacheLine.byteCount
            memory = .allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
            memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
            busyCycles = SharedWord64(memory)
            idleCycles = SharedWord64(memory + 8)
            packets = SharedWord64(memory + 16)
            parks = SharedWord64(memory + 24)
            control = WorkerControl(
                request: memory + CacheLine.byteCount, acknowledgement: memory + 32)
        }

        func free() { memory.deallocate() }
    }
}
