import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// The RQs of one device, each with its rings to a port, and on `start` with its pinned thread.
///
/// Life: made, started, paused, resumed, drained, stopped; or never started, and polled by its
/// owner through `poll`. RQs come and go at any time. One control thread calls everything but
/// `submit` and `reap`, which for one RQ are for one thread at a time: the owner sees to it that
/// nobody submits to or reaps from an RQ that it is removing.
public final class RxEngine: @unchecked Sendable {
    // SAFETY: `table` is changed by the control thread alone, at the place of an RQ that no other
    // thread uses then, as documented; the rest belongs to the control thread.

    /// The RQ of each number; nil where there is none.
    private let table: UnsafeMutablePointer<Unmanaged<RxLane>?>
    private var isStarted = false
    private let ringCapacity: Int
    private let idle: IdlePolicy
    private let arenas: ArenaSource
    private var removed = RxCounters()

    /// References a submission ring holds.
    public static let defaultRingCapacity = 1024

    /// Makes RQs, workers and rings, each in memory on its RQ's node.
    /// - Parameters:
    ///   - queues: one configuration per place of `plan`.
    ///   - plan: CPU and node of each RQ.
    ///   - ringCapacity: references that each submission ring and each completion ring holds, a
    ///     power of two.
    ///   - idle: what threads do while there is nothing to do.
    ///   - arenas: where the RQs' memory comes from.
    public init(
        queues: [RxQueueConfiguration], plan: QueuePlan,
        ringCapacity: Int = RxEngine.defaultRingCapacity, idle: IdlePolicy = .pause,
        arenas: ArenaSource = .system
    ) throws(SetupError) {
        guard queues.count == plan.places.count, !queues.isEmpty else {
            throw SetupError("\(queues.count) RQs, but places for \(plan.places.count)")
        }
        try QueuePlan.check(rqs: queues.count)
        self.ringCapacity = ringCapacity
        self.idle = idle
        self.arenas = arenas
        table = .allocate(capacity: QueuePlan.maximumRQs)
        table.initialize(repeating: nil, count: QueuePlan.maximumRQs)
        for (queue, place) in zip(queues, plan.places) { _ = try add(queue, at: place) }
    }

    deinit {
        stop()
        for lane in rqs { table[lane]?.release() }
        table.deallocate()
    }

    // MARK: RQs

    /// Number of RQs.
    public var count: Int { rqs.count }
    /// Numbers of the RQs.
    public var rqs: [Int] { (0..<QueuePlan.maximumRQs).filter { table[$0] != nil } }
    /// CPU and node of RQ `rq`.
    public func place(_ rq: Int) -> QueuePlan.Place { lane(rq).place }

    /// Adds an RQ under the lowest number that is free, and starts its thread if the engine runs.
    /// - Returns: its number.
    @discardableResult
    public func add(
        _ queue: RxQueueConfiguration, at place: QueuePlan.Place
    ) throws(SetupError) -> Int {
        guard let rq = (0..<QueuePlan.maximumRQs).first(where: { table[$0] == nil }) else {
            throw SetupError("there are \(QueuePlan.maximumRQs) RQs: no room for another one")
        }
        let lane: RxLane
        do throws(SetupError) {
            try checkReturnRing(of: queue, except: rq)
            lane = try RxLane(
                queue, place: place, ringCapacity: ringCapacity, idle: idle, arenas: arenas)
        } catch { throw SetupError("RQ \(rq): ", error) }
        lane.profile?.number = rq
        if isStarted { try start(lane, rq) }
        table[rq] = .passRetained(lane)
        return rq
    }

    /// Two RQs with one return ring for groups would use each other's slots.
    private func checkReturnRing(
        of queue: RxQueueConfiguration, except number: Int
    ) throws(SetupError) {
        guard let headerQueue = queue.headerQueue, headerQueue.layout.slotReturn == .groups else {
            return
        }
        for rq in rqs where rq != number {
            let other = lane(rq).worker.queue.configuration
            guard other.headerQueue === headerQueue, other.returnRing == queue.returnRing else {
                continue
            }
            throw SetupError(
                "return ring \(queue.returnRing) of its header queue is that of RQ \(rq)")
        }
    }

