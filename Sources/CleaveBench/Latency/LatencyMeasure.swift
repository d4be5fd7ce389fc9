import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// One case whose latency is measured: its testbed, its lanes, and how its threads share them.
///
/// `oneCore`: one thread sends, is the device and is the driver, for all RQs. `cores`: the same for
/// each RQ by itself. `threads`: one thread sends and is the driver, others are the device, each
/// for the RQs of its CPU.
final class LatencyMeasure: @unchecked Sendable {
    // SAFETY: a lane is used by one thread during a pass, and by the caller of `pass` outside one.

    let testbed: Testbed
    private let mode: BenchMode
    private let lanes: UnsafeMutableBufferPointer<LatencyLane>
    private let active: [Int]
    private(set) var verification = Verification()

    /// Without any progress for so long, a pass is given up.
    private static let stuckSeconds = 20.0

    init(_ testbed: Testbed, mode: BenchMode) {
        (self.testbed, self.mode) = (testbed, mode)
        lanes = .allocate(capacity: testbed.benchCase.rqs)
        _ = lanes.initialize(
            from: (0..<testbed.benchCase.rqs).map { LatencyLane(testbed, rq: $0) })
        active = lanes.indices.filter { [lanes] in lanes[$0].hasSource }
    }

    deinit {
        for lane in lanes { lane.free() }
        lanes.deinitialize()
        lanes.deallocate()
    }

    /// Carries packets and compares every byte; not timed.
    func verify(packets: Int) throws(SetupError) {
        let measure = try BenchMeasure(testbed, mode: .oneCore, packetsPerPass: nil)
        try measure.verify(packets: packets)
        verification = measure.result().verify
    }

    /// Packets that the rings of all RQs hold together.
    var ringCapacity: Int { active.count * testbed.benchCase.ringSize }

    /// The rate at which so many packets are carried that are all due at once.
    func floodRate(packets: Int) throws(SetupError) -> Double {
        // All are due within two cycles, whole ones in spite of rounding.
        let pass = try pass(
            LatencyOffer(
                packetsPerSecond: Double(packets) * CycleClock.hertz / 2,
                seconds: 2.5 / CycleClock.hertz, graceSeconds: Self.stuckSeconds))
        return pass.seconds > 0 ? Double(pass.arrived) / pass.seconds : 0
    }

    /// Offers packets for a while, and waits until all that were sent have come back.
    func pass(_ offer: LatencyOffer) throws(SetupError) -> LatencyPass {
        let run = LatencyRun(offer, threadCount: threadCount)
        let deviceThreads = try startDevices(run)
        var works: [LatencyWork] = []
        do throws(SetupError) {
            switch mode {
            case .oneCore, .threads:
                let start = run.open()
                for index in active { begin(index, offer, start: start) }
                works.append(try drive(active, run, pollsDevice: mode == .oneCore))
            case .cores: works = try driveOnCores(run)
            }
        } catch {
            run.end()
            for thread in deviceThreads { thread.join() }
            throw error
        }
        run.end()
        for thread in deviceThreads { thread.join() }
        try checkDrivers()
        var pass = LatencyPass()
        for index in active { pass.add(lanes[index].load) }
        for work in works { pass.add(work, start: run.start, end: run.start &+ run.length) }
        pass.stalls.add(run.deviceStalls)
        return pass
    }

    /// Threads that are ready before a pass starts, beside its own.
    private var threadCount: Int {
        switch mode {
        case .oneCore: 0
        case .cores: active.count
        case .threads: deviceGroups.count
        }
    }

    private func begin(_ index: Int, _ offer: LatencyOffer, start: UInt64) {
        let share = active.firstIndex(of: index).map { Double($0) / Double(active.count) } ?? 0
        let one = testbed.benchCase
        let schedule = SendSchedule(
            interval: CycleClock.hertz / offer.packetsPerSecond * Double(active.count),
            phase: share, arrivals: offer.arrivals, seed: offer.seed &+ UInt64(index))
        lanes[index].begin(
            OfferedLoad(
                schedule, start: start, length: UInt64(offer.seconds * CycleClock.hertz),
                burst: one.burst, capacity: 4 * max(one.ringSize, 2 * one.burst),
                cyclesPerMicrosecond: CycleClock.hertz / 1e6))
    }

