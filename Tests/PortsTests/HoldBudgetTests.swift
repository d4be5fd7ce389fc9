import Testing

@testable import CleavePorts

@Suite("How long a port's requests may hold traffic up")
struct HoldBudgetTests {
    private let price = HoldBudget.price

    @Test("Up to the allowance requests are served at once; what is beyond it costs time")
    func allowance() {
        var budget = HoldBudget(allowance: 10 * price)
        for hold in 0..<10 as Range<UInt64> {
            #expect(budget.ready() == 0, "\(hold)")
            budget.spend(from: 1000, to: 1000)
        }
        #expect(budget.ready() == 0)
        budget.spend(from: 1000, to: 1500)
        #expect(budget.ready() == 1500 + (price + 500) * HoldBudget.recovery)
    }

    @Test("In the long run a port holds traffic up for a sixteenth of the time")
    func share() {
        var budget = HoldBudget(allowance: 1_000_000)
        var now: UInt64 = 5_000_000_000
        let start = now
        var held: UInt64 = 0
        for round in 0..<10_000 as Range<UInt64> {
            now = max(now, budget.ready())
            let hold = round % 7 * 100_000
            budget.spend(from: now, to: now + hold)
            now += hold
            held += hold + price
        }
        #expect(held <= (now - start) / HoldBudget.recovery + 2_000_000)
        #expect(held >= (now - start) / HoldBudget.recovery * 9 / 10)
    }

    @Test("One long hold is not answered by minutes of silence")
    func longHold() {
        var budget = HoldBudget(allowance: 500_000_000)
        let end: UInt64 = 60_000_000_000
        budget.spend(from: 0, to: end)
        #expect(budget.ready() == end + HoldBudget.most * HoldBudget.recovery)
        #expect(budget.ready() - end == 4_000_000_000)
    }

    @Test("What was spent is forgotten with time, and no more than that")
    func recovery() {
        var budget = HoldBudget(allowance: 0)
        budget.spend(from: 100, to: 200)
        let ready = budget.ready()
        #expect(ready == 200 + (100 + price) * HoldBudget.recovery)
        // Long after it nothing is saved up.
        budget.spend(from: ready * 1000, to: ready * 1000)
        #expect(budget.ready() == ready * 1000 + price * HoldBudget.recovery)
    }

    @Test("Many ports together hold traffic up for an eighth of the time", arguments: [2, 9, 128])
    func sharers(count: Int) {
        let shares = HoldShares()
        let ports = (0..<count).map { _ in HoldShares() }
        var budgets = [HoldBudget](repeating: HoldBudget(), count: count)
        var now: UInt64 = 5_000_000_000
        let start = now
        var held: UInt64 = 0
        var holds = [Int](repeating: 0, count: count)
        let seconds: UInt64 = 60
        while now - start < seconds * 1_000_000_000 {
            let before = now
            for index in 0..<count {
                if now < budgets[index].ready(sharers: shares.count(at: now)) { continue }
                let hold: UInt64 = 200_000
                let sharers = shares.count(at: now + hold, with: ports[index])
                budgets[index].spend(from: now, to: now + hold, sharers: sharers)
                shares.note(ports[index], until: budgets[index].settled(sharers: sharers))
                now += hold
                held += hold + price
                holds[index] += 1
            }
            if now == before {
                let sharers = shares.count(at: now)
                let next = budgets.map { $0.ready(sharers: sharers) }.min() ?? 0
                now = max(now + 100_000, next)
            }
        }
        // What they have at once comes to it.
        #expect(held <= (now - start) / 8 + 1_500_000_000)
        #expect(held >= (now - start) / 10)
        // Each its part.
        #expect((holds.max() ?? 0) <= 2 * (holds.min() ?? 0))
    }

    @Test("A port that asks for little waits for none of the others")
    func little() {
        let shares = HoldShares()
        let others = (0..<20).map { _ in HoldShares() }
        for other in others { shares.note(other, until: .max) }
        let port = HoldShares()
        var budget = HoldBudget()
        // What a guest asks for that starts.
        for _ in 0..<20 {
            #expect(budget.ready(sharers: shares.count(at: 1000)) == 0)
            let sharers = shares.count(at: 1000, with: port)
            #expect(sharers == 21)
            budget.spend(from: 1000, to: 51_000, sharers: sharers)
            shares.note(port, until: budget.settled(sharers: sharers))
        }
        #expect(shares.count(at: 1000) == 21)
        #expect(shares.count(at: budget.settled(sharers: 21)) == 20)
    }
}
