import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// One case under measurement: its testbed, its lanes, the samples so far.
final class BenchMeasure {
    let testbed: Testbed
    private let mode: BenchMode
    private let packetsPerPass: Int
    private var lanes: UnsafeMutableBufferPointer<BenchLane>
    private var samples: [PassFigures] = []
    private var verification = Verification()
    /// Counters when the timed passes began.
    private var before = RxCounters()
    private var driversBefore = DriverCounts()
    private var payload = PayloadPlaces()
    /// Counts of one pass for each event, divided by its packets; nil if nothing is counted.
    private var events: EventSamples?
    private let profiler: BenchProfiler?

    /// Rounds without a packet after which a pass is given up.
    private static let maximumIdleRounds = 50_000_000

    /// - Parameter profilePeriod: as in `BenchPlan`.
    init(
        _ testbed: Testbed, mode: BenchMode, packetsPerPass: Int?, countsEvents: Bool = false,
        profilePeriod: UInt32 = 0
    ) throws(SetupError) {
        if countsEvents { events = EventSamples() }
        profiler =
            profilePeriod == 0 ? nil : try BenchProfiler(testbed, period: profilePeriod)
        self.testbed = testbed
        self.mode = mode
        let mean = max(1, testbed.pool.totalBytes / testbed.pool.count)
        // About 50 ms: a fixed cost per packet and one per byte.
        self.packetsPerPass = packetsPerPass ?? max(10_000, 130_000_000 / (80 + mean / 8))
        let active = (0..<testbed.benchCase.rqs).map { BenchLane(testbed, rq: $0) }
        lanes = .allocate(capacity: active.count)
        _ = lanes.initialize(from: active)
    }

    deinit {
        for lane in lanes { lane.free() }
        lanes.deallocate()
    }

    /// Carries packets and compares every byte; not timed.
    func verify(packets: Int) throws(SetupError) {
        for index in lanes.indices {
            lanes[index].verifier = BenchVerifier(testbed.benchCase)
        }
        _ = try pass(max(packets, testbed.pool.count))
        var headerStarts: Set<UnsafeRawPointer> = []
        for index in lanes.indices {
            let part = lanes[index].verifier!.finish()
            verification.packets += part.packets
            verification.corrupt += part.corrupt
            verification.lost += part.lost
            payload.packets += lanes[index].verifier!.places.packets
            payload.alone += lanes[index].verifier!.places.alone
            payload.pageAligned += lanes[index].verifier!.places.pageAligned
            headerStarts.formUnion(lanes[index].verifier!.headerStarts)
            lanes[index].verifier = nil
        }
        payload.headerAreas = PayloadPlaces.areas(
            of: headerStarts, byteCount: testbed.benchCase.headerPlaceByteCount)
    }

    /// A pass that is thrown away, and the start of the timed ones.
    func warmUp() throws(SetupError) {
        _ = try pass(packetsPerPass / 4 + 1)
        before = testbed.engine.counters
        driversBefore = DriverCounts(testbed.drivers)
    }

    /// One timed pass, and one in which polls are measured if that was asked for.
    func measure() throws(SetupError) {
        let counters = events == nil ? nil : PerfCounters()
        counters?.start()
        let figures = try pass(packetsPerPass)
        if let counters { events?.add(counters.stop(), packets: figures.packets) }
        samples.append(figures)
        try profiler?.measure(after: figures) { () throws(SetupError) in
            try pass(packetsPerPass)
        }
    }

    /// Carries at least `packets` packets over all RQs, until nothing is in flight.
    private func pass(_ packets: Int) throws(SetupError) -> PassFigures {
        let busyBefore = busyCycles
        let bytesBefore = testbed.engine.counters.bytes
        for index in lanes.indices { lanes[index].resetFigures() }
        let (start, end) = try timed(packets)
        var total = PassFigures()
        for lane in lanes {
            total.add(lane.figures)
        }
        total.elapsedCycles = end - start
        total.bytes = testbed.engine.counters.bytes - bytesBefore
        if mode == .threads { total.deviceCycles = busyCycles - busyBefore }
        return total
    }

    /// When the pass began and ended; all threads have stopped afterwards.
    private func timed(_ packets: Int) throws(SetupError) -> (start: UInt64, end: UInt64) {
        if mode == .threads { try testbed.engine.start() }
        defer { if mode == .threads { testbed.engine.stop() } }
        let start = CycleClock.now()
        if mode == .cores { try carryOnCores(packets) } else { try carry(packets, lanes.indices) }
        return (start, CycleClock.now())
    }

    private var busyCycles: UInt64 {
        (0..<testbed.engine.count).reduce(0) { $0 + testbed.engine.cycles($1).busy }
    }