    /// Removes an RQ after its current poll; the others go on. Its counts stay in `counters`.
    /// - Returns: every reference that the port has not reaped; those of packets that were not
    ///   delivered are marked as dropped.
    public func remove(_ rq: Int) throws(SetupError) -> [PacketRef] {
        let lane = try present(rq)
        lane.pause(.owner)
        lane.stop()
        lane.headerQueue?.noteReported(lane.worker.queue.counters.slots)
        removed = removed + lane.counters
        removed.fault = .none
        table[rq]?.release()
        table[rq] = nil
        return lane.empty()
    }

    /// Virtio's RING_RESET: stops RQ `rq` at a poll boundary, so that nothing of its virtqueue is
    /// touched any more and every slot that it claimed is reported. Its packets wait.
    /// - Returns: the position of the virtqueue (`VirtqueueAddresses.base`).
    @discardableResult
    public func reset(_ rq: Int) throws(SetupError) -> UInt16 {
        let lane = try present(rq)
        lane.pause(.reset)
        return lane.worker.queue.base
    }

    /// Restarts RQ `rq` after `reset`, over another virtqueue or the same one anew.
    /// - Throws: if the RQ was not reset, or the configuration is invalid; the RQ then stays reset.
    public func enable(_ rq: Int, _ queue: RxQueueConfiguration) throws(SetupError) {
        let lane = try present(rq)
        guard lane.pauseReasons.contains(.reset) else {
            throw SetupError("RQ \(rq) was not reset: it cannot be enabled")
        }
        let slots = lane.worker.queue.counters.slots
        let headerQueue = lane.headerQueue
        do throws(SetupError) {
            try checkReturnRing(of: queue, except: rq)
            try lane.replace(queue)
        } catch { throw SetupError("RQ \(rq): ", error) }
        headerQueue?.noteReported(slots)
        lane.resume(.reset)
    }

    /// Resets a header queue, broken or not; its RQs are paused at a poll boundary meanwhile. All
    /// its slots then belong to the driver, which gives them when it is done with those that were
    /// reported.
    public func reset(_ headerQueue: HeaderQueue) { Self.reset(headerQueue, ofRQsIn: [self]) }

    /// The same if RQs of several engines claim from it, or of none. A caller that polls RQs of its
    /// own over it must be at a poll boundary.
    package static func reset(_ headerQueue: HeaderQueue, ofRQsIn engines: [RxEngine]) {
        let linked = engines.flatMap(\.lanes).filter { $0.headerQueue === headerQueue }
        for lane in linked { lane.pause(.headerQueue) }
        headerQueue.reset()
        for lane in linked { lane.resume(.headerQueue) }
    }

    /// Slots of `headerQueue` that RQs of this engine claimed and have not reported: those of
    /// bursts in progress. 0 whenever its RQs are at poll boundaries.
    public func unreportedSlots(of headerQueue: HeaderQueue) -> Int {
        // Reports before claims: a burst between the two readings shows as unreported.
        var reported = headerQueue.reportedByOthers
        for lane in lanes where lane.headerQueue === headerQueue {
            reported += lane.worker.queue.counters.slots
        }
        return Int(headerQueue.claimedCount) - Int(reported)
    }

    // MARK: Life

    /// Starts one pinned thread per RQ.
    public func start() throws(SetupError) {
        guard !isStarted else { throw SetupError("the engine is already running") }
        isStarted = true
        for rq in rqs {
            do throws(SetupError) { try start(lane(rq), rq) } catch {
                stop()
                throw error
            }
        }
    }

    private func start(_ lane: RxLane, _ rq: Int) throws(SetupError) {
        do { try lane.start(name: "cleave-rq\(rq)") } catch {
            throw SetupError("RQ \(rq): ", error)
        }
    }

    /// Pauses RQ `rq` at its next poll boundary, and returns there: it takes no more packets.
    public func pause(_ rq: Int) throws(SetupError) { try present(rq).pause(.owner) }
    /// Lets RQ `rq` take packets again.
    public func resume(_ rq: Int) throws(SetupError) { try present(rq).resume(.owner) }
    /// Pauses every RQ.
    public func pause() { for lane in lanes { lane.pause(.owner) } }
    /// Resumes every RQ.
    public func resume() { for lane in lanes { lane.resume(.owner) } }
    /// Whether RQ `rq` is paused or was reset.
    public func isPaused(_ rq: Int) -> Bool { !lane(rq).pauseReasons.isEmpty }

