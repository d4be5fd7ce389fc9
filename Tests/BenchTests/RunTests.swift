// Small runs over all axes: packets arrive as they were sent, and the counters add up.
import CleaveHost
import CleaveTestSupport
import CleaveTraffic
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveBench

private let captures = ["linux-mtu1500.pcap", "linux-mtu9000.pcapng"]
private let cpuCount = CPUSet.allowed().cpus.count

/// Which packets, how measured, on how many RQs.
struct Setting: CustomTestStringConvertible, Sendable {
    let packet: String
    let mode: BenchMode
    let rqs: Int
    var testDescription: String { "\(packet) \(mode.rawValue) rqs \(rqs)" }
    var isCapture: Bool { captures.contains(packet) }

    static let all = (["64", "1500", "9000", "imix"] + captures).flatMap { packet in
        BenchMode.allCases.flatMap { mode in
            [1, 2].filter { $0 <= cpuCount }.map { Setting(packet: packet, mode: mode, rqs: $0) }
        }
    }

    private var packetSpec: String {
        if !isCapture { return packet }
        return ReleaseProgram.root.appendingPathComponent("configs/captures/\(packet)").path
    }

    /// Every method, report and kind of buffers; the other axes change from case to case, so
    /// that the settings together have every pair of values.
    var cases: [BenchCase] {
        var cases: [BenchCase] = []
        var poll = Self.all.firstIndex { $0.testDescription == testDescription } ?? 0
        for buffers in isCapture ? [.mergeable] : BufferKind.allCases {
            for report in [nil] + HeaderReport.allCases {
                var one = BenchCase()
                (one.packet, one.rqs, one.ringSize, one.slots) = (packetSpec, rqs, 64, 256)
                one.buffers = buffers
                one.method = report == nil ? .whole : .d
                one.report = report ?? .usedLength
                one.hashReport = poll % 2 == 1
                one.consumer = PayloadConsumer.allCases[poll % 3]
                cases.append(one)
                poll += 1
            }
            poll += 1
        }
        return cases
    }
}

@Suite("Small benchmarks", .serialized)
struct RunTests {
    private func run(_ cases: [BenchCase], _ change: (inout BenchPlan) -> Void) throws
        -> BenchReport
    {
        var plan = BenchPlan()
        plan.cases = cases
        plan.repeats = 2
        plan.packetsPerRepeat = 40
        plan.sourcePackets = 24
        plan.verifyPackets = 24
        change(&plan)
        return try BenchRunner(plan).run { _ in }
    }

