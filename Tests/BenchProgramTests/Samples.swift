import CleaveHost
import CleaveVirtioNet

@testable import CleaveBench

/// Results that no machine measured, for tests of what is done with results.
enum Samples {
    static func spread(_ value: Double) -> Spread {
        Spread([value * 0.97, value, value * 1.05])!
    }

    /// A verified result of 1000 packets; every cycle figure follows from `cycles`.
    static func result(
        _ packet: String = "1500", _ method: RxMethod.Kind = .d, ring: RingFormat = .split,
        report: HeaderReport = .usedLength, cycles: Double = 100,
        _ change: (inout BenchResult) -> Void = { _ in }
    ) -> BenchResult {
        var one = BenchCase()
        (one.packet, one.method, one.ring, one.report) = (packet, method, ring, report)
        var result = BenchResult(
            benchCase: one, uniformPacketBytes: nil, meanPacketBytes: 1500, mpps: spread(4),
            gbps: spread(48), deviceCyclesPerPacket: spread(cycles),
            driverCycles: DriverCycles(
                refill: spread(cycles / 8), harvest: spread(cycles / 4),
                giveBack: spread(cycles / 8), total: spread(cycles / 2)),
            consumerCyclesPerPacket: spread(0), packets: 1000,
            split: method == .whole ? 0 : 1000, fallback: [:], dropped: [:], claimRetries: 0,
            verify: Verification(packets: 4096), memory: BenchMemory(), notes: [])
        result.bufferUse = BufferUse(
            descriptorsPerPacket: 1, bytesHeldPerPacket: 4224, wastedShare: 0.625)
        result.payload = PayloadPlaces(
            packets: 4096, alone: method == .whole ? 0 : 4096, pageAligned: 2048, headerAreas: 1)
        change(&result)
        return result
    }

    static func runs(_ results: [BenchResult]) -> [RunRecord] { results.map(RunRecord.init) }

    static func document(_ report: BenchReport) -> BenchDocument {
        BenchDocument(report, command: [])
    }

    static func report(_ results: [BenchResult]) -> BenchReport {
        BenchReport(
            machine: MachineFacts.current(), mode: .oneCore, repeats: 3, results: results,
            warnings: [])
    }
}
