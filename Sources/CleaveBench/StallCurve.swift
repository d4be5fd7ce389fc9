import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// What a stalled RQ does to the others: its driver stops harvesting for a while.
public struct StallPoint: Codable, Sendable {
    public var slotReturn: SlotReturn
    /// Slots of the header queue that all RQs share.
    public var slots: Int
    /// Packets that the healthy RQs were offered while the other one was stalled.
    public var offered: Int
    /// Of them, delivered.
    public var delivered: Int
    /// Of them, with headers in a slot.
    public var split: Int
    /// `split` by the model: see `StallCurve.expectedSplit`.
    public var expectedSplit: Int
    /// Share of the healthy RQs' packets that were split.
    public var splitShare: Double
    /// Packets of all RQs that did not arrive or arrived wrong, the stalled one's included, after
    /// its driver woke up again.
    public var lost: Int
    /// Slots that were the device's before the stall, and after everything was harvested; not in
    /// files.
    public var freeBefore = 0
    public var freeAfter = 0

    private enum CodingKeys: CodingKey {
        case slotReturn, slots, offered, delivered, split, expectedSplit, splitShare, lost
    }
}

/// Measures a stall packet by packet, on one thread: the same figures on every machine.
public struct StallCurve {
    /// RQs, of which number 0 is the one that stalls.
    public var rqs = 2
    public var ringSize = 256
    public var burst = 32
    public var slotSize = 128
    public var report = HeaderReport.usedLength
    public var packet = "64"

    public init() {}

    /// Healthy packets that a stall of RQ 0 leaves split.
    ///
    /// The stalled RQ goes on receiving until its ring is full, and then holds as many slots as its
    /// ring has buffers. With a return ring that is all it costs: the other slots circulate, and
    /// every packet is split as long as a burst's slots are among them. With the tail, slots that
    /// were claimed after its first one cannot come back: all RQs together have what was free.
    /// - Parameters:
    ///   - held: slots that the stalled RQ took during the stall.
    ///   - offered: packets of the healthy RQs.
    static func expectedSplit(
        _ slotReturn: SlotReturn, slots: Int, held: Int, offered: Int, burst: Int
    ) -> Int {
        switch slotReturn {
        case .tail: min(offered, slots - held)
        case .ring, .groups:
            slots - held >= burst
                ? offered : offered / burst * max(0, slots - held)
        }
    }

    /// One stall: RQ 0 is offered a ring full of packets, its driver sleeps; meanwhile the others
    /// are offered `packets` in all, one RQ after the other, and are harvested.
    public func point(
        _ slotReturn: SlotReturn, slots: Int, packets: Int
    ) throws(SetupError) -> StallPoint {
        var one = BenchCase()
        (one.rqs, one.ringSize, one.burst, one.slotSize) = (rqs, ringSize, burst, slotSize)
        (one.report, one.packet, one.slots) = (report, packet, slots)
        one.slotReturn = slotReturn
        try one.validate()
        guard rqs > 1 else { throw SetupError("a stall needs another RQ: \(rqs) RQs") }
        let pool: PacketPool
        do { pool = try PacketPool.load(packet, count: 1024, flows: 64) } catch {
            throw SetupError("\(error)")
        }
        let testbed = try Testbed(
            one, pools: [nil: pool],
            plan: QueuePlan(places: Array(repeating: .init(cpu: nil, node: nil), count: rqs)))
        var run = StallRun(testbed)
        return try run.point(packets: packets / burst * burst)
    }
}

/// One testbed during a stall.
private struct StallRun {
    let testbed: Testbed
    var lanes: [BenchLane]
    let burst: Int
    var corrupt = 0

    init(_ testbed: Testbed) {
        self.testbed = testbed
        burst = testbed.benchCase.burst
        lanes = (0..<testbed.benchCase.rqs).map { BenchLane(testbed, rq: $0) }
        for rq in lanes.indices { lanes[rq].verifier = BenchVerifier(testbed.benchCase) }
    }

    /// One burst of an RQ, harvested or not.
    mutating func poll(_ rq: Int, harvests: Bool) {
        lanes[rq].submit(limit: burst)
        lanes[rq].pollDevice()
        lanes[rq].reap()
        if harvests { _ = lanes[rq].harvestDriver() }
    }

    mutating func point(packets: Int) throws(SetupError) -> StallPoint {
        defer { for lane in lanes { lane.free() } }
        let queue = testbed.guest.deviceQueues[0]
        // Starts every RQ, with as many rounds as bring all of them to the border of a group.
        for _ in 0..<32 { for rq in lanes.indices { poll(rq, harvests: true) } }
        let freeBefore = queue.freeCount
        let before = lanes.indices.map { testbed.engine.counters($0) }
        // The stalled RQ's driver sleeps; packets come until its buffers are used up.
        for _ in 0..<testbed.benchCase.ringSize / burst { poll(0, harvests: false) }
        let held = Int(testbed.engine.counters(0).slots - before[0].slots)
        for round in 0..<packets / burst { poll(1 + round % (lanes.count - 1), harvests: true) }
        let after = lanes.indices.map { testbed.engine.counters($0) }
        let split = lanes.indices.dropFirst().reduce(0) {
            $0 + Int(after[$1].split - before[$1].split)
        }
        let delivered = lanes.indices.dropFirst().reduce(0) {
            $0 + Int(after[$1].packets - before[$1].packets)
        }
        // It wakes up.
        for rq in lanes.indices { while lanes[rq].harvestDriver() > 0 {} }
        var lost = 0
        for rq in lanes.indices {
            let verification = lanes[rq].verifier!.finish()
            lost += verification.lost + verification.corrupt + lanes[rq].inFlight
        }
        if let driver = testbed.drivers.first(where: { $0.fault != .none }) {
            throw SetupError("the device broke the protocol (\(driver.fault.name))")
        }
        let one = testbed.benchCase
        return StallPoint(
            slotReturn: one.slotReturn, slots: one.slots, offered: packets, delivered: delivered,
            split: split,
            expectedSplit: StallCurve.expectedSplit(
                one.slotReturn, slots: freeBefore, held: held, offered: packets, burst: burst),
            splitShare: packets == 0 ? 1 : Double(split) / Double(packets),
            lost: lost, freeBefore: freeBefore, freeAfter: queue.freeCount)
    }
}
