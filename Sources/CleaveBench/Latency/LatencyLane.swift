import CleaveHost

/// One RQ under an offered load: sends what is due, works as the driver, notes the times.
struct LatencyLane {
    private var lane: BenchLane
    private(set) var load: OfferedLoad
    private let burst: Int

    init(_ testbed: Testbed, rq: Int) {
        lane = BenchLane(testbed, rq: rq)
        burst = testbed.benchCase.burst
        load = .none
    }

    func free() { lane.free() }

    var hasSource: Bool { lane.hasSource }

    /// The load of the next rounds.
    mutating func begin(_ load: OfferedLoad) { self.load = load }

    /// One look at the clock's schedule, the device if it is this thread's, and the used ring.
    /// - Parameter now: the clock before the round.
    /// - Returns: packets that were sent, seen or came back.
    @inline(__always)
    mutating func round(_ now: UInt64, pollsDevice: Bool) -> Int {
        var moved = 0
        let due = load.due(at: now)
        if due > 0 {
            let before = lane.inFlight
            lane.submit(limit: before + due)
            moved = lane.inFlight - before
            load.sent(moved, at: now)
        }
        if pollsDevice { lane.pollDevice() }
        let count = lane.harvestDriver()
        if count > 0 { load.saw(count, at: lane.seenAt) }
        let back = lane.reap()
        for index in 0..<back { load.completed(isDropped: lane.isDropped(index)) }
        return moved + count + back
    }

    mutating func giveUp(at now: UInt64) { load.giveUp(at: now) }
}

/// Moments in which a thread that never waits stood still: the kernel or the host ran something
/// else, or a page was missing.
public struct LatencyStalls: Codable, Sendable, Equatable {
    /// Longer than `threshold`.
    public var count = 0
    public var longestMicroseconds = 0.0

    /// A round takes a few microseconds at most.
    public static let thresholdMicroseconds = 100.0

    /// - Parameter cycles: from one look at the clock to the next.
    @inline(__always)
    mutating func note(_ cycles: UInt64, threshold: UInt64) {
        if cycles > threshold { noteStall(cycles) }
    }

    @inline(never)
    private mutating func noteStall(_ cycles: UInt64) {
        count += 1
        longestMicroseconds = max(longestMicroseconds, Double(cycles) * 1e6 / CycleClock.hertz)
    }

    mutating func add(_ other: LatencyStalls) {
        count += other.count
        longestMicroseconds = max(longestMicroseconds, other.longestMicroseconds)
    }
}
