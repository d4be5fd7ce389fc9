// The driver's memory that receiving takes, against a recount by hand.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveBench

@Suite("Buffer use", .serialized)
struct BufferUseTests {
    private func run(_ cases: [BenchCase]) throws -> [BenchResult] {
        var plan = BenchPlan()
        plan.cases = cases
        (plan.repeats, plan.packetsPerRepeat, plan.sourcePackets) = (2, 100, 24)
        plan.verifyPackets = 24
        return try BenchRunner(plan).run { _ in }.results
    }

    /// TCP over IPv4 without options.
    private static let headerByteCount = 54

    /// Descriptors and bytes that one packet takes of the driver, by the rules of each method.
    private func recount(_ one: BenchCase, packet: Int) -> (descriptors: Int, held: Int) {
        let size = one.bufferByteCount
        let payload = packet - Self.headerByteCount
        func buffers(_ byteCount: Int) -> Int { max(1, (byteCount + size - 1) / size) }
        switch one.method {
        case .whole: return (buffers(12 + packet), buffers(12 + packet) * size)
        case .a:
            // The first chain's payload, and whole chains for the rest of it.
            let chains = max(1, 1 + (max(0, payload - size) + size + 127) / (size + 128))
            return (2 * chains, chains * (size + 128))
        case .b: return (1 + (payload == 0 ? 0 : buffers(payload)), (1 + buffers(payload)) * size)
        case .c:
            // A small one for the headers and a large one, as often as there are large ones.
            return (2 * buffers(payload), buffers(payload) * (size + 128))
        case .d:
            let count = buffers(payload + (one.report == .netHeader ? 20 : 0))
            return (count, count * size + 128)
        }
    }

    @Test(
        "Descriptors, bytes held and the wasted share are those of a recount",
        arguments: RxMethod.Kind.allCases)
    func recount(_ method: RxMethod.Kind) throws {
        var cases: [BenchCase] = []
        for ring in RingFormat.allCases {
            for packet in ["64", "1500", "4150", "9000"] {
                for report in method == .d ? HeaderReport.allCases : [.usedLength] {
                    var one = BenchCase()
                    (one.packet, one.ring, one.bufferByteCount) = (packet, ring, 2048)
                    (one.method, one.report) = (method, report)
                    cases.append(one)
                }
            }
        }
        for result in try run(cases) {
            let one = result.benchCase
            let packet = try #require(Int(one.packet))
            let (descriptors, held) = recount(one, packet: packet)
            let name: Comment = "\(one.displayName)"
            #expect(result.bufferUse.descriptorsPerPacket == Double(descriptors), name)
            #expect(result.bufferUse.bytesHeldPerPacket == Double(held), name)
            let wasted = 1 - Double(packet) / Double(held)
            #expect(abs(result.bufferUse.wastedShare - wasted) < 1e-12, name)
            #expect(result.split == (one.method == .whole ? 0 : result.packets), name)
            let isAlone = method != .whole && one.effectiveReport != .netHeader
            #expect(result.payload.packets == result.verify.packets, name)
            #expect(result.payload.aloneShare == (isAlone ? 1 : 0), name)
            // Payload after a header starts on no page border.
            #expect(isAlone || result.payload.pageAligned == 0, name)
            if method == .whole || method == .d {
                #expect(result.payload.headerAreas == (method == .d ? 1 : 0), name)
            } else {
                #expect(result.payload.headerAreas > 0, name)
            }
        }
    }

    @Test("Payload in buffers of a page is page-aligned, always")
    func aligned() throws {
        let cases = RxMethod.Kind.allCases.map { method in
            var one = BenchCase()
            (one.packet, one.method) = ("imix", method)
            return one
        }
        for result in try run(cases) {
            let isWhole = result.benchCase.method == .whole
            #expect(result.payload.pageAlignedShare == (isWhole ? 0 : 1))
            #expect(result.payload.packets == result.verify.packets)
        }
    }

