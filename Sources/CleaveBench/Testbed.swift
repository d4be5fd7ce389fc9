import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// One case, built: a guest with its drivers, the device's engine, and the packets to carry.
///
/// Everything runs in this process: the guest is `CleaveGuestDriver`, the device is what any guest
/// would meet.
final class Testbed {
    let benchCase: BenchCase
    let pool: PacketPool
    /// One for each node; `sources` refer to their memory.
    private let pools: [Int?: PacketPool]
    let engine: RxEngine
    let drivers: [RxDriver]
    /// Source packets of each RQ, as RSS steers them; an RQ may get none.
    let sources: [[PacketRef]]
    let memory: BenchMemory
    let notes: [String]
    let guest: GuestLayout
    /// Which CPU and node each RQ has.
    let queuePlan: QueuePlan
    /// Where the kernel says that the memory of all of it lies.
    let residence: [PageResidence]

    /// - Parameters:
    ///   - pools: the packets in memory of each node that `plan` names.
    ///   - indirectionSize: entries of the table that steers packets to RQs.
    init(
        _ benchCase: BenchCase, pools: [Int?: PacketPool], plan: QueuePlan,
        idle: IdlePolicy = .pause, indirectionSize: Int = IndirectionTable.defaultSize
    ) throws(SetupError) {
        self.benchCase = benchCase
        guard let pool = pools[plan.places.first?.node ?? nil] else {
            throw SetupError("\(benchCase.displayName): no packets on the node of RQ 0")
        }
        self.pool = pool
        self.pools = pools
        let largest = pool.refs.reduce(0) { max($0, Int($1.byteCount)) }
        let shape = Self.shape(benchCase, largestPacket: largest)
        do {
            let driverConfiguration = RxDriverConfiguration(
                ringSize: benchCase.ringSize, ring: benchCase.ring, shape: shape,
                method: benchCase.rxMethod,
                features: benchCase.features,
                spareBuffers: benchCase.consumer == .take
                    ? benchCase.ringSize / shape.chainLength * shape.chainLength : 0,
                burst: benchCase.burst, headerBufferByteCount: benchCase.headerBufferByteCount,
                alignsPayload: benchCase.alignsPayload
                    && benchCase.rxMethod == .headerQueue(.netHeader))
            let guest = try GuestLayout(
                benchCase, places: plan.places, rqByteCount: driverConfiguration.guestByteCount)
            let drivers = try (0..<benchCase.rqs).map { rq in
                var configuration = driverConfiguration
                configuration.headerQueue = guest.pick(guest.driverQueues, rq)
                configuration.returnRing = guest.returnRing(rq, benchCase)
                return try RxDriver(configuration, in: guest.space(on: plan.places[rq].node))
            }
            let queues = drivers.enumerated().map { rq, driver in
                var configuration = RxQueueConfiguration(
                    virtqueue: driver.virtqueue, features: driverConfiguration.allFeatures,
                    memory: guest.memory, method: benchCase.rxMethod,
                    headerQueue: guest.pick(guest.deviceQueues, rq),
                    splitPolicy: benchCase.splitPolicy,
                    burst: benchCase.burst)
                configuration.returnRing = guest.returnRing(rq, benchCase)
                return configuration
            }
            engine = try RxEngine(
                queues: queues, plan: plan, ringCapacity: Self.ringCapacity(benchCase),
                idle: idle)
            self.drivers = drivers
            self.guest = guest
            let spareBytes = driverConfiguration.spareBuffers * shape.bufferByteCount
            memory = BenchMemory(
                dataBytes: benchCase.rqs * (driverConfiguration.dataByteCount - spareBytes),
                headerBytes: guest.driverQueues.count * benchCase.slotSize * benchCase.slots
                    + benchCase.rqs * driverConfiguration.headerByteCount)
        } catch { throw SetupError("\(benchCase.displayName): \(error)") }
        sources = try Self.steer(benchCase, pools, plan, tableSize: indirectionSize)
        queuePlan = plan
        residence =
            engine.memoryResidence() + guest.residence()
            + pools.sorted { ($0.key ?? -1) < ($1.key ?? -1) }
            .map { $1.arena.residence("packets", node: $0) }
        var notes = residence.filter { $0.misplacedCount > 0 }.map(\.description)
        notes += guest.fallbacks.map { "guest memory: \($0)" }
        notes += Set(engine.memoryFallbacks).sorted().map { "RQ memory: \($0)" }
        if let fallback = pool.arena.fallback { notes.append("packet memory: \(fallback)") }
        if let cut = pool.cut { notes.append("\(cut); the packets before it were read") }
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
    /// take no more of the caches than necessary.
    private static func ringCapacity(_ benchCase: BenchCase) -> Int {
        let least = max(benchCase.ringSize, 2 * benchCase.burst)
        return 1 << (Int.bitWidth - (least - 1).leadingZeroBitCount)
    }

    /// RSS: the hash picks an entry of the indirection table. Each RQ takes its packets from memory
    /// of its own node.
    private static func steer(
        _ benchCase: BenchCase, _ pools: [Int?: PacketPool], _ plan: QueuePlan, tableSize: Int
    ) throws(SetupError) -> [[PacketRef]] {
        let table: IndirectionTable
        do {
            table = try IndirectionTable(
                rqs: benchCase.rqs, size: tableSize, imbalance: benchCase.imbalance)
        } catch { throw SetupError(error.description) }
        return plan.places.enumerated().map { rq, place in
            guard let pool = pools[place.node] else { return [] }
            return zip(pool.refs, pool.hashes).filter { table.rq(ofHash: $1) == rq }.map(\.0)
        }
    }
}

extension BenchCase {
    /// Features beyond those that the shape of the buffers needs.
    var features: VirtioFeatures {
        var features: VirtioFeatures = hashReport ? .hashReport : []
        if inOrder { features.insert(.inOrder) }
        return features
    }

    /// As far as the method obeys it: in a product of axes the others have no effect.
    var splitPolicy: SplitPolicy {
        SplitPolicy(
            threshold: method == .whole ? 0 : splitThreshold,
            placesTinyPackets: method == .d && tiny, zeroPads: method == .d && zeroPad)
    }

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
