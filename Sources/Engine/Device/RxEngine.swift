import Host
import Rings
import RxPath

/// The RQs of one device, each with its rings to a port, and on `start` with its pinned thread.
///
/// Life: made, started, drained, stopped; or never started, and turned by its owner through
/// `turn`. The owner's control thread calls `start`, `drain` and `stop`; `submit` and `reap` of
/// one RQ are for one thread at a time.
public final class RxEngine: @unchecked Sendable {
    // SAFETY: `lanes` is constant; each lane's port ends are used by one thread at a time, as
    // documented, and its worker by the RQ's thread alone.

    private let lanes: [RxLane]
    /// Not 0: threads end after their turn. Says nothing about other memory.
    private let stopping: SharedWord32
    private var threads: [PinnedThread] = []
    public let plan: QueuePlan

    /// References a submission ring holds.
    public static let defaultRingCapacity = 1024

    /// Makes RQs, workers and rings, each in memory on its RQ's node.
    /// - Parameters:
    ///   - queues: one configuration per place of `plan`.
    ///   - plan: CPU and node of each RQ.
    ///   - ringCapacity: references that each submission ring and each completion ring holds, a
    ///     power of two.
    ///   - arenas: where the RQs' memory comes from.
    public init(
        queues: [RxQueueConfiguration], plan: QueuePlan,
        ringCapacity: Int = RxEngine.defaultRingCapacity, arenas: ArenaSource = .system
    ) throws(EngineError) {
        guard queues.count == plan.places.count, !queues.isEmpty else {
            throw EngineError("\(queues.count) RQs, but places for \(plan.places.count)")
        }
        var lanes: [RxLane] = []
        for (queue, place) in zip(queues, plan.places) {
            lanes.append(
                try RxLane(queue, node: place.node, ringCapacity: ringCapacity, arenas: arenas))
        }
        self.lanes = lanes
        self.plan = plan
        stopping = SharedWord32(.allocate(byteCount: 4, alignment: 4))
        stopping.store(0)
    }

    deinit {
        stop()
        stopping.deallocate()
    }

    /// RQs.
    public var count: Int { lanes.count }

    /// Starts one pinned thread per RQ.
    public func start() throws(EngineError) {
        guard threads.isEmpty else { throw EngineError("the engine is already running") }
        stopping.store(0)
        for (index, lane) in lanes.enumerated() {
            do {
                threads.append(
                    try PinnedThread(name: "cleave-rq\(index)", cpu: plan.places[index].cpu) {
                        [stopping] in lane.run(until: stopping)
                    })
            } catch {
                stop()
                throw EngineError("RQ \(index): \(error)")
            }
        }
    }

    /// Waits until every submitted packet has come back; submit nothing meanwhile, and let another
    /// thread go on harvesting and reaping.
    /// - Parameter seconds: how long at most; a driver that posts no buffers holds packets forever.
    /// - Returns: whether all came back.
    public func drain(seconds: Double) -> Bool {
        let deadline = CycleClock.now() + UInt64(seconds * CycleClock.hertz)
        while lanes.contains(where: { !$0.isIdle }) {
            if CycleClock.now() > deadline { return false }
            PinnedThread.yield()
        }
        return true
    }

    /// Ends the threads after their current turn. Packets that were not delivered stay in the
    /// submission rings. May be called again.
    public func stop() {
        stopping.store(1)
        for thread in threads { thread.join() }
        threads = []
    }

    /// One turn of RQ `rq` on the caller's thread; only while the engine is not started.
    /// - Returns: references returned.
    public func turn(_ rq: Int) -> Int { lanes[rq].worker.turn() }

    /// Submits references of whole packets to RQ `rq`.
    /// - Returns: how many were taken; the rest found the ring full.
    public func submit(_ rq: Int, _ refs: UnsafePointer<PacketRef>, count: Int) -> Int {
        lanes[rq].port.pointee.submissions.push(refs, count: count)
    }

    /// How many of `count` references `submit` would take now: for packets of several references,
    /// which must not be cut.
    public func room(_ rq: Int, _ count: Int) -> Int {
        lanes[rq].port.pointee.submissions.reserve(count)
    }

    /// Takes up to `count` completed references of RQ `rq`.
    public func reap(_ rq: Int, into refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        lanes[rq].port.pointee.completions.pop(into: refs, count: count)
    }

    /// Whether threads run.
    public var isRunning: Bool { !threads.isEmpty }
    /// Where the virtqueue of RQ `rq` can be resumed; only while the engine is not running.
    public func base(_ rq: Int) -> UInt16 { lanes[rq].worker.queue.base }

    /// A snapshot of RQ `rq`'s counters.
    public func counters(_ rq: Int) -> RxCounters { lanes[rq].worker.queue.counters }
    /// A snapshot of all RQs' counters, added up.
    public var counters: RxCounters {
        (0..<count).reduce(RxCounters()) { $0 + counters($1) }
    }
    /// Cycles that RQ `rq`'s thread spent in turns that did something, and in turns that did not.
    public func cycles(_ rq: Int) -> (busy: UInt64, idle: UInt64) { lanes[rq].cycles }
    /// What the memory of the RQs fell back to, if anything.
    public var memoryFallbacks: [String] { lanes.compactMap(\.arena.fallback) }
}
