import CleaveHost

/// How latency is measured, beside what every benchmark is told.
public struct LatencySettings: Sendable, Equatable {
    /// Offered loads in percent of the highest lossless rate.
    public var loads = [10, 25, 50, 75, 90, 95]
    public var arrivals = LatencyArrivals.fixed
    /// Length of a pass, in the search and afterwards, in milliseconds.
    public var passMilliseconds = 100
    /// How exactly the highest lossless rate is found, in percent.
    public var tolerancePercent = 2

    public init() {}

    /// - Throws: a sentence that begins with the key that is wrong.
    public func validate() throws(SetupError) {
        guard !loads.isEmpty else { throw SetupError("loads: the list is empty") }
        for load in loads where !(1...100).contains(load) {
            throw SetupError("loads: \(load) is not between 1 and 100 percent")
        }
        guard Set(loads).count == loads.count else {
            throw SetupError("loads: a load is listed twice")
        }
        guard (1...60_000).contains(passMilliseconds) else {
            throw SetupError("pass-time: \(passMilliseconds) is not between 1 and 60000 ms")
        }
        guard (1...50).contains(tolerancePercent) else {
            throw SetupError("tolerance: \(tolerancePercent) is not between 1 and 50 percent")
        }
    }
}

/// What it costs to measure: less than this no latency can be, and no gap between two looks.
public struct LatencyMethod: Codable, Sendable, Equatable {
    /// Of one reading of the clock, in nanoseconds.
    public var clockNanoseconds: Double
    /// Of the schedule, the stamps and both records of one packet, in nanoseconds: the driver's
    /// thread takes so much longer for each.
    public var bookkeepingNanoseconds: Double

    /// Measures it, in a few milliseconds.
    static func measured() -> LatencyMethod {
        let nanoseconds = 1e9 / CycleClock.hertz
        let burst = 32
        var least = Double.infinity
        for _ in 0..<8 {
            var load = OfferedLoad(
                SendSchedule(interval: 1), start: 0, length: .max, burst: burst, capacity: 256,
                cyclesPerMicrosecond: CycleClock.hertz / 1e6)
            let rounds = 256
            let start = CycleClock.now()
            for round in 0..<rounds {
                let now = UInt64(1000 + round * burst)
                let due = load.due(at: now)
                load.sent(due, at: now)
                load.saw(due, at: now + 100)
                for _ in 0..<due { load.completed(isDropped: false) }
            }
            least = min(least, Double(CycleClock.now() &- start) / Double(rounds * burst))
        }
        return LatencyMethod(
            clockNanoseconds: Double(CycleClock.readingCost) * nanoseconds,
            bookkeepingNanoseconds: least * nanoseconds)
    }
}