    // MARK: Driver

    /// Works for some lanes until all their packets have come.
    private func drive(
        _ own: [Int], _ run: LatencyRun, pollsDevice: Bool
    ) throws(SetupError) -> LatencyWork {
        var work = LatencyWork()
        let threshold = run.stallThreshold
        let (start, deadline) = (run.start, run.deadline)
        let stuck = UInt64(Self.stuckSeconds * CycleClock.hertz)
        var last = CycleClock.now()
        var progressAt = last
        while true {
            let now = CycleClock.now()
            if now > start { work.stalls.note(now &- last, threshold: threshold) }
            last = now
            work.rounds += 1
            var moved = 0
            var isDone = true
            for index in own {
                moved += lanes[index].round(now, pollsDevice: pollsDevice)
                isDone = isDone && lanes[index].load.isDone
            }
            if isDone { break }
            if moved > 0 {
                progressAt = now
            } else if now &- progressAt > stuck, !own.allSatisfy({ lanes[$0].load.isEmpty }) {
                throw isStuck()
            }
            if now > deadline || (work.rounds & 1023 == 0 && StopSignal.received != nil) {
                for index in own { lanes[index].giveUp(at: now) }
            }
        }
        work.end = CycleClock.now()
        return work
    }

    private func driveOnCores(_ run: LatencyRun) throws(SetupError) -> [LatencyWork] {
        let outcomes = LatencyOutcomes(count: active.count)
        var threads: [PinnedThread] = []
        for (place, rq) in active.enumerated() {
            do {
                threads.append(
                    try PinnedThread(
                        name: "cleave-core\(rq)", cpu: testbed.queuePlan.places[rq].cpu
                    ) {
                        let start = run.wait()
                        self.begin(rq, run.offer, start: start)
                        outcomes.set(place) { () throws(SetupError) in
                            try self.drive([rq], run, pollsDevice: true)
                        }
                    })
            } catch {
                run.abandon()
                for thread in threads { thread.join() }
                throw SetupError("RQ \(rq): \(error)")
            }
        }
        _ = run.open()
        for thread in threads { thread.join() }
        return try outcomes.get()
    }

    // MARK: Device

    /// RQs by the CPU that is their device's; none where drivers poll.
    private var deviceGroups: [(cpu: Int?, rqs: [Int])] {
        guard mode == .threads else { return [] }
        var groups: [(cpu: Int?, rqs: [Int])] = []
        for rq in active {
            let cpu = testbed.queuePlan.places[rq].cpu
            if let index = groups.firstIndex(where: { $0.cpu == cpu }) {
                groups[index].rqs.append(rq)
            } else {
                groups.append((cpu, [rq]))
            }
        }
        return groups
    }

    private func startDevices(_ run: LatencyRun) throws(SetupError) -> [PinnedThread] {
        var threads: [PinnedThread] = []
        for (number, group) in deviceGroups.enumerated() {
            do {
                threads.append(
                    try PinnedThread(name: "cleave-dev\(number)", cpu: group.cpu) {
                        self.poll(group.rqs, run)
                    })
            } catch {
                run.abandon()
                for thread in threads { thread.join() }
                throw SetupError("device of RQ \(group.rqs[0]): \(error)")
            }
        }
        return threads
    }

    /// Is the device of some RQs, in turn, until the pass has ended.
    private func poll(_ rqs: [Int], _ run: LatencyRun) {
        var stalls = LatencyStalls()
        let start = run.wait()
        let threshold = run.stallThreshold
        var last = CycleClock.now()
        while !run.hasEnded {
            let now = CycleClock.now()
            if now > start { stalls.note(now &- last, threshold: threshold) }
            last = now
            for rq in rqs { _ = testbed.engine.poll(rq) }
        }
        run.add(stalls)
    }

