import CCleaveHost
import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// One RQ with what surrounds it: arena, rings, worker, port ends, thread, statistics.
final class RxLane: @unchecked Sendable {
    // SAFETY: constants; `port` is used by one thread at a time; `worker` is replaced by the
    // control thread only while the lane is paused, and used by the RQ's thread only while it is
    // not; what else changes belongs to the control thread.

    /// The port's ends of the rings.
    struct Port: ~Copyable {
        var submissions: SPSCProducer<PacketRef>
        var completions: SPSCConsumer<PacketRef>
    }

    let arena: MemoryArena
    private(set) var worker: RxWorker
    /// Arenas of queues that took the first one's place after a reset.
    private var laterArenas: [MemoryArena] = []
    let port: UnsafeMutablePointer<Port>
    let place: QueuePlan.Place
    private let submissionRing: SPSCRing<PacketRef>
    private let completionRing: SPSCRing<PacketRef>
    private let words: LaneWords
    private let idle: IdlePolicy
    private let arenas: ArenaSource
    /// Wakes the thread, for packets and for commands.
    private let wake: EventDescriptor
    private var thread: PinnedThread?
    /// Why the lane is paused, if it is.
    private(set) var pauseReasons: PauseReasons = []
    /// Counts of queues that were reset.
    private var earlier = RxCounters()

    struct PauseReasons: OptionSet {
        let rawValue: Int
        /// Its owner asked for it.
        static let owner = PauseReasons(rawValue: 1)
        /// Its virtqueue was reset and not enabled again.
        static let reset = PauseReasons(rawValue: 2)
        /// The header queue that it claims from is being reset.
        static let headerQueue = PauseReasons(rawValue: 4)
    }

    /// Empty polls after which a thread lets others run: on a shared core, the one that feeds it.
    private static let pollsBeforeYield = 256

    init(
        _ queue: RxQueueConfiguration, place: QueuePlan.Place, ringCapacity: Int,
        idle: IdlePolicy, arenas: ArenaSource
    ) throws(SetupError) {
        guard ringCapacity > 0, ringCapacity & (ringCapacity - 1) == 0 else {
            throw SetupError("submission ring of \(ringCapacity): need a power of two")
        }
        try idle.validate()
        self.place = place
        self.idle = idle
        self.arenas = arenas
        let ringByteCount = SPSCRing<PacketRef>.byteCount(capacity: ringCapacity)
        do {
            wake = try EventDescriptor()
            arena = try arenas.make(
                2 * ringByteCount + LaneWords.byteCount + Self.queueByteCount(queue),
                place.node, "rq")
            submissionRing = SPSCRing(
                memory: try arena.allocate(byteCount: ringByteCount), capacity: ringCapacity)
            completionRing = SPSCRing<PacketRef>(
                memory: try arena.allocate(byteCount: ringByteCount), capacity: ringCapacity)
            words = LaneWords(try arena.allocate(byteCount: LaneWords.byteCount))
            worker = try RxWorker(
                queue: RxQueue(queue, in: arena), submissions: submissionRing.makeConsumer(),
                completions: completionRing.makeProducer(), in: arena)
            port = .allocate(capacity: 1)
            port.initialize(
                to: Port(
                    submissions: submissionRing.makeProducer(),
                    completions: completionRing.makeConsumer()))
        } catch { throw SetupError("", error) }
    }

    deinit {
        stop()
        port.deinitialize(count: 1)
        port.deallocate()
    }

    private static func queueByteCount(_ queue: RxQueueConfiguration) -> Int {
        queue.arenaByteCount + RxWorker.arenaByteCount + 8 * CacheLine.byteCount
    }

    // MARK: The port's side

    @inline(__always)
    func submit(_ refs: UnsafePointer<PacketRef>, count: Int) -> Int {
        let taken = port.pointee.submissions.push(refs, count: count)
        if idle.kind == .park && taken > 0 && words.mustWake() { wake.signal() }
        return taken
    }

    // MARK: The RQ's thread

    private func run() {
        while let run = words.control.awaitRun(wake) {
            let worker = worker
            var last = CycleClock.now()
            var emptyPolls = 0
            while words.control.isLast(run) {
                let returned = worker.poll()
                let now = CycleClock.now()
                if returned > 0 {
                    words.busyCycles.addSingleWriter(now &- last)
                    emptyPolls = 0
                    last = now
                } else {
                    emptyPolls &+= 1
                    rest(worker, run, &emptyPolls)
                    let woke = CycleClock.now()
                    words.idleCycles.addSingleWriter(woke &- last)
                    #if Profiling
                    worker.addWait(cycles: woke &- last)
                    #endif
                    last = woke
                }
            }
        }
    }