    @Test("Every byte is right and the counters add up", arguments: Setting.all)
    func matrix(_ setting: Setting) throws {
        let cases = setting.cases
        let report = try run(cases) { $0.mode = setting.mode }
        #expect(report.mode == (cpuCount > 1 ? setting.mode : .oneCore))
        #expect(report.results.map(\.benchCase) == cases)
        #expect(report.repeats == 2)
        for result in report.results {
            let one = result.benchCase
            let name: Comment = "\(one.displayName) hash \(one.hashReport) \(one.consumer)"
            #expect(result.verify.packets >= 24, name)
            #expect(result.verify.corrupt == 0 && result.verify.lost == 0, name)
            #expect(result.packets >= 80, name)
            #expect(result.dropped == [:], name)
            let fallback = result.fallback.values.reduce(0, +)
            if one.method == .whole {
                #expect(result.split == 0 && fallback == 0, name)
                #expect(result.memory.headerBytes == 0, name)
            } else {
                #expect(result.split + fallback == result.packets, name)
                #expect(result.memory.headerBytes == 256 * 128, name)
                // Two threads claim while one driver retires for both: slots may run out.
                let suffices = report.mode == .oneCore || setting.rqs == 1
                if suffices && !setting.isCapture { #expect(result.fallback == [:], name) }
                if suffices { #expect(result.fallback.keys.allSatisfy { $0 == "notSplittable" }) }
                #expect(result.split > 0, name)
            }
            #expect(result.mpps.median > 0 && result.gbps.median > 0, name)
            #expect(result.deviceCyclesPerPacket.min <= result.deviceCyclesPerPacket.max, name)
        }
    }

    @Test("Header memory: 256 buffers of 4 KiB and 256 slots of 128 bytes are 3.125 percent")
    func memory() throws {
        let report = try run([BenchCase()]) { _ in }
        let memory = report.results[0].memory
        #expect(memory.dataBytes == 256 * 4096 && memory.headerBytes == 256 * 128)
        #expect(memory.headerPercent == 3.125)
        #expect(BenchMemory().headerPercent == 0)
    }

    @Test("Two RQs with a header queue each hold twice the slots; shared, they do not")
    func sharing() throws {
        guard cpuCount > 1 else { return }
        var shared = BenchCase()
        shared.rqs = 2
        var own = shared
        own.sharedHeaderQueue = false
        let report = try run([shared, own]) { _ in }
        #expect(report.results.map(\.memory.headerBytes) == [256 * 128, 2 * 256 * 128])
        #expect(report.isVerified)
        #expect(report.results.allSatisfy { $0.split == $0.packets })
    }

    @Test("A ring smaller than a burst", arguments: BenchMode.allCases)
    func smallRing(_ mode: BenchMode) throws {
        var cases: [BenchCase] = []
        for (ringSize, packet) in [(1, "64"), (2, "1500"), (4, "9000")] {
            for method in RxMethod.Kind.allCases {
                var one = BenchCase()
                // With headers in a buffer of their own, a packet takes twice the descriptors or
                // more.
                let leads = [.a, .b, .c].contains(method)
                one.ringSize = leads ? 2 * ringSize : ringSize
                (one.packet, one.method, one.burst) = (packet, method, 32)
                cases.append(one)
            }
        }
        let report = try run(cases) { $0.mode = mode }
        #expect(report.results.allSatisfy { $0.packets >= 80 && $0.dropped == [:] })
        for result in report.results {
            #expect(result.verify.corrupt == 0 && result.verify.lost == 0)
        }
    }

    @Test("A packet of more buffers than the ring has is dropped, and the run ends")
    func tooManyBuffers() throws {
        // Two descriptors of method A are one buffer, and the device waits for another.
        for method in RxMethod.Kind.allCases where method != .a {
            var one = BenchCase()
            (one.ringSize, one.packet, one.method) = (2, "9000", method)
            let report = try run([one]) { _ in }
            let result = report.results[0]
            #expect(result.packets == 0 && result.split == 0)
            #expect(Array(result.dropped.keys) == ["tooManyBuffers"])
            #expect(result.dropped["tooManyBuffers", default: 0] >= 80)
            #expect(result.verify == Verification(packets: 0, corrupt: 0, lost: 0))
        }
    }

    @Test("Rates and cycles are of what was delivered", arguments: BenchMode.allCases)
    func deliveredRates(_ mode: BenchMode) throws {
        let small = try TrafficProfile.parse("154").packets(count: 1, flows: 1, seed: 1)[0]
        let capture = CaptureWriter(format: .pcap).encode([
            .init(bytes: small), .init(bytes: [UInt8](repeating: 0, count: 100_000)),
        ])
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString).pcap"
        defer { unlink(path) }
        try Data(capture).write(to: URL(fileURLWithPath: path))
        var one = BenchCase()
        one.packet = path
        let report = try run([one]) { ($0.mode, $0.profilePeriod) = (mode, 1) }
        let result = report.results[0]
        // The large frame is more than a virtio-net device may receive.
        #expect(result.dropped["tooLong", default: 0] > 0)
        let bits = result.gbps.median * 1000 / result.mpps.median
        #expect(abs(bits - 154 * 8) < 1e-6)
        #expect(result.passes.count == 2)
        for pass in result.passes {
            #expect(pass.packets > 0 && pass.bytes == UInt64(pass.packets * 154))
            #expect(abs((pass.gbps ?? 0) - Double(pass.bytes) * 8e-9 / pass.seconds) < 1e-9)
        }
        #expect(result.mpps == Spread(result.passes.map { $0.mpps ?? .nan }))
        // The bare copy is of all frames, so it is no limit of these.
        #expect(result.profile?.copyLimit == nil)
    }

    @Test("Where nothing is delivered, nothing has a cost per packet")
    func nothingDelivered() throws {
        var one = BenchCase()
        (one.ringSize, one.packet, one.method) = (2, "9000", .whole)
        let result = try run([one]) { _ in }.results[0]
        #expect(result.packets == 0 && result.mpps.median == 0 && result.gbps.median == 0)
        #expect(result.deviceCyclesPerPacket.median.isNaN)
        #expect(result.driverCyclesPerPacket.median.isNaN)
        #expect(result.bufferUse.descriptorsPerPacket.isNaN && result.bufferUse.wastedShare.isNaN)
        #expect(result.passes.allSatisfy { $0.deviceCyclesPerPacket == nil && $0.bytes == 0 })
    }

    @Test("Results say which build gave them, and when")
    func origin() throws {
        let report = try run([BenchCase()]) { _ in }
        let started = try #require(report.started)
        #expect(started.wholeMatch(of: /20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}Z/) != nil)
        let document = BenchDocument(report, command: [])
        let program = try #require(document.program)
        #expect(program.version.wholeMatch(of: /[0-9]+\.[0-9]+\.[0-9]+/) != nil)
        #expect(program.commit.map { $0.wholeMatch(of: /[0-9a-f]{40}/) != nil } ?? true)
        #expect((program.commit == nil) == (program.dirty == nil))
        #expect(program.traits == ["Profiling"])
        #expect(program.march?.isEmpty == false && program.configuration == "debug")
        #expect(report.warnings.contains { $0.contains("debug build") })
        #expect(document.started == started && document.runs[0].passes?.count == 2)
    }

    @Test("Threads on one CPU fall back to one core, and say so")
    func oneCPU() throws {
        let report = try run([BenchCase()]) {
            $0.mode = .threads
            $0.cpus = [CPUSet.allowed().cpus[0]]
        }
        #expect(report.mode == .oneCore)
        #expect(report.warnings.contains { $0.contains("measured on one core") })
    }

    @Test("Progress goes through every step of every case once")
    func progress() throws {
        final class Seen: @unchecked Sendable {
            // SAFETY: `run` calls from one thread and has joined it before anyone reads.
            var steps: [BenchProgress] = []
        }
        var plan = BenchPlan()
        plan.cases = [BenchCase(), BenchCase()]
        plan.cases[1].method = .whole
        (plan.repeats, plan.packetsPerRepeat, plan.sourcePackets) = (3, 50, 8)
        plan.verifyPackets = 8
        let seen = Seen()
        _ = try BenchRunner(plan).run { seen.steps.append($0) }
        #expect(seen.steps.map(\.done) == Array(0..<10))
        #expect(seen.steps.allSatisfy { $0.total == 10 })
        #expect(seen.steps.count { $0.phase == .measuring } == 6)
        #expect(Set(seen.steps.map(\.name)).count == 2)
    }

    @Test("Median, least and largest")
    func spread() {
        #expect(Spread([]) == nil)
        let odd = Spread([3, 1, 2])
        #expect(odd?.median == 2 && odd?.min == 1 && odd?.max == 3)
        #expect(Spread([4, 1, 2, 3])?.median == 2.5)
    }
}
