import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet
import Testing

@testable import cleave_bench

@Suite("Plans")
struct PlanTests {
    private func request(_ axes: [Axis: [String]]) -> PlanRequest { PlanRequest(axes: axes) }

    @Test("Axes alone multiply, the packet varying slowest; whole has no report to vary")
    func product() throws {
        let (plan, _) = try PlanBuilder.plan(
            request([
                .packet: ["64", "1500"], .method: ["whole", "d"],
                .report: ["usedLength", "netHeader"], .slotSize: ["128", "256"],
            ]))
        #expect(
            plan.cases.map(\.name) == [
                "64 whole mergeable", "64 d/usedLength mergeable slot 128",
                "64 d/usedLength mergeable slot 256", "64 d/netHeader mergeable slot 128",
                "64 d/netHeader mergeable slot 256", "1500 whole mergeable",
                "1500 d/usedLength mergeable slot 128", "1500 d/usedLength mergeable slot 256",
                "1500 d/netHeader mergeable slot 128", "1500 d/netHeader mergeable slot 256",
            ])
    }

    @Test("Each axis's flag fills that axis and no other", arguments: Axis.allCases)
    func flag(axis: Axis) throws {
        let options = try AxisOptions.parse(["--\(axis.rawValue)=x,y"])
        #expect(try options.values() == [axis: ["x", "y"]])
    }

    @Test("The older spelling of --sharing")
    func privateHeaderQueues() throws {
        let options = try AxisOptions.parse(["--private-header-queues", "false,true"])
        #expect(try options.values() == [.sharing: ["all", "private"]])
        let wrong = try AxisOptions.parse(["--private-header-queues=no,maybe"])
        let failure = #expect(throws: Failure.self) { try wrong.values() }
        #expect(failure?.description.contains("--private-header-queues: \"maybe\"") == true)
    }

    @Test("Every combination is there once, for every axis at once")
    func allAxes() throws {
        let (plan, _) = try PlanBuilder.plan(
            request([
                .method: ["d"], .buffers: ["mergeable", "chained"], .ringSize: ["64", "256"],
                .burst: ["8", "32"], .rqs: ["1", "2"], .slots: ["64", "256"],
                .bufferSize: ["2k", "4k"], .sharing: ["all", "private"],
                .hashReport: ["no", "yes"], .consumer: ["none", "copy", "take", "none"],
            ]))
        #expect(plan.cases.count == 256 * 3)
        #expect(Set(plan.cases.map(\.name)).count == plan.cases.count)
        #expect(plan.cases.map(\.bufferByteCount).allSatisfy { [2048, 4096].contains($0) })
    }

    @Test("One axis alone compares whole and D")
    func defaults() throws {
        let (plan, _) = try PlanBuilder.plan(request([.ringSize: ["128"]]))
        #expect(plan.cases.map(\.method) == [.whole, .d])
        #expect(plan.cases.allSatisfy { $0.ringSize == 128 && $0.packet == "64" })
    }

    @Test("Flags replace an axis in every case of a configuration, and names that it made untrue")
    func override() throws {
        let scratch = try Scratch()
        let path = try scratch.file(
            "c.yaml",
            Array(
                """
                repeats: 7
                cases:
                  - {name: small, packet: 64, burst: 16}
                  - {name: large, packet: 1500, burst: 32}
                  - {packet: 1500, burst: 8}
                """.utf8))
        var request = request([.burst: ["16"]])
        request.configurationPath = path
        let (plan, _) = try PlanBuilder.plan(request)
        // The last two have become the same case.
        #expect(plan.cases.map(\.name) == ["small", "1500 d/usedLength mergeable"])
        #expect(plan.cases.map(\.burst) == [16, 16])
        #expect(plan.repeats == 7)
        request.isQuick = true
        #expect(try PlanBuilder.plan(request).0.repeats == PlanBuilder.quick.repeats)
        request.settings = [(.repeats, "5"), (.packets, "1M")]
        let quick = try PlanBuilder.plan(request).0
        #expect(quick.repeats == 5)
        #expect(quick.packetsPerRepeat == 1_000_000)
    }

    @Test("Twins that a user names apart are both run; the same name twice is numbered")
    func twins() {
        var one = BenchCase()
        one.name = "a"
        var other = one
        other.name = "b"
        #expect(CaseProduct.unique([one, other, one]).map(\.name) == ["a", "b"])
        #expect(CaseNames.assign(to: [one, one]).map(\.name) == ["a #1", "a #2"])
        other.name = "a"
        other.burst = 4
        #expect(CaseNames.assign(to: [one, other]).map(\.name) == ["a burst 32", "a burst 4"])
    }

    @Test(
        "What cannot be is refused in one line",
        arguments: [
            (Axis.slotSize, "100", "header slot size 100 is not a power of two"),
            (.slots, "0", "header slot count 0 is not a power of two"),
            (.ringSize, "300", "ring size 300 is not a power of two"),
            (.burst, "0", "burst 0 is not between 1 and"),
            (.rqs, "129", "129 RQs: need 1 to 128"),
            (.bufferSize, "100", "buffer size 100 is not a multiple of 64"),
            (.bufferSize, "9999999999G", "--buffer-size: 9999999999G is more than"),
            (.method, "x", "--method: \"x\" is not one of whole, a, b, c, d"),
            (.report, "usedElement", "--report: \"usedElement\" is gone: usedLength"),
            (.ring, "packd", "--ring: \"packd\" is not "),
            (.packet, "30", "--packet: traffic profile \"30\": frame size 30"),
            (.hashReport, "", "--hash-report: \"\" is neither true nor false"),
        ])
    func refused(axis: Axis, value: String, expected: String) {
        let error = #expect(throws: Failure.self) {
            _ = try PlanBuilder.plan(request([axis: [value]]))
        }
        #expect(error?.exitCode == 2)
        #expect(error?.description.contains(expected) == true, "\(String(describing: error))")
    }

    @Test("A comparison leaves out what cannot be, and says so; a run refuses it")
    func contradictions() throws {
        var request = request([
            .method: ["whole", "b", "c"], .buffers: ["mergeable", "chained"], .packet: ["64"],
        ])
        #expect(throws: Failure.self) { _ = try PlanBuilder.plan(request) }
        request.leavesOutContradictions = true
        let (plan, warnings) = try PlanBuilder.plan(request)
        #expect(
            plan.cases.map(\.name) == [
                "64 whole mergeable", "64 whole chained", "64 b mergeable", "64 c mergeable",
            ])
        #expect(
            warnings == [
                "left out (1 case): method b needs mergeable buffers, not chained",
                "left out (1 case): method c needs mergeable buffers, not chained",
            ])
        request.axes[.method] = ["b"]
        request.axes[.buffers] = ["chained"]
        let error = #expect(throws: Failure.self) { _ = try PlanBuilder.plan(request) }
        #expect(error?.description.contains("method b needs mergeable buffers") == true)
    }

    @Test("Axes of a comparison replace those of its configuration, with every method")
    func comparison() throws {
        var request = request([.packet: ["1500"]])
        request.standard = .methods
        request.startsFromStandard = true
        let (plan, _) = try PlanBuilder.plan(request)
        #expect(plan.cases.count == 2 * (RxMethod.Kind.allCases.count + 1))
        #expect(Set(plan.cases.map(\.method)) == Set(RxMethod.Kind.allCases))
        #expect(plan.cases.allSatisfy { $0.packet == "1500" })
    }

    @Test("A product without end is refused before it is made")
    func tooMany() {
        let values = (1...300).map(String.init)
        let error = #expect(throws: Failure.self) {
            _ = try PlanBuilder.plan(request([.burst: values, .slots: values]))
        }
        #expect(error?.description == "--slots: more than 10000 cases")
    }
}
