import CHost
import Host
import Rings
import RxPath

/// One RQ with what surrounds it: arena, rings, worker, port ends, thread statistics.
final class RxLane: @unchecked Sendable {
    // SAFETY: constants; `port` is used by one thread at a time, `worker` by the RQ's thread.

    /// The port's ends of the rings.
    struct Port: ~Copyable {
        var submissions: SPSCProducer<PacketRef>
        var completions: SPSCConsumer<PacketRef>
    }

    let arena: MemoryArena
    let worker: RxWorker
    let port: UnsafeMutablePointer<Port>
    private let submissionRing: SPSCRing<PacketRef>
    private let busyCycles: SharedWord64
    private let idleCycles: SharedWord64

    /// Empty turns after which a thread lets others run: on a shared core, whoever feeds it.
    private static let turnsBeforeYield = 256

    init(
        _ queue: RxQueueConfiguration, node: Int?, ringCapacity: Int, arenas: ArenaSource
    ) throws(EngineError) {
        guard ringCapacity > 0, ringCapacity & (ringCapacity - 1) == 0 else {
            throw EngineError("submission ring of \(ringCapacity): need a power of two")
        }
        let ringByteCount = SPSCRing<PacketRef>.byteCount(capacity: ringCapacity)
        do {
            arena = try arenas.make(
                2 * ringByteCount + queue.arenaByteCount + RxWorker.arenaByteCount
                    + 8 * CacheLine.byteCount,
                node, "rq")
            submissionRing = SPSCRing(
                memory: try arena.allocate(byteCount: ringByteCount), capacity: ringCapacity)
            let completionRing = SPSCRing<PacketRef>(
                memory: try arena.allocate(byteCount: ringByteCount), capacity: ringCapacity)
            let statistics = try arena.allocate(byteCount: CacheLine.byteCount)
            busyCycles = SharedWord64(statistics)
            idleCycles = SharedWord64(statistics + 8)
            worker = try RxWorker(
                queue: RxQueue(queue, in: arena), submissions: submissionRing.makeConsumer(),
                completions: completionRing.makeProducer(), in: arena)
            port = .allocate(capacity: 1)
            port.initialize(
                to: Port(
                    submissions: submissionRing.makeProducer(),
                    completions: completionRing.makeConsumer()))
        } catch { throw EngineError("\(error)") }
    }

    deinit {
        port.deinitialize(count: 1)
        port.deallocate()
    }

    /// The body of the RQ's thread.
    func run(until stopping: SharedWord32) {
        var last = CycleClock.now()
        var emptyTurns = 0
        while stopping.load() == 0 {
            let returned = worker.turn()
            let now = CycleClock.now()
            if returned > 0 {
                busyCycles.addSingleWriter(now &- last)
                emptyTurns = 0
            } else {
                idleCycles.addSingleWriter(now &- last)
                emptyTurns &+= 1
                cleave_pause()
                if emptyTurns >= Self.turnsBeforeYield {
                    PinnedThread.yield()
                    emptyTurns = 0
                }
            }
            last = now
        }
    }

    var isIdle: Bool { submissionRing.approximateCount == 0 }
    var cycles: (busy: UInt64, idle: UInt64) { (busyCycles.load(), idleCycles.load()) }
}
