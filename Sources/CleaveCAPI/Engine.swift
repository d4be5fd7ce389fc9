// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveEngine
import CleaveHost
import CleaveRings
import CleaveVirtioNet
import Glibc

/// An engine and the handles of its lanes.
final class EngineObject: HandleObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell controls `engine`, one that holds a lane's cell
    // uses the lane, and each RQ is polled by the one that its word in `turners` names; `lanes` is
    // set before the handle is given out.

    let engine: RxEngine
    let context: ContextObject
    let headerQueues: [HeaderQueueObject?]
    fileprivate(set) var lanes: [OpaquePointer] = []
    /// A cache line for each RQ: who polls it.
    private let turners: UnsafeMutableRawPointer
    /// Of the header queues of its RQs.
    private let rings: [ReturnRingLease]

    private enum Turner {
        static let nobody: UInt64 = 0
        /// A call on its lane.
        static let caller: UInt64 = 1
        /// The engine's thread.
        static let thread: UInt64 = 2
    }

    init(
        _ memory: MemoryObject, _ plans: [ReceiveQueuePlan], _ cpus: [Int]?, ringCapacity: Int
    ) throws(Refusal) {
        context = memory.context
        headerQueues = plans.map(\.headerQueue)
        var leases: [ReturnRingLease] = []
        for plan in plans {
            if let lease = try plan.headerQueue?.lease([plan.configuration.returnRing]) {
                leases.append(lease)
            }
        }
        rings = leases
        do {
            let plan =
                if let cpus {
                    try QueuePlan(rqs: plans.count, cpus: cpus)
                } else {
                    QueuePlan(unpinned: plans.count)
                }
            engine = try RxEngine(
                queues: plans.map(\.configuration), plan: plan, ringCapacity: ringCapacity,
                arenas: context.arenas)
        } catch { throw Refusal(error) }
        let byteCount = plans.count * CacheLine.byteCount
        turners = .allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
        turners.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        super.init(parents: [memory] + plans.compactMap(\.headerQueue))
        for fallback in engine.memoryFallbacks { context.log(.warning, "RQ memory: \(fallback)") }
        context.log(.info, "engine of \(plans.count) RQs created")
    }

    deinit { turners.deallocate() }

    override class var type: HandleType? { .engine }

    private func turner(_ index: Int) -> SharedWord64 {
        SharedWord64(turners + index * CacheLine.byteCount)
    }

    /// Starts the threads, unless a caller polls one of their RQs.
    func start() throws(Refusal) {
        if engine.isRunning { throw Refusal(Refusal.busy, "the engine is running") }
        for index in headerQueues.indices {
            // [C4 acquire <- a caller's last poll]
            let word = turner(index)
            let answer = word.compareExchange(expected: Turner.nobody, desired: Turner.thread)
            if answer.exchanged { continue }
            release(index)
            throw Refusal(Refusal.busy, "RQ \(index) is turned by a call on its lane")
        }
        do { try engine.start() } catch {
            release(headerQueues.count)
            context.log(.error, "\(error)")
            throw Refusal(-EAGAIN, "\(error)")
        }
        context.log(.info, "engine started")
    }

    func stop() {
        if !engine.isRunning { return }
        engine.stop()
        release(headerQueues.count)
        context.log(.info, "engine stopped")
    }

    /// Lets callers poll the first `count` RQs.
    private func release(_ count: Int) {
        // [C4 release -> a caller's first poll: what the thread did before it was joined]
        for index in 0..<count { turner(index).storeRelease(Turner.nobody) }
    }

    /// Runs `body` while nobody else polls RQ `index`.
    func alone<Value>(_ index: Int, _ body: () -> Value) throws(Refusal) -> Value {
        let word = turner(index)
        // [C4 acquire <- the thread, or another caller]
        let answer = word.compareExchange(expected: Turner.nobody, desired: Turner.caller)
        if !answer.exchanged { throw Refusal(Refusal.busy, "the engine's thread turns this RQ") }
        // [C4 release -> the thread]
        defer { word.storeRelease(Turner.nobody) }
        return body()
    }
}

/// The submitting side of one RQ of an engine.
final class LaneObject: HandleObject, @unchecked Sendable {
    // SAFETY: used by the call that holds the handle's cell; counters may be read by any thread.

    private let owner: EngineObject
    private let engine: RxEngine
    private let index: Int
    private let headerQueue: HeaderQueueObject?
    /// The log was told that the driver broke the virtqueue.
    private var reportedFault = false
    private let burst: PacketBurst
    private let completions: UnsafeMutablePointer<PacketRef>
    private static let burstCount = 64