    /// Waits until every submitted packet has come back; submit nothing meanwhile, and let another
    /// thread go on harvesting and reaping.
    /// - Parameter seconds: how long at most; a driver that posts no buffers holds packets forever.
    /// - Returns: whether all came back.
    public func drain(seconds: Double) -> Bool {
        let deadline = CycleClock.now() + UInt64(seconds * CycleClock.hertz)
        let lanes = lanes
        while lanes.contains(where: { !$0.isIdle }) {
            if CycleClock.now() > deadline { return false }
            PinnedThread.yield()
        }
        return true
    }

    /// Ends the threads after their current poll. Packets that were not delivered stay in the
    /// submission rings. May be called again.
    public func stop() {
        for lane in lanes { lane.stop() }
        isStarted = false
    }

    /// One poll of RQ `rq` on the caller's thread; only while the engine is not started.
    /// - Returns: references returned; 0 for an RQ that is paused.
    public func poll(_ rq: Int) -> Int {
        withLane(rq) { $0.pauseReasons.isEmpty ? $0.worker.poll() : 0 }
    }

    // MARK: Packets

    /// Submits references of whole packets to RQ `rq`.
    /// - Returns: how many were taken; the rest found the ring full.
    public func submit(_ rq: Int, _ refs: UnsafePointer<PacketRef>, count: Int) -> Int {
        withLane(rq) { $0.submit(refs, count: count) }
    }

    /// How many of `count` references `submit` would take now: for packets of several references,
    /// which must not be cut.
    public func room(_ rq: Int, _ count: Int) -> Int {
        withLane(rq) { $0.port.pointee.submissions.reserve(count) }
    }

    /// Takes up to `count` completed references of RQ `rq`.
    public func reap(_ rq: Int, into refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        withLane(rq) { $0.port.pointee.completions.pop(into: refs, count: count) }
    }

    // MARK: Observation

    /// Whether threads run.
    public var isRunning: Bool { isStarted }
    /// Where the virtqueue of RQ `rq` can be resumed; only while nobody polls it.
    public func base(_ rq: Int) -> UInt16 { lane(rq).worker.queue.base }

    /// Why the driver's virtqueue of RQ `rq` is broken, or `.none`: one word.
    public func fault(_ rq: Int) -> QueueFault { lane(rq).worker.queue.fault }

    /// A snapshot of RQ `rq`'s counters, over all its resets.
    public func counters(_ rq: Int) -> RxCounters { lane(rq).counters }
    /// A snapshot of all RQs' counters, added up; those that were removed included.
    public var counters: RxCounters { lanes.reduce(removed) { $0 + $1.counters } }
    /// Cycles that RQ `rq`'s thread spent in polls that did something, and in polls that did not.
    public func cycles(_ rq: Int) -> (busy: UInt64, idle: UInt64) { lane(rq).cycles }
    /// How often RQ `rq`'s thread went to sleep, and how often there were packets or buffers when
    /// only the time limit had woken it.
    public func parks(_ rq: Int) -> (count: UInt64, late: UInt64) { lane(rq).parks }
    /// Where the cycles of RQ `rq`'s polls go; nil in a build without the trait Profiling. `enable`
    /// replaces it.
    public func profile(_ rq: Int) -> RxProfile? { lane(rq).profile }
    /// Fallbacks that the RQs' memory had to take, if any.
    public var memoryFallbacks: [String] { lanes.flatMap(\.fallbacks) }

    /// Asks the kernel where the memory of each RQ lies: rings, counters, plans, port ends. Not
    /// cheap.
    package func memoryResidence() -> [PageResidence] {
        rqs.flatMap { rq in
            let lane = lane(rq)
            return lane.memories.map {
                $0.residence("RQ \(rq): rings and counters", node: lane.place.node)
            }
        }
    }

    private var lanes: [RxLane] { rqs.map(lane) }

    private func present(_ rq: Int) throws(SetupError) -> RxLane {
        guard (0..<QueuePlan.maximumRQs).contains(rq), let lane = table[rq] else {
            throw SetupError("there is no RQ \(rq)")
        }
        return lane.takeUnretainedValue()
    }

    private func lane(_ rq: Int) -> RxLane { withLane(rq) { $0 } }

    /// Counts no reference up and down, since a port calls this for every few packets.
    @inline(__always)
    private func withLane<Result>(_ rq: Int, _ body: (RxLane) -> Result) -> Result {
        guard (0..<QueuePlan.maximumRQs).contains(rq), let lane = table[rq] else {
            preconditionFailure("there is no RQ \(rq)")
        }
        // SAFETY: the table keeps the lane until `remove`, after which nobody may use the RQ.
        return lane._withUnsafeGuaranteedRef(body)
    }
}
