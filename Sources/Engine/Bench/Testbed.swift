import GuestDriver
import Host
import Ports
import RxPath

/// One case, built: a guest with its drivers, the device's engine, and the packets to carry.
///
/// Everything runs in this process: the guest is `GuestDriver`, the device is what any guest
/// would meet.
final class Testbed {
    let benchCase: BenchCase
    let pool: PacketPool
    let engine: RxEngine
    let drivers: [RxDriver]
    /// Source packets of each RQ, as RSS steers them; an RQ may get none.
    let sources: [[PacketRef]]
    let memory: BenchMemory
    let notes: [String]
    private let space: GuestSpace
    private let headerQueues: [HeaderQueue]
    /// Header queues as the driver sees them, one for all RQs or one for each.
    let driverHeaderQueues: [DriverHeaderQueue]

    init(_ benchCase: BenchCase, pool: PacketPool, plan: QueuePlan) throws(EngineError) {
        self.benchCase = benchCase
        self.pool = pool
        let largest = pool.refs.reduce(0) { max($0, Int($1.byteCount)) }
        let shape = Self.shape(benchCase, largestPacket: largest)
        let queueCount =
            benchCase.method != .d ? 0 : benchCase.sharedHeaderQueue ? 1 : benchCase.rqs
        do {
            let driverConfiguration = RxDriverConfiguration(
                ringSize: benchCase.ringSize, ring: benchCase.ring, shape: shape,
                method: benchCase.rxMethod,
                features: benchCase.hashReport ? .hashReport : [],
                spareBuffers: benchCase.consumer == .take
                    ? benchCase.ringSize / shape.chainLength * shape.chainLength : 0,
                burst: benchCase.burst, headerBufferByteCount: benchCase.headerBufferByteCount)
            let slotBytes = benchCase.slotSize * benchCase.slots
            let space = try GuestSpace(
                byteCount: benchCase.rqs * (driverConfiguration.guestByteCount + 8192)
                    + queueCount * (slotBytes + 1024) + 4096,
                node: plan.places.first?.node)
            let driverQueues = try (0..<queueCount).map { _ in
                try DriverHeaderQueue(
                    slotSize: benchCase.slotSize, slotCount: benchCase.slots, in: space)
            }
            let deviceQueues = try driverQueues.map {
                try HeaderQueue($0.layout, memory: space.memory)
            }
            func pick<Queue>(_ queues: [Queue], _ rq: Int) -> Queue? {
                queues.isEmpty ? nil : queues[rq % queues.count]
            }
            let drivers = try (0..<benchCase.rqs).map { rq in
                var configuration = driverConfiguration
                configuration.headerQueue = pick(driverQueues, rq)
                return try RxDriver(configuration, in: space)
            }
            let queues = drivers.enumerated().map { rq, driver in
                RxQueueConfiguration(
                    virtqueue: driver.virtqueue, features: driverConfiguration.allFeatures,
                    memory: space.memory, method: benchCase.rxMethod,
                    headerQueue: pick(deviceQueues, rq),
                    splitPolicy: SplitPolicy(
                        threshold: benchCase.splitThreshold, placesTinyPackets: benchCase.tiny,
                        zeroPads: benchCase.zeroPad),
                    burst: benchCase.burst)
            }
            engine = try RxEngine(
                queues: queues, plan: plan, ringCapacity: Self.ringCapacity(benchCase))
            self.drivers = drivers
            self.space = space
            headerQueues = deviceQueues
            driverHeaderQueues = driverQueues
            let spareBytes = driverConfiguration.spareBuffers * shape.bufferByteCount
            memory = BenchMemory(
                dataBytes: benchCase.rqs * (driverConfiguration.dataByteCount - spareBytes),
                headerBytes: queueCount * slotBytes
                    + benchCase.rqs * driverConfiguration.headerByteCount)
        } catch { throw EngineError("\(benchCase.displayName): \(error)") }
        sources = Self.steer(pool, rqs: benchCase.rqs)
        var notes: [String] = []
        if let fallback = space.arena.fallback { notes.append("guest memory: \(fallback)") }
        notes += Set(engine.memoryFallbacks).sorted().map { "RQ memory: \($0)" }
        if let fallback = pool.arena.fallback { notes.append("packet memory: \(fallback)") }
        for (rq, source) in sources.enumerated() where source.isEmpty {
            notes.append("RQ \(rq) gets no packets: no flow hashes to it")
        }
        self.notes = notes
        for driver in drivers { driver.refill() }
    }

    private static func shape(_ benchCase: BenchCase, largestPacket: Int) -> BufferShape {
        switch benchCase.buffers {
        case .mergeable: .mergeable(bufferByteCount: benchCase.bufferByteCount)
        case .chained:
            .chained(bufferByteCount: benchCase.bufferByteCount, packetByteCount: largestPacket)
        case .single: .single(packetByteCount: largestPacket)
        }
    }

    /// As many references as the driver can have buffers, so that the rings between port and RQ
    /// take no more of the caches than they must.
    private static func ringCapacity(_ benchCase: BenchCase) -> Int {
        let least = max(benchCase.ringSize, 2 * benchCase.burst)
        return 1 << (Int.bitWidth - (least - 1).leadingZeroBitCount)
    }

    /// RSS: the hash picks one of 128 entries of an indirection table filled round robin.
    private static func steer(_ pool: PacketPool, rqs: Int) -> [[PacketRef]] {
        var sources = Array(repeating: [PacketRef](), count: rqs)
        for (ref, hash) in zip(pool.refs, pool.hashes) {
            sources[Int(hash & 127) % rqs].append(ref)
        }
        return sources
    }
}

extension BenchCase {
    var rxMethod: RxMethod {
        switch method {
        case .whole: .whole
        case .a: .headerDescriptor
        case .b: .headerPage
        case .c: .alternating(headerBufferByteCount: headerBufferByteCount)
        case .d: .headerQueue(report)
        }
    }
}
