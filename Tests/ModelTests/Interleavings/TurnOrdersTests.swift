import Testing

@testable import Rings

extension Interleavings {
    /// A control thread holds an RQ's thread, puts another queue in place, and lets it go on.
    @Suite("Orders between turns")
    struct TurnOrdersTests {
        private func setUp(_ run: ModelRun, rounds: Int) {
            let memory = UnsafeMutablePointer<UInt32>.allocate(capacity: 2)
            memory.initialize(repeating: 0, count: 2)
            run.word("request", memory)
            run.word("answer", memory + 1)
            let orders = TurnOrders(request: memory, answer: memory + 1)
            run.thread("control") {
                for _ in 0..<rounds {
                    orders.give(.hold)
                    while !orders.isAnswered {
                        if !run.wait(until: { memory[0] == memory[1] }) { return }
                    }
                    run.writes("queue", 0)
                    orders.give(.run)
                }
                orders.give(.end)
            }
            run.thread("RQ") {
                while true {
                    let order = orders.obey()
                    if order.kind == .end { return }
                    while order.kind == .run && orders.isLast(order) {
                        run.reads("queue", 0)
                        if !run.wait(until: { memory[0] != order.word }) { return }
                    }
                    if !run.wait(until: { memory[0] != order.word }) { return }
                }
            }
            run.finally {
                run.check(memory[0] == memory[1], "an order was not obeyed")
                memory.deallocate()
            }
        }

        @Test("An RQ that is held does not turn", arguments: [1, 2])
        func held(_ rounds: Int) throws {
            try expectHolds(Bounds(preemptions: 4, staleReads: 2)) { setUp($0, rounds: rounds) }
        }

        @Test("Each end of E1 and E2 is needed")
        func weakened() throws {
            for word in ["request", "answer"] {
                for part in [Weakening.Part.release, .acquire] {
                    try expectFinds(
                        "race", Bounds(preemptions: 2, staleReads: 1),
                        without: Weakening(part: part, word: word)
                    ) { setUp($0, rounds: 2) }
                }
            }
        }

        @Test("The answer to an earlier order is none to this one")
        func number() throws {
            try expectFinds(
                "race", Bounds(preemptions: 2, staleReads: 1), bug: .answerWithoutNumber
            ) { setUp($0, rounds: 2) }
        }
    }
}
