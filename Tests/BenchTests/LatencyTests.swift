// Latency is arithmetic on times, so most of it is tested on times that no clock gave.
import CleaveEngine
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet
import Testing

@testable import CleaveBench

@Suite("Schedules and loads")
struct OfferedLoadTests {
    @Test("A fixed schedule is exact, however long and however odd the interval")
    func fixed() {
        var schedule = SendSchedule(interval: 10.7, phase: 0.5)
        for index in 0..<100_000 {
            #expect(schedule.next == UInt64((Double(index) + 0.5) * 10.7))
            schedule.advance()
        }
    }

    @Test("Poisson arrivals: rising, the mean as asked, a share 1/e of gaps above it, and by seed")
    func poisson() {
        func times(_ seed: UInt64) -> [UInt64] {
            var schedule = SendSchedule(interval: 1000, arrivals: .poisson, seed: seed)
            return (0..<40_000).map { _ in
                defer { schedule.advance() }
                return schedule.next
            }
        }
        let some = times(1)
        let gaps = zip(some.dropFirst(), some).map { Double($0 &- $1) }
        #expect(gaps.allSatisfy { $0 >= 0 && $0 < 1e6 })
        let mean = gaps.reduce(0, +) / Double(gaps.count)
        #expect(abs(mean - 1000) < 30)
        let above = Double(gaps.count { $0 > 1000 }) / Double(gaps.count)
        #expect(abs(above - 0.3679) < 0.02)
        #expect(some == times(1) && some != times(2))
    }

    /// A device that takes `cycles` for each packet, one after the other, and stands still from one
    /// time to another; what is sent waits in its ring.
    private struct Device {
        var cycles: UInt64
        var stall: Range<UInt64>
        /// When each packet leaves that came at `arrival`, if the one before left at `last`.
        func departure(_ arrival: UInt64, after last: UInt64) -> UInt64 {
            var start = max(arrival, last)
            if stall.contains(start) { start = stall.upperBound }
            return start + cycles
        }
    }

    private struct Outcome {
        var load: OfferedLoad
        /// Of each packet: when it was sent and seen.
        var sent: [UInt64] = []
        var seen: [UInt64] = []
    }

    /// Time goes on by `step`; at most `room` packets are under way. References come back before
    /// or after the driver sees the packet, by turns.
    private func run(
        _ schedule: SendSchedule, length: UInt64, device: Device, room: Int, step: UInt64,
        drops: (Int) -> Bool = { _ in false }
    ) -> Outcome {
        var outcome = Outcome(
            load: OfferedLoad(
                schedule, start: 5000, length: length, burst: 32, capacity: room,
                cyclesPerMicrosecond: 1000))
        var leaves: [UInt64] = []
        var done = 0
        var now: UInt64 = 5000
        while !outcome.load.isDone {
            let count = outcome.load.due(at: now)
            outcome.load.sent(count, at: now)
            for _ in 0..<count {
                leaves.append(device.departure(now, after: leaves.last ?? 0))
                outcome.sent.append(now)
            }
            while done < leaves.count, leaves[done] <= now {
                let isDropped = drops(done)
                if isDropped {
                    outcome.load.completed(isDropped: true)
                } else if done % 2 == 0 {
                    outcome.load.saw(1, at: now)
                    outcome.load.completed(isDropped: false)
                } else {
                    outcome.load.completed(isDropped: false)
                    outcome.load.saw(1, at: now)
                }
                outcome.seen.append(isDropped ? .max : now)
                done += 1
            }
            now += step
        }
        return outcome
    }

    /// The percentile of a sorted list: the least value that so many percent do not exceed.
    private func percentile(_ percent: Double, _ sorted: [UInt64]) -> Double {
        let rank = (percent.nextDown * Double(sorted.count) / 100).rounded(.up)
        return Double(sorted[max(0, Int(rank) - 1)])
    }

    /// Nanoseconds, at 1000 cycles a microsecond, are cycles; a histogram has three digits.
    private func expectEqual(_ histogram: LatencyHistogram, _ times: [UInt64]) {
        let sorted = times.sorted()
        #expect(histogram.count == UInt64(sorted.count))
        for percent in [1.0, 25, 50, 90, 99, 99.9, 100] {
            let expected = percentile(percent, sorted)
            let found = histogram.nanoseconds(atPercentile: percent) ?? .nan
            #expect(found >= expected && found <= expected * 1.001 + 1, "\(percent)")
        }
    }

