// Thousands of random queues: what the naive reader reassembles is what was submitted.
import RxPath
import TestSupport
import Testing

@Suite("Placement against a naive reader")
struct PlacementTwinTests {
    @Test("Every byte arrives, none lands elsewhere, and counters add up", arguments: 0..<4)
    func randomQueues(part: Int) throws {
        let guest = try EvilGuest(PlacementTrial.regions)
        let arenas = ArenaSupply()
        let pool = PacketPool(seed: UInt64(part), count: 400)
        var total = RxCounters()
        var dropped: [DropReason: UInt64] = [:]
        var tiny = 0
        try withEvery(Axis("seed", part * 1000..<part * 1000 + 750)) { seed in
            let trial = try PlacementTrial(seed: UInt64(seed), guest: guest, arenas: arenas)
            try trial.run(rounds: 6, pool: pool)
            total = total + trial.expected
            dropped.merge(trial.reasons, uniquingKeysWith: +)
            tiny += trial.tinyCount
        }
        // The trials are worth something only if everything happened.
        #expect(total.packets > 1000 && total.split > 500 && tiny > 10)
        for reason in [FallbackReason.noSlot, .headerTooLong, .notSplittable] {
            #expect(total.fallback[reason, default: 0] > 100)
        }
        for reason in [DropReason.runt, .bufferTooSmall, .tooManyBuffers, .noBuffer] {
            #expect(dropped[reason, default: 0] > 10, "\(reason)")
        }
    }
}
