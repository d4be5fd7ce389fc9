// Which packet was due when, was sent when and arrived when. An RQ keeps its packets in order, so
// the times of one packet are found by counting:
//
//   schedule --due--> waiting --sent--> under way --reference back--> delivered \
//                                                                                > both: recorded
//                                      driver sees a packet ------------> seen  /
//
// The driver may see a packet before its reference is back or after, so either side waits.

/// The packets that one RQ is offered in one pass, and their latencies.
struct OfferedLoad {
    private struct Stamp {
        var due: UInt64
        var sent: UInt64
    }

    /// From the time a packet was due to be sent until the driver saw it: what a sender that does
    /// not wait would have met, so corrected for coordinated omission.
    private(set) var response: LatencyHistogram
    /// From the time a packet was sent: without what it had waited for that.
    private(set) var service: LatencyHistogram
    /// Packets that were due.
    private(set) var offered = 0
    private(set) var arrived = 0
    private(set) var dropped = 0
    /// Packets that were due and were not sent before `giveUp`.
    private(set) var unsent = 0
    private var schedule: SendSchedule
    private let start: UInt64
    private let length: UInt64
    private let capacity: Int
    private var waiting: Fifo<UInt64>
    private var underWay: Fifo<Stamp>
    private var delivered: Fifo<Stamp>
    private var seen: Fifo<UInt64>
    private var hasGivenUp = false

    /// - Parameters:
    ///   - start: of the schedule, by the clock.
    ///   - length: cycles in which packets become due.
    ///   - burst: most packets that are sent at once.
    ///   - capacity: most packets under way.
    ///   - cyclesPerMicrosecond: rate of the clock.
    init(
        _ schedule: SendSchedule, start: UInt64, length: UInt64, burst: Int, capacity: Int,
        cyclesPerMicrosecond: Double
    ) {
        (self.schedule, self.start, self.length) = (schedule, start, length)
        self.capacity = capacity
        waiting = Fifo(capacity: burst, filler: 0)
        underWay = Fifo(capacity: capacity, filler: Stamp(due: 0, sent: 0))
        delivered = underWay
        seen = Fifo(capacity: capacity, filler: 0)
        response = LatencyHistogram(cyclesPerMicrosecond: cyclesPerMicrosecond)
        service = response
    }

    /// No packets at all.
    static var none: OfferedLoad {
        OfferedLoad(
            SendSchedule(interval: 1), start: 0, length: 0, burst: 1, capacity: 1,
            cyclesPerMicrosecond: 1)
    }

    /// How many packets are to be sent now: those that are due, a burst at most.
    mutating func due(at now: UInt64) -> Int {
        while !waiting.isFull, !isExhausted, start &+ schedule.next <= now {
            waiting.push(start &+ schedule.next)
            offered += 1
            schedule.advance()
        }
        return min(waiting.count, capacity - underWay.count - delivered.count)
    }

    /// `count` of those that were due were sent.
    mutating func sent(_ count: Int, at now: UInt64) {
        for _ in 0..<count { underWay.push(Stamp(due: waiting.pop(), sent: now)) }
    }

    /// The reference of the packet that was sent longest ago is back.
    mutating func completed(isDropped: Bool) {
        let stamp = underWay.pop()
        if isDropped {
            dropped += 1
        } else if seen.count > 0 {
            record(stamp, at: seen.pop())
        } else {
            delivered.push(stamp)
        }
    }

    /// The driver saw `count` packets.
    mutating func saw(_ count: Int, at now: UInt64) {
        for _ in 0..<count {
            if delivered.count > 0 {
                record(delivered.pop(), at: now)
            } else {
                seen.push(now)
            }
        }
    }

    @inline(__always)
    private mutating func record(_ stamp: Stamp, at now: UInt64) {
        arrived += 1
        response.record(now &- stamp.due)
        service.record(now &- stamp.sent)
    }

    /// Nothing more is sent. Packets that are due by `now` and were not sent count as unsent.
    mutating func giveUp(at now: UInt64) {
        if hasGivenUp { return }
        unsent += waiting.count
        while waiting.count > 0 { _ = waiting.pop() }
        while !isExhausted, start &+ schedule.next <= now {
            offered += 1
            unsent += 1
            schedule.advance()
        }
        hasGivenUp = true
    }

    /// No packet will become due any more.
    private var isExhausted: Bool { hasGivenUp || schedule.next >= length }

    /// All packets were sent and have arrived or were dropped.
    var isDone: Bool {
        isExhausted && waiting.count == 0 && underWay.count == 0 && delivered.count == 0
            && seen.count == 0
    }

    /// Everything that was sent has come back.
    var isEmpty: Bool { underWay.count == 0 && delivered.count == 0 }
}

/// First in, first out, at most `capacity` of them.
struct Fifo<Element> {
    private var elements: [Element]
    private let capacity: Int
    private var first = 0
    private(set) var count = 0

    /// - Parameter filler: what free places hold.
    init(capacity: Int, filler: Element) {
        self.capacity = capacity
        let size = 1 << (Int.bitWidth - max(0, capacity - 1).leadingZeroBitCount)
        elements = Array(repeating: filler, count: size)
    }

    var isFull: Bool { count == capacity }

    mutating func push(_ element: Element) {
        precondition(count < capacity, "a place must be free")
        elements[(first + count) & (elements.count - 1)] = element
        count += 1
    }

    mutating func pop() -> Element {
        precondition(count > 0, "there must be an element")
        defer {
            first = (first + 1) & (elements.count - 1)
            count -= 1
        }
        return elements[first]
    }
}