    // MARK: Errors

    private func checkDrivers() throws(SetupError) {
        for (rq, driver) in testbed.drivers.enumerated() where driver.fault != .none {
            throw SetupError(
                "\(testbed.benchCase.displayName): RQ \(rq): the device broke the protocol "
                    + "(\(driver.fault.name))")
        }
    }

    private func isStuck() -> SetupError {
        SetupError(
            "\(testbed.benchCase.displayName): no packet moves any more; a packet may need more "
                + "buffers than the ring of \(testbed.benchCase.ringSize) holds")
    }
}

/// What the threads of one pass share.
private final class LatencyRun: @unchecked Sendable {
    // SAFETY: the words are freed when no thread has the object any more, and carry all that one
    // thread tells another during a pass; stalls are guarded by `lock`.
    let offer: LatencyOffer
    let length: UInt64
    let stallThreshold = UInt64(LatencyStalls.thresholdMicroseconds * CycleClock.hertz / 1e6)
    private let threadCount: UInt64
    private let ready = LatencyRun.word()
    /// When the schedule starts, once that is known; 0 before.
    private let gate = LatencyRun.word()
    private let ended = LatencyRun.word()
    private let lock = Lock()
    private var stalls = LatencyStalls()

    init(_ offer: LatencyOffer, threadCount: Int) {
        self.offer = offer
        self.threadCount = UInt64(threadCount)
        length = UInt64(offer.seconds * CycleClock.hertz)
    }

    deinit { for word in [ready, gate, ended] { word.deallocate() } }

    private static func word() -> SharedWord64 {
        let word = SharedWord64(UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64))
        word.store(0)
        return word
    }

    /// Called by each other thread: waits until all are ready. Gives the start of the schedule.
    func wait() -> UInt64 {
        ready.fetchAdd(1)
        while gate.load() == 0 { PinnedThread.yield() }
        return start
    }

    /// Waits for the other threads, then lets them begin.
    func open() -> UInt64 {
        while ready.load() < threadCount { PinnedThread.yield() }
        gate.store(CycleClock.now() &+ UInt64(LatencyRun.leadSeconds * CycleClock.hertz))
        return start
    }

    /// From the moment at which all threads are ready to the start of a schedule.
    private static let leadSeconds = 50e-6

    /// Of the schedule.
    var start: UInt64 { gate.load() }
    /// After which nothing is sent any more.
    var deadline: UInt64 { start &+ length &+ UInt64(offer.graceSeconds * CycleClock.hertz) }

    func end() { ended.store(1) }
    var hasEnded: Bool { ended.load() != 0 }

    /// Not all threads could be started: those that wait offer nothing and end.
    func abandon() {
        ended.store(1)
        gate.store(1)
    }

    func add(_ more: LatencyStalls) { lock.withLock { stalls.add(more) } }
    /// Of the device's threads; after they were joined.
    var deviceStalls: LatencyStalls { lock.withLock { stalls } }
}

/// What the threads of one pass did, each at its place.
private final class LatencyOutcomes: @unchecked Sendable {
    // SAFETY: each thread writes its own element; they are read after the threads were joined.
    private let results: UnsafeMutableBufferPointer<Result<LatencyWork, SetupError>?>

    init(count: Int) {
        results = .allocate(capacity: count)
        results.initialize(repeating: nil)
    }

    deinit {
        results.deinitialize()
        results.deallocate()
    }

    func set(_ place: Int, _ work: () throws(SetupError) -> LatencyWork) {
        do throws(SetupError) { results[place] = .success(try work()) } catch {
            results[place] = .failure(error)
        }
    }

    func get() throws(SetupError) -> [LatencyWork] {
        var works: [LatencyWork] = []
        for case let result? in results { works.append(try result.get()) }
        return works
    }
}