    /// Runs each lane on a thread of its own, all from the same moment on.
    private func carryOnCores(_ packets: Int) throws(SetupError) {
        let active = lanes.indices.filter { lanes[$0].hasSource }
        let share = packets / max(1, active.count) + 1
        let outcome = CoresOutcome(self, threadCount: active.count)
        var threads: [PinnedThread] = []
        for rq in active {
            do {
                threads.append(
                    try PinnedThread(
                        name: "cleave-core\(rq)", cpu: testbed.queuePlan.places[rq].cpu
                    ) { outcome.carry(share, rq) })
            } catch {
                outcome.giveUp()
                for thread in threads { thread.join() }
                throw SetupError("RQ \(rq): \(error)")
            }
        }
        for thread in threads { thread.join() }
        if let error = outcome.errors.compactMap({ $0 }).first { throw error }
    }

    /// What the threads of one pass share.
    private final class CoresOutcome: @unchecked Sendable {
        // SAFETY: each thread uses its own lane and its own error; the errors are read after the
        // threads were joined.
        private let measure: BenchMeasure
        private let gate: SharedWord64
        private let threadCount: UInt64
        let errors: UnsafeMutableBufferPointer<SetupError?>

        init(_ measure: BenchMeasure, threadCount: Int) {
            self.measure = measure
            self.threadCount = UInt64(threadCount)
            let word = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
            gate = SharedWord64(word)
            gate.store(0)
            errors = .allocate(capacity: measure.lanes.count)
            errors.initialize(repeating: nil)
        }

        deinit {
            gate.deallocate()
            errors.deinitialize()
            errors.deallocate()
        }

        func giveUp() { gate.fetchAdd(threadCount) }

        func carry(_ packets: Int, _ rq: Int) {
            gate.fetchAdd(1)
            while gate.load() < threadCount { PinnedThread.yield() }
            do throws(SetupError) { try measure.carry(packets, rq..<rq + 1) } catch {
                errors[rq] = error
            }
        }
    }

    private func carry(_ packets: Int, _ own: Range<Int>) throws(SetupError) {
        let isThreaded = mode == .threads
        let limit = isThreaded ? testbed.benchCase.ringSize : testbed.benchCase.burst
        var goal = packets
        var idleRounds = 0
        var inFlight = 0
        var returned = 0
        repeat {
            var progress = 0
            inFlight = 0
            returned = own.reduce(0) { $0 + lanes[$1].returned }
            for index in own where lanes[index].hasSource {
                if returned < goal { lanes[index].submit(limit: limit) }
                if !isThreaded { lanes[index].pollDevice() }
                progress += lanes[index].harvestDriver()
                progress += lanes[index].reap()
                inFlight += lanes[index].inFlight
            }
            idleRounds = progress == 0 ? idleRounds + 1 : 0
            if idleRounds & 1023 == 1023 { PinnedThread.yield() }
            if idleRounds > Self.maximumIdleRounds { throw stuck() }
            // A signal ends the pass once everything in flight has arrived.
            if StopSignal.received != nil { goal = 0 }
        } while returned < goal || inFlight > 0
        // The last packets may have come back before the driver looked.
        var late = 0
        repeat {
            late = 0
            for index in own { late += lanes[index].harvestDriver() }
        } while late > 0
        for rq in own {
            let driver = testbed.drivers[rq]
            if driver.fault == .none { continue }
            throw SetupError(
                "\(testbed.benchCase.displayName): RQ \(rq): the device broke the protocol "
                    + "(\(driver.fault.name))")
        }
    }

    private func stuck() -> SetupError {
        let counters = testbed.engine.counters
        let fault = counters.fault == .none ? "" : ", queue fault \(counters.fault.name)"
        return SetupError(
            "\(testbed.benchCase.displayName): no packet moves any more\(fault); "
                + "a packet may need more buffers than the ring of "
                + "\(testbed.benchCase.ringSize) holds")
    }

    var hasSamples: Bool { !samples.isEmpty }