    @Test(
        "A stall shows in as many packets as were due in it, not in the few that were under way",
        arguments: [LatencyArrivals.fixed, .poisson])
    func stall(_ arrivals: LatencyArrivals) throws {
        // 10,000 packets, one each 1000 cycles, 100 cycles of work; the device stands still for a
        // tenth of the time, and only 16 packets fit into its ring.
        let schedule = SendSchedule(interval: 1000, arrivals: arrivals, seed: 7)
        let outcome = run(
            schedule, length: 10_000_000,
            device: Device(cycles: 100, stall: 4_000_000..<5_000_000), room: 16, step: 50)
        var twin = schedule
        var due: [UInt64] = []
        while twin.next < 10_000_000 {
            due.append(5000 + twin.next)
            twin.advance()
        }
        #expect(outcome.load.offered == due.count && outcome.load.arrived == due.count)
        expectEqual(outcome.load.response, zip(outcome.seen, due).map { $0 - $1 })
        expectEqual(outcome.load.service, zip(outcome.seen, outcome.sent).map { $0 - $1 })
        guard arrivals == .fixed else { return }
        // The naive view of a stall of length S: a tenth of the packets were due in it, and met
        // what was left of it, from S down to nothing, and then the queue that had formed.
        let response = outcome.load.response.percentiles
        let service = outcome.load.service.percentiles
        let max = try #require(response.max)
        #expect(max > 995_000 && max < 1_006_000)
        let p99 = try #require(response.p99)
        #expect(abs(p99 - 900_000) < 20_000)
        // Without correction the stall is 16 packets of 10,000.
        #expect(try #require(service.p99) < 10_000)
        #expect(try #require(response.p50) < 500)
    }

    @Test("Dropped packets are counted, and do not shift the times of others")
    func drops() {
        let outcome = run(
            SendSchedule(interval: 500), length: 1_000_000,
            device: Device(cycles: 100, stall: 0..<0), room: 64, step: 25,
            drops: { $0 % 7 == 3 })
        let count = 2000
        let dropped = (0..<count).count { $0 % 7 == 3 }
        #expect(outcome.load.offered == count && outcome.load.dropped == dropped)
        #expect(outcome.load.arrived == count - dropped && outcome.load.unsent == 0)
        var times: [UInt64] = []
        for index in 0..<count where index % 7 != 3 {
            times.append(outcome.seen[index] - 5000 - UInt64(index) * 500)
        }
        expectEqual(outcome.load.response, times)
    }

    @Test("Packets that were due and never sent are counted, those that were not due are not")
    func giveUp() {
        var load = OfferedLoad(
            SendSchedule(interval: 10), start: 0, length: 1000, burst: 4, capacity: 64,
            cyclesPerMicrosecond: 1)
        #expect(load.due(at: 500) == 4)
        load.sent(2, at: 500)
        load.giveUp(at: 505)
        load.giveUp(at: 900)
        // Due by 505: numbers 0 to 50.
        #expect(load.offered == 51 && load.unsent == 49 && !load.isDone && !load.isEmpty)
        load.saw(2, at: 510)
        #expect(!load.isDone)
        for _ in 0..<2 { load.completed(isDropped: false) }
        #expect(load.isDone && load.isEmpty && load.arrived == 2)
        #expect(load.due(at: 2000) == 0)
    }

    @Test("A queue of stamps goes round and keeps its order", arguments: [1, 2, 3, 31, 32])
    func fifo(_ capacity: Int) {
        var fifo = Fifo(capacity: capacity, filler: -1)
        var pushed = 0
        var popped = 0
        var random = SplitMix64(seed: UInt64(capacity))
        for _ in 0..<5000 {
            if random.next() % 2 == 0, !fifo.isFull {
                fifo.push(pushed)
                pushed += 1
            } else if fifo.count > 0 {
                #expect(fifo.pop() == popped)
                popped += 1
            }
            #expect(fifo.count == pushed - popped && fifo.isFull == (fifo.count == capacity))
        }
        #expect(popped > 100)
    }
}

@Suite("Search for the highest lossless rate")
struct LosslessSearchTests {
    @Test(
        "A queue with a known knee: found within the tolerance, from a guess below or above it",
        arguments: [0.01, 0.1, 0.5, 0.9, 0.99, 1, 1.3, 4, 300])
    func knee(_ share: Double) throws {
        for tolerance in [0.2, 0.02, 0.001] {
            let knee = 3_456_789.0
            var search = LosslessSearch()
            search.tolerance = tolerance
            let outcome = try search.run(from: knee * share) { rate throws(SetupError) in
                Self.isLossless(rate, serviceRate: knee)
            }
            #expect(outcome.packetsPerSecond <= knee * 1.0001)
            #expect(outcome.packetsPerSecond >= knee * (1 - tolerance) * 0.999, "\(share)")
            #expect(outcome.trials.contains { $0.isLossless })
            #expect(outcome.trials.count < 80)
        }
    }

