import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet

/// What one pass over a testbed cost.
struct PassFigures {
    /// Delivered to the driver.
    var packets = 0
    /// Of those packets.
    var bytes: UInt64 = 0
    var deviceCycles: UInt64 = 0
    /// Cycles of the driver's three phases, the clock's own cost taken off.
    var refillCycles: UInt64 = 0
    var harvestCycles: UInt64 = 0
    var giveBackCycles: UInt64 = 0
    var consumerCycles: UInt64 = 0
    var elapsedCycles: UInt64 = 0

    var driverCycles: UInt64 { refillCycles &+ harvestCycles &+ giveBackCycles }

    var seconds: Double { Double(elapsedCycles) / CycleClock.hertz }

    /// A share of the pass for each packet that was delivered; no number if none was, as all of the
    /// pass is the cost of no packet.
    func perPacket(_ value: UInt64) -> Double {
        packets == 0 ? .nan : Double(value) / Double(packets)
    }

    /// Adds a lane's figures; elapsed time is common to all lanes.
    mutating func add(_ lane: PassFigures) {
        packets += lane.packets
        deviceCycles += lane.deviceCycles
        refillCycles += lane.refillCycles
        harvestCycles += lane.harvestCycles
        giveBackCycles += lane.giveBackCycles
        consumerCycles += lane.consumerCycles
    }
}

/// Feeds one RQ and works as its driver, a burst at a time: the loop that both modes measure and
/// that verification goes through as well.
struct BenchLane {
    private let engine: RxEngine
    private let driver: RxDriver
    private let rq: Int
    private let burst: Int
    private let consumer: PayloadConsumer
    private let readsPayload: Bool
    /// Whether anything happens between harvest and return.
    private let consumes: Bool
    private let taken: Int
    private let readingCost = CycleClock.readingCost
    private let source: UnsafeMutableBufferPointer<PacketRef>
    private let reaped: UnsafeMutablePointer<PacketRef>
    private let application: UnsafeMutableRawBufferPointer
    private var position = 0
    /// Packets submitted and not reaped yet.
    private(set) var inFlight = 0
    /// Packets reaped since `resetFigures`.
    private(set) var returned = 0
    private(set) var figures = PassFigures()
    /// When `harvestDriver` last found packets: before they were consumed or given back.
    private(set) var seenAt: UInt64 = 0
    /// Result of the bytes that the application read: without it the reads would have no use.
    private(set) var readSum: UInt64 = 0
    var verifier: BenchVerifier?

    /// An application buffer as large as this stays in the second-level cache.
    private static let applicationByteCount = 256 * 1024
    /// Checks for a completion before a packet counts as never submitted.
    private static let maximumEmptyReaps = 1_000_000

    init(_ testbed: Testbed, rq: Int) {
        engine = testbed.engine
        driver = testbed.drivers[rq]
        self.rq = rq
        burst = testbed.benchCase.burst
        consumer = testbed.benchCase.consumer
        readsPayload = testbed.benchCase.readsPayload
        consumes = consumer != .none || readsPayload
        taken = testbed.benchCase.ringSize / 2
        source = .allocate(capacity: testbed.sources[rq].count)
        _ = source.initialize(from: testbed.sources[rq])
        reaped = .allocate(capacity: burst)
        application = .allocate(byteCount: Self.applicationByteCount, alignment: 4096)
        application.initializeMemory(as: UInt8.self, repeating: 0)
    }

    func free() {
        source.deallocate()
        reaped.deallocate()
        application.deallocate()
    }

    var hasSource: Bool { source.count > 0 }

    mutating func resetFigures() {
        figures = PassFigures()
        returned = 0
    }

    /// Submits source packets, in order and over again, up to `limit` in flight.
    mutating func submit(limit: Int) {
        var room = limit - inFlight
        while room > 0 {
            let run = min(room, source.count - position)
            let taken = engine.submit(rq, source.baseAddress! + position, count: run)
            inFlight += taken
            position += taken
            if position == source.count { position = 0 }
            if taken < run { return }
            room -= taken
        }
    }

    /// The device's side, on this thread.
    @inline(__always)
    mutating func pollDevice() {
        let start = CycleClock.now()
        _ = engine.poll(rq)
        figures.deviceCycles &+= CycleClock.now() &- start
    }

    /// The driver's side: harvest, consume, give back, refill.
    /// - Returns: packets harvested.
    @inline(__always)
    mutating func harvestDriver() -> Int {
        let start = CycleClock.now()
        let count = driver.harvest()
        let harvested = CycleClock.now()
        var consumed = harvested
        if count > 0 && (consumes || verifier != nil) {
            consume()
            consumed = CycleClock.now()
        }
        driver.finish(taking: consumer == .take)
        let returned = CycleClock.now()
        driver.refill()
        let end = CycleClock.now()
        // A check that finds no packet is waiting, not work.
        if count > 0 {
            seenAt = harvested
            figures.harvestCycles &+= spent(start, harvested)
            figures.consumerCycles &+= consumed &- harvested
            figures.giveBackCycles &+= spent(consumed, returned)
            figures.refillCycles &+= spent(returned, end)
        }
        figures.packets += count
        return count
    }

    /// Cycles between two readings, less the clock's own. A phase takes a few cycles for each
    /// packet and a reading a few tens for each burst, so it would weigh as much as a small phase.
    @inline(__always)
    private func spent(_ start: UInt64, _ end: UInt64) -> UInt64 {
        let cycles = end &- start
        return cycles > readingCost ? cycles &- readingCost : 0
    }

    @inline(__always)
    private mutating func consume() {
        switch consumer {
        case .none: break
        case .copy: driver.copyOut(to: application.baseAddress!, byteCount: application.count)
        case .take:
            // The application holds half a ring of buffers, and returns the oldest.
            if driver.takenCount > taken { driver.giveBack(driver.takenCount - taken) }
        }
        if readsPayload { read() }
        if verifier != nil { verify() }
    }

    /// The application reads every byte of what it received: its copy, or where the device put it.
    @inline(never)
    private mutating func read() {
        var left = 0
        for piece in driver.pieces {
            if consumer == .copy {
                left &+= Int(piece.byteCount)
            } else {
                readSum &+= PayloadReader.sum(piece.pointer, byteCount: Int(piece.byteCount))
            }
        }
        while left > 0 {
            let count = min(left, application.count)
            readSum &+= PayloadReader.sum(application.baseAddress!, byteCount: count)
            left &-= count
        }
    }

    @inline(never)
    private mutating func verify() {
        // A packet is visible to the driver a little before its reference comes back.
        var patience = Self.maximumEmptyReaps
        while verifier!.expectedCount < driver.packets.count, patience > 0 {
            if reap() == 0 {
                PinnedThread.yield()
                patience -= 1
            }
        }
        verifier!.check(driver)
    }

    /// Reaps completions.
    @discardableResult
    mutating func reap() -> Int {
        let count = engine.reap(rq, into: reaped, count: burst)
        inFlight -= count
        returned += count
        if verifier != nil {
            verifier!.expect(UnsafeBufferPointer(start: reaped, count: count))
        }
        return count
    }

    /// Whether packet `index` of those that the last `reap` returned was dropped.
    func isDropped(_ index: Int) -> Bool { reaped[index].flags.contains(.dropped) }
}
