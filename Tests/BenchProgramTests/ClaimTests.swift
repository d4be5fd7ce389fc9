import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Claims")
struct ClaimTests {
    /// Results with which every claim holds.
    private func results(
        _ change: (inout BenchResult) -> Void = { _ in }
    ) -> [BenchResult] {
        ClaimCases.all.map { one in
            let isQueue = one.method == .d
            var result = Samples.result(cycles: isQueue ? 40 : 100) { result in
                result.benchCase = one
                result.split = one.method == .whole || one.tiny ? 0 : 1000
                result.tiny = one.tiny ? 1000 : 0
                result.payload = PayloadPlaces(
                    packets: 10, alone: 10, pageAligned: 10, headerAreas: 1)
                result.bufferUse.descriptorsPerPacket = one.method == .a ? 2 : 1
                result.memory = BenchMemory(
                    dataBytes: one.ringSize * one.bufferByteCount,
                    headerBytes: one.slotSize * one.slots
                        * (one.sharedHeaderQueue ? 1 : one.rqs))
                if one.packet == "\(ClaimCases.pagePacket)" {
                    result.meanPacketBytes = Double(ClaimCases.pagePacket)
                    result.consumerCyclesPerPacket = Samples.spread(
                        (one.consumer == .copy ? 250 : 5) + (one.readsPayload ? 120 : 0))
                }
                if one.name == ClaimCases.shortOfSlots { result.fallback = ["noSlot": 750] }
                if one.name == ClaimCases.smallSlots { result.fallback = ["headerTooLong": 1000] }
            }
            change(&result)
            return result
        }
    }

    private func failing(_ change: (inout BenchResult) -> Void) -> [Int] {
        ClaimJudge(results(change)).claims.filter { !$0.holds }.map(\.id)
    }

    @Test("There are nine, each with a figure claimed beside one measured")
    func nine() {
        let claims = ClaimJudge(results()).claims
        #expect(claims.map(\.id) == Array(1...9))
        for claim in claims {
            #expect(claim.holds, "\(claim.title)")
            #expect(claim.claimed != nil)
            #expect(claim.figures.allSatisfy { $0.measured?.isFinite == true }, "\(claim.title)")
        }
        #expect(Set(ClaimCases.all.map(\.name)).count == ClaimCases.all.count)
        #expect(ClaimCases.all.allSatisfy { $0.contradiction == nil })
    }

    @Test("A claim falls with what was measured, and no other with it")
    func falling() {
        #expect(failing { $0.payload.alone = 9 } == [1])
        #expect(failing { $0.payload.pageAligned = 9 } == [1])
        #expect(failing { $0.bufferUse.bytesHeldPerPacket += 64 } == [1])
        #expect(
            failing { if $0.benchCase.consumer == .take { $0.consumerCyclesPerPacket.min = 150 } }
                == [1])
        #expect(failing { if $0.benchCase.bufferByteCount == 256 { $0.split = 999 } } == [2])
        #expect(
            failing {
                if $0.benchCase.method == .d && $0.benchCase.packet == "4096" {
                    $0.driverCycles.harvest.min *= 1.6
                }
            } == [3])
        #expect(
            failing {
                if $0.benchCase.method == .d { $0.bufferUse.descriptorsPerPacket = 1.01 }
            } == [3])
        #expect(failing { if $0.benchCase.rqs > 1 { $0.verify.lost = 1 } } == [4])
        #expect(failing { if $0.benchCase.rqs > 1 { $0.memory.headerBytes = 4096 } } == [4])
        #expect(failing { if $0.benchCase.tiny { $0.tiny = 999 } } == [5])
        #expect(failing { if $0.benchCase.name == ClaimCases.untouched { $0.tiny = 1 } } == [5])
        #expect(failing { $0.fallback = [:] } == [6])
        #expect(failing { if $0.benchCase.slots == 8 { $0.dropped = ["noBuffer": 1] } } == [6])
        #expect(failing { if $0.benchCase.rqs == 1 { $0.payload.headerAreas = 2 } } == [7])
        #expect(failing { if $0.benchCase.packet == "9000" { $0.split = 999 } } == [8])
        #expect(
            failing { if $0.benchCase.buffers == .chained { $0.verify.corrupt = 1 } } == [8])
        #expect(failing { if $0.benchCase.rqs == 1 { $0.memory.headerBytes *= 2 } } == [9])
        #expect(failing { $0.driverCycles.refill.min = .nan } == [1, 3])
    }

    @Test("Bounds mean what they say; nothing claimed is nothing judged")
    func bounds() {
        func holds(_ bound: ClaimFigure.Bound, _ claimed: Double, _ measured: Double) -> Bool? {
            ClaimFigure(
                name: "", unit: "", claim: (bound, claimed), measured: measured
            ).holds
        }
        #expect(holds(.atMost, 0.5, 0.5) == true && holds(.atMost, 0.5, 0.501) == false)
        #expect(holds(.atLeast, 1.75, 1.75) == true && holds(.atLeast, 1.75, 1.74) == false)
        #expect(holds(.moreThan, 0, 0) == false && holds(.equal, 100, 99.99) == false)
        #expect(holds(.atMostCut, 3.1, 3.125) == true && holds(.atMostCut, 1.5, 1.5625) == true)
        #expect(holds(.atMostCut, 3.1, 3.2) == false)
        #expect(ClaimFigure(name: "", unit: "", claim: nil, measured: .nan).holds == nil)
        #expect(holds(.equal, 1, .nan) == false)
    }

    @Test("Table and JSON say the same")
    func output() throws {
        let report = Samples.report(results { if $0.benchCase.tiny { $0.tiny = 500 } })
        let claims = ClaimJudge(report.results).claims
        let text = ClaimsText(style: .plain, isQuiet: true).text(claims, report)
        #expect(text.contains("\n8 of 9 claims hold; does not hold: 5\n"))
        let lines = text.split(separator: "\n")
        #expect(lines.allSatisfy { $0.count <= 120 })
        #expect(lines.count { $0.hasSuffix("  holds") } == 8)
        let json = ResultJSON.text(BenchDocument(report, command: [], claims: claims))
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        let list = try #require(object["claims"] as? [[String: Any]])
        #expect(list.compactMap { $0["id"] as? Int } == Array(1...9))
        #expect(list.compactMap { $0["holds"] as? Bool } == claims.map(\.holds))
        let tiny = list[4]
        #expect(tiny["claimed"] as? Double == 100 && tiny["measured"] as? Double == 50)
        let figures = try #require(list[2]["figures"] as? [[String: Any]])
        #expect(figures.count == claims[2].figures.count)
        #expect(figures.contains { $0["claimed"] is NSNull && $0["holds"] is NSNull })
        #expect((object["runs"] as? [Any])?.count == ClaimCases.all.count)
        #expect(!ResultJSON.text(BenchDocument(report, command: [])).contains("\"claims\""))
    }
}
