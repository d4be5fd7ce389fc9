// A front-end asks for what stops traffic for a moment, that of every port: rings that start and
// stop, new memory, more queue pairs. It may do so at any time, and a hostile one does it without
// end. So what it asks for costs its port the time that the threads are held, and while the port
// has spent more than it has, requests wait in the socket. Nothing is refused, and nobody waits for
// more than some seconds: one long hold, as of a machine that swaps, is no fault of the guest's.
//
// Many guests may do so together. Those whose requests have cost something that is not made up for
// yet are sharers: the more they are, the less each may spend at once, and the slower what it spent
// is made up for. Together they stop traffic for about an eighth of the time.

/// How much longer the requests of one port may keep traffic waiting.
struct HoldBudget {
    /// What a port may spend at once, in nanoseconds, if it is the only one.
    let allowance: UInt64
    /// What a port has spent grows less again by one nanosecond in so many, if it is the only one.
    static let recovery: UInt64 = 16
    /// Most that is remembered beyond the allowance, in nanoseconds: 4 s of waiting.
    static let most: UInt64 = 250_000_000
    /// What a hold costs beside its own time: threads are stopped, and begin with cold caches.
    static let price: UInt64 = 50_000

    private var spent: UInt64 = 0
    private var lastSpent: UInt64 = 0

    init(allowance: UInt64 = 500_000_000) { self.allowance = allowance }

    /// The same for one of several.
    private static func recovery(_ sharers: Int) -> UInt64 {
        max(recovery, recovery / 2 * UInt64(sharers))
    }

    private func allowance(_ sharers: Int) -> UInt64 { allowance / UInt64(sharers) }

    /// Threads were held between two times of the monotonic clock, in nanoseconds.
    /// - Parameter sharers: ports that spend, this one included.
    mutating func spend(from start: UInt64, to end: UInt64, sharers: Int = 1) {
        let recovery = Self.recovery(sharers)
        let recovered = (start - min(start, lastSpent)) / recovery
        spent = spent - min(spent, recovered) + (end - start) + Self.price
        spent = min(spent, allowance(sharers) + Self.most * Self.recovery / recovery)
        lastSpent = end
    }

    /// When requests may be served; in the past if they may now.
    func ready(sharers: Int = 1) -> UInt64 {
        let allowance = allowance(sharers)
        return spent > allowance
            ? lastSpent + (spent - allowance) * Self.recovery(sharers) : 0
    }

    /// When all that was spent is made up for.
    func settled(sharers: Int = 1) -> UInt64 { lastSpent + spent * Self.recovery(sharers) }
}

/// Which ports of a host have requests whose cost is not made up for. For the control thread.
public final class HoldShares {
    private var settled: [ObjectIdentifier: UInt64] = [:]
    /// None of them is over before: asking costs nothing until then, however many there are.
    private var earliest = UInt64.max

    public init() {}

    /// How many there are, at least 1.
    /// - Parameter port: counts as one of them.
    func count(at now: UInt64, with port: AnyObject? = nil) -> Int {
        if earliest <= now {
            settled = settled.filter { $0.value > now }
            earliest = settled.values.min() ?? .max
        }
        let isKnown = port.map { settled[ObjectIdentifier($0)] != nil } ?? true
        return max(1, settled.count + (isKnown ? 0 : 1))
    }

    /// A port's requests have cost something.
    func note(_ port: AnyObject, until time: UInt64) {
        settled[ObjectIdentifier(port)] = time
        earliest = min(earliest, time)
    }
}