    init(_ parent: EngineObject, _ index: Int) {
        owner = parent
        engine = parent.engine
        self.index = index
        headerQueue = parent.headerQueues[index]
        burst = PacketBurst(
            refs: .allocate(capacity: PacketBurst.refCapacity(packets: Self.burstCount)),
            packetCapacity: Self.burstCount)
        completions = .allocate(capacity: Self.burstCount)
        super.init(parents: [parent])
    }

    deinit {
        burst.refs.deallocate()
        completions.deallocate()
    }

    override class var type: HandleType? { .lane }

    /// Submits packets with all of their segments, as many as the ring has room for.
    func submit(_ packets: UnsafePointer<cleave_packet>, _ count: Int) throws(Refusal) -> Int32 {
        var done = 0
        while done < count {
            let converted = burst.convert(UnsafeRawPointer(packets + done), count - done)
            if let problem = converted.problem, done == 0, converted.packetCount == 0 {
                throw problem
            }
            let room = engine.room(index, converted.refCount)
            var refCount = 0
            var packetCount = 0
            for end in 1...max(1, room) where end <= room {
                if burst.refs[end - 1].flags.contains(.more) { continue }
                refCount = end
                packetCount += 1
            }
            _ = engine.submit(index, burst.refs, count: refCount)
            done += packetCount
            if packetCount < converted.packetCount || packetCount == 0 { break }
        }
        return Int32(truncatingIfNeeded: done)
    }

    /// Reaps completions; the segments of a packet count as one.
    func reap(_ target: UnsafeMutablePointer<cleave_completion>, _ count: Int) -> Int32 {
        var done = 0
        while done < count {
            let wanted = min(count - done, Self.burstCount)
            let got = engine.reap(index, into: completions, count: wanted)
            for number in 0..<got where !completions[number].flags.contains(.more) {
                let ref = completions[number]
                target[done] = cleave_completion(
                    cookie: ref.cookie,
                    flags: ref.flags.contains(.dropped)
                        ? UInt16(CLEAVE_PACKET_DROPPED.rawValue) : 0)
                done += 1
                if ref.flags.contains(.dropped) { reportFault() }
            }
            if got < wanted { break }
        }
        if let headerQueue, headerQueue.queue.isBroken { headerQueue.reportBroken() }
        return Int32(truncatingIfNeeded: done)
    }

    /// After a packet was dropped: tells the log, once, if the driver broke the virtqueue.
    private func reportFault() {
        if reportedFault { return }
        let fault = engine.fault(index)
        if fault == .none { return }
        reportedFault = true
        owner.context.log(.error, "the driver broke receive queue \(index): \(fault.name)")
    }

    func poll() throws(Refusal) -> Int32 {
        Int32(truncatingIfNeeded: try owner.alone(index) { engine.poll(index) })
    }

    func base() throws(Refusal) -> UInt16 { try owner.alone(index) { engine.base(index) } }

    var counters: cleave_counters {
        cleave_counters(engine.counters(index), cycles: engine.cycles(index))
    }
}

@c @implementation
public func cleave_engine_create(
    _ memory: OpaquePointer!, _ config: UnsafePointer<cleave_engine_config>!,
    _ engine: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    control(memory, as: MemoryObject.self) { parent throws(Refusal) in
        guard let engine else { throw .null("engine") }
        let object = try makeEngine(config, parent)
        let lanes = (0..<object.engine.count).map { LaneObject(object, $0) }
        // In one step: a hold on all that was made from an object gets all lanes, or none.
        let handles = try HandleTable.insert([object] + lanes)
        object.lanes = Array(handles.dropFirst())
        engine.pointee = handles[0]
        return 0
    }
}

