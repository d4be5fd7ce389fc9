// Thousands of random queues of every method and ring: the naive reader reassembles the packets
// that were submitted, and the outcome of each is that of the naive plan.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Placement against a naive reader")
struct PlacementTwinTests {
    @Test(
        "Every byte arrives, none lands elsewhere, and counters add up",
        arguments: PlacementTrial.Kind.all)
    func randomQueues(kind: PlacementTrial.Kind) throws {
        let guest = try EvilGuest(PlacementTrial.regions)
        let arenas = ArenaSupply()
        var total = RxCounters()
        var offloads = 0
        var batched = 0
        for part in 0..<4 {
            let pool = PacketPool(seed: UInt64(part), count: 300)
            try withEvery(Axis("seed", part * 1000..<part * 1000 + 100)) { seed in
                let trial = try PlacementTrial(
                    kind, seed: UInt64(seed), guest: guest, arenas: arenas)
                try trial.run(rounds: 6, pool: pool)
                total = total + trial.expected
                offloads += trial.offloadCount
                batched += trial.batchedCount
            }
        }
        // The trials are worth something only if everything happened.
        #expect(total.packets > 1000 && total.undersizedBuffers > 10 && offloads > 300)
        // With IN_ORDER, too, each buffer has a used entry of its own.
        #expect(batched == 0)
        var reasons: Set<DropReason> = [
            .runt, .tooLong, .noBuffer, .tooManyBuffers, .badOffload, .offloadNotNegotiated,
        ]
        if !["headerPage", "alternating"].contains(kind.method) { reasons.insert(.bufferTooSmall) }
        for reason in reasons { #expect(total.dropped[reason, default: 0] > 5, "\(reason)") }
        if kind.method == "whole" { return }
        #expect(total.split > 300)
        for reason in [FallbackReason.notSplittable, .belowThreshold, .headerTooLong] {
            #expect(total.fallback[reason, default: 0] > 20, "\(reason)")
        }
        switch kind.method {
        case "netHeader", "usedLength":
            #expect(total.fallback[.noSlot, default: 0] > 100 && total.tiny > 50)
        case "headerDescriptor":
            #expect(total.fallback[.noPayloadDescriptor, default: 0] > 20)
        case "alternating": #expect(total.skippedBuffers > 20 && total.misfits > 20)
        default: break
        }
    }
}
