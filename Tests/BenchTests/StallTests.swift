// The effect of an RQ whose driver stops harvesting on the others, with either way of giving slots
// back, beside the model. Single-threaded, so every figure is exact.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveBench

@Suite("A stalled RQ")
struct StallTests {
    private static let slotCounts = [64, 256, 512, 1024, 4096]
    private static let lengths = [0, 32, 256, 1024, 8192]

    @Test("With the tail the others degrade as modelled, and lose nothing", arguments: slotCounts)
    func tail(_ slots: Int) throws {
        for rqs in [2, 4] {
            var curve = StallCurve()
            curve.rqs = rqs
            for length in Self.lengths {
                let point = try curve.point(.tail, slots: slots, packets: length)
                #expect(point.offered == length && point.delivered == length)
                #expect(point.lost == 0)
                #expect(point.split == point.expectedSplit, "\(rqs) RQs, \(length) packets")
                #expect(point.freeAfter > 0)
            }
        }
    }

    @Test(
        "With a return ring the others split every packet while slots are left, and lose nothing",
        arguments: slotCounts)
    func ring(_ slots: Int) throws {
        for rqs in [2, 4] {
            var curve = StallCurve()
            curve.rqs = rqs
            for length in Self.lengths {
                let point = try curve.point(.ring, slots: slots, packets: length)
                #expect(point.offered == length && point.delivered == length)
                #expect(point.lost == 0)
                #expect(point.split == point.expectedSplit, "\(rqs) RQs, \(length) packets")
                if slots >= curve.ringSize + curve.burst { #expect(point.splitShare == 1) }
                #expect(point.freeBefore == slots && point.freeAfter == slots)
            }
        }
    }

    @Test("The return ring is what makes the difference")
    func difference() throws {
        let curve = StallCurve()
        let tail = try curve.point(.tail, slots: 512, packets: 8192)
        let ring = try curve.point(.ring, slots: 512, packets: 8192)
        #expect(tail.splitShare < 0.04 && ring.splitShare == 1)
    }

    @Test("Stalls that make no sense are refused")
    func refusals() {
        var alone = StallCurve()
        alone.rqs = 1
        #expect(
            message { _ = try alone.point(.tail, slots: 64, packets: 1) }.contains("another RQ"))
        #expect(
            message { _ = try StallCurve().point(.tail, slots: 65, packets: 1) }
                .contains("slot count 65"))
    }
}