    @Test("A driver aligns payload by a descriptor for what precedes it", arguments: [false, true])
    func alignedByDriver(hashReport: Bool) throws {
        let prefix = hashReport ? 28 : 20
        let capture = ReleaseProgram.root
            .appendingPathComponent("configs/captures/linux-mtu1500.pcap").path
        var cases: [BenchCase] = []
        for ring in RingFormat.allCases {
            for buffers in BufferKind.allCases {
                for packet in ["64", "4150", "9000", capture] {
                    var one = BenchCase()
                    (one.packet, one.ring, one.buffers) = (packet, ring, buffers)
                    (one.report, one.alignsPayload) = (.netHeader, true)
                    one.hashReport = hashReport
                    one.consumer = buffers == .chained ? .take : .none
                    cases.append(one)
                }
            }
        }
        for result in try run(cases) {
            let name: Comment = "\(result.benchCase.displayName)"
            #expect(result.verify.corrupt == 0 && result.verify.lost == 0, name)
            #expect(result.dropped == [:], name)
            let isSplit = result.split == result.packets
            #expect(isSplit == (result.benchCase.packet != capture), name)
            guard isSplit else {
                // A packet that is not split follows the same descriptor, headers first.
                #expect(result.payload.aloneShare > 0.5 && result.payload.aloneShare < 1, name)
                continue
            }
            #expect(result.payload.aloneShare == 1 && result.payload.pageAlignedShare == 1, name)
            if result.benchCase.packet == "64" {
                #expect(result.bufferUse.descriptorsPerPacket == 2, name)
                #expect(result.bufferUse.bytesHeldPerPacket == Double(prefix + 4096 + 128), name)
            }
        }
    }

    @Test("Chains count all their descriptors and bytes, used or not")
    func chains() throws {
        var one = BenchCase()
        (one.packet, one.buffers, one.method) = ("imix", .chained, .whole)
        one.bufferByteCount = 512
        let result = try #require(try run([one]).first)
        // 1518 + 28 bytes: four descriptors of 512.
        #expect(result.bufferUse.descriptorsPerPacket == 4)
        #expect(result.bufferUse.bytesHeldPerPacket == 2048)
    }

    @Test("A packet that is not split, or lies in its slot entirely, has no payload alone")
    func notAlone() throws {
        var tiny = BenchCase()
        (tiny.packet, tiny.tiny) = ("64", true)
        var threshold = BenchCase()
        (threshold.packet, threshold.splitThreshold) = ("64", 128)
        for result in try run([tiny, threshold]) {
            #expect(result.payload.packets == result.verify.packets)
            #expect(result.payload.alone == 0 && result.payload.pageAligned == 0)
        }
    }

    @Test("The driver's phases add up, and reading costs the consumer alone")
    func phases() throws {
        var cases: [BenchCase] = []
        for consumer in PayloadConsumer.allCases {
            for reads in [false, true] {
                var one = BenchCase()
                (one.packet, one.consumer, one.readsPayload) = ("1500", consumer, reads)
                cases.append(one)
            }
        }
        for result in try run(cases) {
            let cycles = result.driverCycles
            #expect(cycles.harvest.min > 0)
            // Two passes: medians are means, and those add up.
            let sum = cycles.refill.median + cycles.harvest.median + cycles.giveBack.median
            #expect(abs(cycles.total.median - sum) < 1e-6 * sum)
            #expect(result.driverCyclesPerPacket == cycles.total)
            let consumes = result.benchCase.consumer != .none || result.benchCase.readsPayload
            #expect((result.consumerCyclesPerPacket.max > 0) == consumes)
            #expect(result.verify.corrupt == 0 && result.verify.lost == 0)
        }
    }

    @Test("The reading application sees every byte, of every length and at every offset")
    func reader() {
        var random = SeededRandom(seed: 7)
        let bytes = (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }
        bytes.withUnsafeBytes { memory in
            for first in 0..<9 {
                for count in 0...(memory.count - first) {
                    var naive: UInt64 = 0
                    for index in 0..<count {
                        naive &+= UInt64(memory[first + index]) << UInt64(index % 8 * 8)
                    }
                    let start = memory.baseAddress! + first
                    #expect(PayloadReader.sum(start, byteCount: count) == naive)
                }
            }
        }
    }

    @Test("Areas: neighbours join, gaps part, nothing is none")
    func areas() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 1024, alignment: 128)
        defer { memory.deallocate() }
        func areas(_ offsets: [Int]) -> Int {
            PayloadPlaces.areas(
                of: Set(offsets.map { UnsafeRawPointer(memory + $0) }), byteCount: 128)
        }
        #expect(areas([]) == 0)
        #expect(areas([128, 0, 256]) == 1)
        #expect(areas([0, 256, 384, 896]) == 3)
    }
}