private func makeEngine(
    _ config: UnsafePointer<cleave_engine_config>?, _ memory: MemoryObject
) throws(Refusal) -> EngineObject {
    let configuration = try readSized(
        config, minimum: MemoryLayout<cleave_engine_config>.size, into: cleave_engine_config(),
        "config")
    let count = Int(configuration.queue_count)
    guard (1...QueuePlan.maximumRQs).contains(count) else {
        throw .invalid("config->queue_count is \(count), not 1 to \(QueuePlan.maximumRQs)")
    }
    guard configuration.reserved == 0 else { throw .invalid("config->reserved is not 0") }
    guard let queues = configuration.queues else { throw .null("config->queues") }
    let capacity = configuration.ring_capacity == 0 ? 1024 : Int(configuration.ring_capacity)
    guard capacity >= 64, capacity <= 1 << 20, capacity & (capacity - 1) == 0 else {
        throw .invalid(
            "config->ring_capacity is \(capacity), not a power of two from 64 to 1048576")
    }
    let stride = UnsafeRawPointer(queues).loadUnaligned(as: UInt32.self)
    var plans: [ReceiveQueuePlan] = []
    for index in 0..<count {
        let bytes = UnsafeRawPointer(queues) + index * Int(stride)
        guard bytes.loadUnaligned(as: UInt32.self) == stride else {
            throw .invalid("config->queues[\(index)].struct_size is not that of the first")
        }
        let queue = try readSized(
            bytes.assumingMemoryBound(to: cleave_rq_config.self),
            minimum: cleave_rq_config.firstByteCount, into: cleave_rq_config(),
            "config->queues[\(index)]")
        do throws(Refusal) { plans.append(try ReceiveQueuePlan(queue, memory)) } catch {
            throw Refusal(error.code, "queues[\(index)]: \(error.text)")
        }
    }
    let cpus = configuration.cpus.map { cpus in (0..<count).map { Int(cpus[$0]) } }
    return try EngineObject(memory, plans, cpus, ringCapacity: capacity)
}

@c @implementation
public func cleave_engine_start(_ engine: OpaquePointer!) -> Int32 {
    exclusive(engine, as: EngineObject.self) { object throws(Refusal) in
        cleave_call_begin()
        defer { cleave_call_end() }
        try object.start()
        return 0
    }
}

@c @implementation
public func cleave_engine_drain(_ engine: OpaquePointer!, _ milliseconds: UInt32) -> Int32 {
    exclusive(engine, as: EngineObject.self) { object throws(Refusal) in
        if object.engine.drain(seconds: Double(milliseconds) / 1000) { return 0 }
        throw Refusal(-ETIMEDOUT, "packets were left after \(milliseconds) ms")
    }
}

@c @implementation
public func cleave_engine_stop(_ engine: OpaquePointer!) -> Int32 {
    exclusive(engine, as: EngineObject.self) { object throws(Refusal) in
        object.stop()
        return 0
    }
}

@c @implementation
public func cleave_engine_destroy(_ engine: OpaquePointer!) -> Int32 {
    destroy(engine, as: EngineObject.self, children: { $0.lanes }, finally: { $0.stop() })
}

@c @implementation
public func cleave_engine_get_lane(
    _ engine: OpaquePointer!, _ index: UInt32, _ lane: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    control(engine, as: EngineObject.self) { object throws(Refusal) in
        guard let lane else { throw .null("lane") }
        guard Int(index) < object.lanes.count else {
            throw .invalid("index \(index) is not below \(object.lanes.count)")
        }
        lane.pointee = object.lanes[Int(index)]
        return 0
    }
}

@c @implementation
public func cleave_lane_submit(
    _ lane: OpaquePointer!, _ packets: UnsafePointer<cleave_packet>!, _ count: UInt32
) -> Int32 {
    exclusive(lane, as: LaneObject.self) { object throws(Refusal) in
        guard let packets else { throw .null("packets") }
        return try object.submit(packets, Int(min(count, UInt32(Int32.max))))
    }
}

@c @implementation
public func cleave_lane_reap(
    _ lane: OpaquePointer!, _ completions: UnsafeMutablePointer<cleave_completion>!,
    _ count: UInt32
) -> Int32 {
    exclusive(lane, as: LaneObject.self) { object throws(Refusal) in
        guard let completions else { throw .null("completions") }
        return object.reap(completions, Int(min(count, UInt32(Int32.max))))
    }
}

@c @implementation
public func cleave_lane_turn(_ lane: OpaquePointer!) -> Int32 {
    exclusive(lane, as: LaneObject.self) { object throws(Refusal) in try object.poll() }
}

@c @implementation
public func cleave_lane_get_base(
    _ lane: OpaquePointer!, _ base: UnsafeMutablePointer<UInt16>!
) -> Int32 {
    exclusive(lane, as: LaneObject.self) { object throws(Refusal) in
        guard let base else { throw .null("base") }
        base.pointee = try object.base()
        return 0
    }
}

@c @implementation
public func cleave_lane_get_counters(
    _ lane: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_counters>!
) -> Int32 {
    report(on: lane, as: LaneObject.self, to: counters) { $0.counters }
}