    /// By the rule of the benchmark: when the last of 100 ms of packets is due, no more wait than a
    /// ring holds.
    private static func isLossless(_ rate: Double, serviceRate: Double) -> Bool {
        var pass = LatencyPass()
        let packets = (rate * 0.1).rounded()
        pass.overrunSeconds = max(0, packets / serviceRate - 0.1)
        // A ring of one, so that the knee is where rates are equal.
        return pass.isLossless(at: rate, backlog: 1)
    }

    @Test("A moment of noise ends no rate; a rate that fails twice is too high")
    func noise() throws {
        var count = 0
        let outcome = try LosslessSearch().run(from: 50) { rate throws(SetupError) in
            count += 1
            // Every other trial is disturbed.
            return count % 2 == 0 && rate <= 100
        }
        #expect(outcome.packetsPerSecond > 97 && outcome.packetsPerSecond <= 100)
        var once = LosslessSearch()
        once.attempts = 1
        let single = try once.run(from: 50) { _ throws(SetupError) in false }
        #expect(single.packetsPerSecond == 0)
        #expect(single.trials.count == LosslessSearch.maximumRates)
    }

    @Test("An answer of nil ends the search with what was found")
    func ended() throws {
        var count = 0
        let outcome = try LosslessSearch().run(from: 10) { _ throws(SetupError) in
            count += 1
            return count > 3 ? nil : true
        }
        #expect(outcome.trials.count == 3 && outcome.packetsPerSecond == 10 * 1.25 * 1.25)
    }

    @Test("Nothing dropped, nothing unsent, and no more waiting than the rings hold")
    func rule() {
        var pass = LatencyPass()
        pass.overrunSeconds = 100e-6
        #expect(pass.isLossless(at: 1e6, backlog: 100))
        #expect(!pass.isLossless(at: 1e6, backlog: 99))
        pass.dropped = 1
        #expect(!pass.isLossless(at: 1e6, backlog: 100))
        (pass.dropped, pass.unsent) = (0, 1)
        #expect(!pass.isLossless(at: 1e6, backlog: 100))
    }
}

@Suite("Latency histograms")
struct LatencyHistogramTests {
    private func histogram(_ values: some Sequence<UInt64>) -> LatencyHistogram {
        var histogram = LatencyHistogram(cyclesPerMicrosecond: 1000)
        for value in values { histogram.record(value) }
        return histogram
    }

    @Test("Merged histograms are the histogram of all values, in any order")
    func merge() {
        var random = SplitMix64(seed: 3)
        let parts = (0..<7).map { part in
            (0..<500 * part).map { _ in random.next() >> (20 + random.next() % 40) }
        }
        let whole = histogram(parts.joined())
        for order in [Array(parts.indices), parts.indices.reversed()] {
            var merged = histogram([])
            for part in order { merged.add(histogram(parts[part])) }
            #expect(merged.count == whole.count)
            #expect(merged.percentiles == whole.percentiles)
            #expect(merged.hgrm == whole.hgrm && merged.points() == whole.points())
        }
    }

    @Test("Nothing recorded has no percentiles; what is too long is recorded as the longest")
    func ends() {
        let empty = histogram([])
        #expect(empty.percentiles.p50 == nil && empty.percentiles.max == nil)
        #expect(empty.points().isEmpty && empty.count == 0)
        let long = histogram([0, .max])
        #expect(long.count == 2 && long.nanoseconds(atPercentile: 50) == 0)
        #expect((long.percentiles.max ?? 0) >= LatencyHistogram.longestMicroseconds * 1000)
        var reused = long
        reused.reset()
        #expect(reused.count == 0)
    }

    @Test("Points rise in both directions and end at the largest value")
    func points() throws {
        let points = histogram((1...10_000).map { $0 * 10 }).points()
        #expect(zip(points, points.dropFirst()).allSatisfy { $0.percentile < $1.percentile })
        #expect(zip(points, points.dropFirst()).allSatisfy { $0.nanoseconds <= $1.nanoseconds })
        let last = try #require(points.last)
        #expect(last.percentile == 100 && abs(last.nanoseconds - 100_000) < 100)
        #expect(points.count > 20 && points.count < 80)
    }

    @Test("The text form is that of the reference, byte for byte")
    func hgrm() {
        // What HdrHistogram for Java (2.2.3) prints for these values: outputPercentileDistribution,
        // 1000 units to one that is shown.
        #expect(histogram([1000, 1500, 2000, 2000, 70_000, 1_234_567]).hgrm == Self.golden)
    }

