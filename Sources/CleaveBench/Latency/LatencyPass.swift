import CleaveHost

/// What one pass offers.
struct LatencyOffer {
    /// Of all RQs together.
    var packetsPerSecond: Double
    var seconds: Double
    var arrivals = LatencyArrivals.fixed
    var seed: UInt64 = 0
    /// How long after its end packets that were due are still sent.
    var graceSeconds: Double
}

/// What became of one offer.
struct LatencyPass {
    var offered = 0
    var arrived = 0
    var dropped = 0
    var unsent = 0
    /// From the start until everything had arrived.
    var seconds = 0.0
    /// From the time at which the offer ended until everything had arrived.
    var overrunSeconds = 0.0
    /// Times that a driver's thread looked at its used rings, and the time of a round.
    var rounds = 0
    var roundNanoseconds = 0.0
    var stalls = LatencyStalls()
    var response = LatencyHistogram()
    var service = LatencyHistogram()

    /// Nothing was lost, and what waited at the end of the offer was no more than `backlog`
    /// packets: it did not grow.
    func isLossless(at packetsPerSecond: Double, backlog: Int) -> Bool {
        dropped == 0 && unsent == 0
            && overrunSeconds <= Double(backlog) / packetsPerSecond
    }

    mutating func add(_ load: OfferedLoad) {
        offered += load.offered
        arrived += load.arrived
        dropped += load.dropped
        unsent += load.unsent
        response.add(load.response)
        service.add(load.service)
    }

    /// What another thread of the same pass did.
    mutating func add(_ work: LatencyWork, start: UInt64, end: UInt64) {
        seconds = max(seconds, Double(work.end &- start) / CycleClock.hertz)
        let overrun = work.end > end ? work.end - end : 0
        overrunSeconds = max(overrunSeconds, Double(overrun) / CycleClock.hertz)
        rounds += work.rounds
        if work.rounds > 0 {
            roundNanoseconds = max(
                roundNanoseconds,
                Double(work.end &- start) * 1e9 / CycleClock.hertz / Double(work.rounds))
        }
        stalls.add(work.stalls)
    }
}

/// What one thread did in a pass.
struct LatencyWork: Sendable {
    var rounds = 0
    var end: UInt64 = 0
    var stalls = LatencyStalls()
}