    /// Between two polls, after the first was empty.
    @inline(__always)
    private func rest(
        _ worker: RxWorker, _ run: WorkerControl.NumberedCommand, _ emptyPolls: inout Int
    ) {
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
            // After a sleep that timed out, one empty poll is enough to sleep again.
            if emptyPolls >= idle.pollsBeforePark && park(worker, run) { emptyPolls = 0 }
        }
    }

    /// Sleeps until a packet is submitted, a kick or a command comes, or the time is up.
    /// - Returns: whether something came; false when the time was up.
    @inline(never)
    private func park(_ worker: RxWorker, _ run: WorkerControl.NumberedCommand) -> Bool {
        let kick = worker.queue.kick
        words.announceSleep()
        if kick != nil { worker.queue.setKicks(enabled: true) }
        var returned = worker.poll()
        var wasWoken = true
        if returned == 0 && words.control.isLast(run) {
            words.parks.addSingleWriter(1)
            wasWoken = wake.wait(
                orAt: kick?.fileDescriptor ?? -1,
                nanoseconds: UInt64(idle.wakeMicroseconds) * 1000)
        }
        words.endSleep()
        if let kick {
            worker.queue.setKicks(enabled: false)
            kick.drain()
        }
        if !wake.drain() && !wasWoken {
            returned = worker.poll()
            if returned > 0 { words.lateWakes.addSingleWriter(1) }
        }
        return wasWoken
    }

    // MARK: The control thread

    /// Starts the thread; it is paused at once if the lane is.
    func start(name: String) throws(HostError) {
        words.control.send(pauseReasons.isEmpty ? .run : .pause)
        thread = try PinnedThread(name: name, cpu: place.cpu) { self.run() }
    }

    /// Ends the thread after its current poll.
    func stop() {
        guard let thread else { return }
        send(.stop)
        thread.join()
        self.thread = nil
    }

    /// Pauses the lane; returns at a poll boundary.
    func pause(_ reason: PauseReasons) {
        pauseReasons.insert(reason)
        guard thread != nil else { return }
        if words.control.last.command != .pause { send(.pause) }
        // Bounded: a poll is, and the thread checks for commands between polls.
        while !words.control.isAcknowledged { PinnedThread.yield() }
    }

    /// Lets the lane run again, unless it is paused for another reason.
    func resume(_ reason: PauseReasons) {
        pauseReasons.remove(reason)
        if pauseReasons.isEmpty && thread != nil { send(.run) }
    }

    private func send(_ command: WorkerControl.Command) {
        words.control.send(command)
        wake.signal()
    }

    /// Replaces the present queue by another; its packets wait in the submission ring. The lane
    /// must be paused.
    func replace(_ queue: RxQueueConfiguration) throws(SetupError) {
        do {
            let arena = try arenas.make(Self.queueByteCount(queue), place.node, "rq")
            let replacement = try RxWorker(
                queue: RxQueue(queue, in: arena), submissions: submissionRing.makeConsumer(),
                completions: completionRing.makeProducer(), in: arena)
            earlier = counters
            earlier.fault = .none
            replacement.queue.profile?.number = profile?.number
            replacement.queue.profile?.period = profile?.period ?? 0
            worker = replacement
            laterArenas.append(arena)
        } catch { throw SetupError("", error) }
    }

    /// Takes every reference out of the rings: completions as they are, then what was never
    /// delivered, marked as dropped. Nobody else may use the lane any more.
    func empty() -> [PacketRef] {
        var refs: [PacketRef] = []
        var ref = PacketRef(address: 1, byteCount: 0)
        while port.pointee.completions.pop(into: &ref, count: 1) == 1 { refs.append(ref) }
        var undelivered = submissionRing.makeConsumer()
        while undelivered.pop(into: &ref, count: 1) == 1 {
            ref.flags.insert(.dropped)
            refs.append(ref)
        }
        return refs
    }

    var isStarted: Bool { thread != nil }
    var isIdle: Bool { submissionRing.approximateCount == 0 }
    var counters: RxCounters { earlier + worker.queue.counters }
    var profile: RxProfile? { worker.queue.profile }
    var cycles: (busy: UInt64, idle: UInt64) { (words.busyCycles.load(), words.idleCycles.load()) }
    var parks: (count: UInt64, late: UInt64) { (words.parks.load(), words.lateWakes.load()) }
    var fallbacks: [String] { ([arena] + laterArenas).compactMap(\.fallback) }
    var memories: [MemoryArena] { [arena] + laterArenas }
    var headerQueue: HeaderQueue? { worker.queue.configuration.headerQueue }
}

/// The words that a lane's thread shares with port and control thread, each writer's on lines of
/// its own.
private struct LaneWords: Sendable {
    // SAFETY: shared words over memory that the lane's arena keeps.
    let busyCycles: SharedWord64
    let idleCycles: SharedWord64
    let parks: SharedWord64
    let lateWakes: SharedWord64
    let control: WorkerControl
    private let asleep: SharedWord32
    private let doorbell: SharedWord32

    static let byteCount = 4 * CacheLine.byteCount

    /// - Parameter memory: zeroed, on a cache line.
    init(_ memory: UnsafeMutableRawPointer) {
        busyCycles = SharedWord64(memory)
        idleCycles = SharedWord64(memory + 8)
        parks = SharedWord64(memory + 16)
        lateWakes = SharedWord64(memory + 24)
        control = WorkerControl(
            request: memory + CacheLine.byteCount, acknowledgement: memory + 32)
        asleep = SharedWord32(memory + 2 * CacheLine.byteCount)
        doorbell = SharedWord32(memory + 3 * CacheLine.byteCount)
    }

    /// The port, after it submitted.
    @inline(__always)
    func mustWake() -> Bool {
        // [E3 sequential: submit, ring, then look whether anybody sleeps]
        doorbell.storeSequential(1)
        return asleep.loadSequential() != 0  // [E3]
    }

    /// The RQ's thread, before it looks for packets a last time.
    func announceSleep() {
        // [E3 sequential: say so, then look at the bell: one of the two sees the other]
        asleep.storeSequential(1)
        _ = doorbell.loadSequential()  // [E3]
    }

    func endSleep() { asleep.store(0) }
}
