import Testing

@testable import CleaveEngine
@testable import CleaveRings

extension Interleavings {
    /// A control thread pauses an RQ's thread, replaces its queue, and resumes it.
    @Suite("Commands between bursts")
    struct WorkerControlTests {
        private func setUp(_ run: ModelRun, rounds: Int) {
            let memory = UnsafeMutablePointer<UInt32>.allocate(capacity: 2)
            memory.initialize(repeating: 0, count: 2)
            run.word("request", memory)
            run.word("acknowledgement", memory + 1)
            let control = WorkerControl(request: memory, acknowledgement: memory + 1)
            run.thread("control") {
                for _ in 0..<rounds {
                    control.send(.pause)
                    while !control.isAcknowledged {
                        if !run.wait(until: { memory[0] == memory[1] }) { return }
                    }
                    run.writes("queue", 0)
                    control.send(.run)
                }
                control.send(.stop)
            }
            run.thread("RQ") {
                while true {
                    let order = control.obey()
                    if order.command == .stop { return }
                    while order.command == .run && control.isLast(order) {
                        run.reads("queue", 0)
                        if !run.wait(until: { memory[0] != order.word }) { return }
                    }
                    if !run.wait(until: { memory[0] != order.word }) { return }
                }
            }
            run.finally {
                run.check(memory[0] == memory[1], "a command was not obeyed")
                memory.deallocate()
            }
        }

        @Test("An RQ that is paused does not poll", arguments: [1, 2])
        func held(_ rounds: Int) throws {
            try expectHolds(Bounds(preemptions: 4, staleReads: 2)) { setUp($0, rounds: rounds) }
        }

        @Test("Each end of E1 and E2 is needed")
        func weakened() throws {
            for word in ["request", "acknowledgement"] {
                for part in [Weakening.Part.release, .acquire] {
                    try expectFinds(
                        "race", Bounds(preemptions: 2, staleReads: 1),
                        without: Weakening(part: part, word: word)
                    ) { setUp($0, rounds: 2) }
                }
            }
        }

        @Test("The acknowledgement of an earlier pause is none of this one")
        func number() throws {
            try expectFinds(
                "race", Bounds(preemptions: 2, staleReads: 1), bug: .acknowledgeWithoutNumber
            ) { setUp($0, rounds: 2) }
        }
    }
}