    /// The figures of all timed passes.
    /// - Parameter isPreempted: busy threads ran beside the benchmark's own.
    func result(isPreempted: Bool = false) -> BenchResult {
        let counters = testbed.engine.counters
        let packets = counters.packets - before.packets
        let fallback = Self.difference(counters.fallback, before.fallback, \.name)
        let mean = Double(testbed.pool.totalBytes) / Double(testbed.pool.count)
        let passes = samples.map(PassRecord.init)
        func spread(_ figure: (PassRecord) -> Double?) -> Spread {
            Spread(passes.map { figure($0) ?? .nan }) ?? Spread([.nan])!
        }
        func perPacket(_ cycles: (PassFigures) -> UInt64) -> Spread {
            Spread(samples.map { $0.perPacket(cycles($0)) }) ?? Spread([.nan])!
        }
        let sizes = Set(testbed.pool.refs.map(\.byteCount))
        return BenchResult(
            benchCase: testbed.benchCase,
            uniformPacketBytes: sizes.count == 1 ? Int(sizes.first!) : nil,
            meanPacketBytes: mean, mpps: spread(\.mpps), gbps: spread(\.gbps),
            deviceCyclesPerPacket: perPacket(\.deviceCycles),
            driverCycles: DriverCycles(
                refill: perPacket(\.refillCycles), harvest: perPacket(\.harvestCycles),
                giveBack: perPacket(\.giveBackCycles), total: perPacket(\.driverCycles)),
            consumerCyclesPerPacket: perPacket(\.consumerCycles),
            packets: packets, split: counters.split - before.split,
            tiny: counters.tiny - before.tiny,
            packetsPerBurst: Double(packets)
                / Double(max(1, counters.bursts - before.bursts)),
            fallback: fallback,
            dropped: Self.difference(counters.dropped, before.dropped, \.name),
            noSlot: SlotAdvice(
                testbed, fallback: fallback, packets: packets, isPreempted: isPreempted),
            claimRetries: counters.claimRetries - before.claimRetries,
            skippedBuffers: counters.skippedBuffers - before.skippedBuffers,
            misfits: counters.misfits - before.misfits, verify: verification,
            memory: testbed.memory, bufferUse: bufferUse(counters), payload: payload,
            passes: passes, events: events?.figures, profile: profile(counters),
            notes: testbed.notes)
    }

    /// Without the bare copy's cycles if packets were dropped, as it copied those as well.
    private func profile(_ counters: RxCounters) -> BenchProfile? {
        var profile = profiler?.result
        if counters.droppedTotal > before.droppedTotal { profile?.copyLimit = nil }
        return profile
    }

    /// All buffers are posted between the passes, so what was posted during them is what packets
    /// took.
    private func bufferUse(_ counters: RxCounters) -> BufferUse {
        let drivers = DriverCounts(testbed.drivers)
        // Nothing is held for a packet where none came.
        let count = drivers.packets - driversBefore.packets
        let packets = count == 0 ? .nan : Double(count)
        let slots = Int(drivers.slots - driversBefore.slots)
        let held =
            Double(drivers.bytes - driversBefore.bytes)
            + Double(slots * testbed.benchCase.slotSize)
        return BufferUse(
            descriptorsPerPacket: Double(drivers.descriptors - driversBefore.descriptors)
                / packets,
            bytesHeldPerPacket: held / packets,
            wastedShare: held == 0 ? .nan : 1 - Double(counters.bytes - before.bytes) / held)
    }

    /// What was counted in between, by name; nothing for what was not.
    static func difference<Reason: Hashable>(
        _ after: [Reason: UInt64], _ before: [Reason: UInt64], _ name: (Reason) -> String
    ) -> [String: UInt64] {
        var result: [String: UInt64] = [:]
        for (reason, count) in after where count > before[reason, default: 0] {
            result[name(reason)] = count - before[reason, default: 0]
        }
        return result
    }
}

/// Readings of the processor's counters, pass by pass.
private struct EventSamples {
    private var perPacket = [[Double]](repeating: [], count: PerfEvent.allCases.count)
    private var reasons = [String](repeating: "", count: PerfEvent.allCases.count)

    mutating func add(_ readings: [PerfReading], packets: Int) {
        for (index, reading) in readings.enumerated() {
            switch reading {
            case .count(let value):
                perPacket[index].append(packets == 0 ? .nan : value / Double(packets))
            case .unavailable(let reason): reasons[index] = reason
            }
        }
    }

    var figures: Named<RunRecord.Counter> {
        Named(
            PerfEvent.allCases.enumerated().map { index, event in
                let spread = Spread(perPacket[index]).map(RunRecord.Counter.perPacket)
                return (event.rawValue, spread ?? .unavailable(reasons[index]))
            })
    }
}

/// Counts of all drivers of a testbed.
private struct DriverCounts {
    var packets: UInt64 = 0
    var descriptors: UInt64 = 0
    var bytes: UInt64 = 0
    var slots: UInt64 = 0

    init() {}

    init(_ drivers: [RxDriver]) {
        for driver in drivers {
            packets += driver.harvestedCount
            descriptors += driver.postedDescriptorCount
            bytes += driver.postedByteCount
            slots += driver.retiredSlotCount
        }
    }
}