    private static let golden = """
               Value     Percentile TotalCount 1/(1-Percentile)

               1.000 0.000000000000          1           1.00
               1.000 0.100000000000          1           1.11
               1.500 0.200000000000          2           1.25
               1.500 0.300000000000          2           1.43
               2.000 0.400000000000          4           1.67
               2.000 0.500000000000          4           2.00
               2.000 0.550000000000          4           2.22
               2.000 0.600000000000          4           2.50
               2.000 0.650000000000          4           2.86
              70.015 0.700000000000          5           3.33
              70.015 0.750000000000          5           4.00
              70.015 0.775000000000          5           4.44
              70.015 0.800000000000          5           5.00
              70.015 0.825000000000          5           5.71
            1234.943 0.850000000000          6           6.67
            1234.943 1.000000000000          6
        #[Mean    =      218.486, StdDeviation   =      455.030]
        #[Max     =     1234.943, Total count    =            6]
        #[Buckets =           26, SubBuckets     =         2048]

        """
}

@Suite("Latency of small runs", .serialized)
struct LatencyRunTests {
    private static let cpuCount = CPUSet.allowed().cpus.count

    private func plan(_ cases: [BenchCase], _ mode: BenchMode) -> BenchPlan {
        var plan = BenchPlan()
        (plan.cases, plan.mode, plan.repeats) = (cases, mode, 2)
        (plan.sourcePackets, plan.verifyPackets) = (64, 64)
        plan.latency.loads = [20, 80]
        (plan.latency.passMilliseconds, plan.latency.tolerancePercent) = (4, 30)
        return plan
    }

    /// Every method on both rings, with one RQ or two, sharing or not.
    private static func cases(rqs: Int) -> [BenchCase] {
        RingFormat.allCases.flatMap { ring in
            RxMethod.Kind.allCases.flatMap { method in
                (method == .d && rqs > 1 ? [HeaderQueueSharing.all, .perRQ] : [.all]).map {
                    var one = BenchCase()
                    (one.ring, one.method, one.sharing, one.rqs) = (ring, method, $0, rqs)
                    one.slots = 512
                    return one
                }
            }
        }
    }

    @Test(
        "All methods on both rings: every packet that was due is counted once",
        arguments: zip(BenchMode.allCases, [LatencyArrivals.fixed, .poisson, .fixed]))
    func all(_ mode: BenchMode, _ arrivals: LatencyArrivals) throws {
        let rqs = mode == .oneCore ? 2 : min(2, Self.cpuCount)
        var plan = plan(Self.cases(rqs: rqs), mode)
        plan.latency.arrivals = arrivals
        let report = try LatencyRunner(plan).run { _ in }
        #expect(report.results.map(\.benchCase) == plan.cases && report.isVerified)
        #expect(report.method.clockNanoseconds >= 0 && report.method.bookkeepingNanoseconds > 0)
        for result in report.results {
            let name: Comment = "\(result.benchCase.displayName)"
            #expect(result.search.packetsPerSecond > 0, name)
            #expect(result.search.trials.contains { $0.isLossless }, name)
            #expect(result.loads.map(\.percent) == [20, 80], name)
            for load in result.loads {
                #expect(load.passes.count == 2, name)
                for pass in load.passes {
                    if arrivals == .fixed { #expect(pass.offered > 0, name) }
                    #expect(pass.packets + pass.dropped + pass.unsent == pass.offered, name)
                    #expect(pass.dropped == 0, name)
                    guard pass.packets > 0 else { continue }
                    let response = try #require(pass.response.max)
                    #expect(response >= (pass.service.max ?? .infinity), name)
                    #expect((pass.response.p50 ?? 0) <= response, name)
                    #expect(pass.seconds > 0 && pass.roundNanoseconds > 0, name)
                }
                let packets = load.passes.reduce(0) { $0 + $1.packets }
                #expect(load.response.count == UInt64(packets), name)
                #expect(load.service.count == UInt64(packets), name)
            }
            let packets = result.loads.flatMap(\.passes).reduce(0) { $0 + $1.packets }
            #expect(result.packets == UInt64(packets), name)
            let whole = result.fallback.values.reduce(0, +)
            let splits = result.benchCase.method != .whole
            #expect(result.split + whole == (splits ? result.packets : 0), name)
        }
    }

    @Test("Settings that cannot be are refused by name")
    func settings() {
        let wrong: [(String, (inout LatencySettings) -> Void)] = [
            ("loads: the list is empty", { $0.loads = [] }),
            ("loads: 0 is not between 1 and 100 percent", { $0.loads = [10, 0] }),
            ("loads: 101 is not", { $0.loads = [101] }),
            ("loads: a load is listed twice", { $0.loads = [10, 10] }),
            ("pass-time: 0 is not between", { $0.passMilliseconds = 0 }),
            ("tolerance: 51 is not between", { $0.tolerancePercent = 51 }),
        ]
        for (words, change) in wrong {
            var settings = LatencySettings()
            change(&settings)
            let error = #expect(throws: SetupError.self) { try settings.validate() }
            #expect(error?.description.hasPrefix(words) == true, "\(words)")
        }
        #expect(throws: Never.self) { try LatencySettings().validate() }
    }
}
