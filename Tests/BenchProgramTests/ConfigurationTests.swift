import CleaveBench
import CleaveProgramSupport
import CleaveTraffic
import Foundation
import Testing

@testable import cleave_bench

@Suite("Configurations")
struct ConfigurationTests {
    private func message(_ text: String) -> String {
        message(Array(text.utf8))
    }

    private func message(_ bytes: [UInt8]) -> String {
        do {
            let configuration = try ConfigurationReader.parse(bytes, file: "f", directory: "")
            _ = try configuration.cases()
            return "no error"
        } catch {
            #expect(error.exitCode == 2)
            return error.description
        }
    }

    @Test("Every committed configuration makes a plan")
    func committed() throws {
        let folder = packageRoot + "/configs/bench"
        let names = try FileManager.default.contentsOfDirectory(atPath: folder)
            .filter { $0.hasSuffix(".yaml") }
        #expect(Set(names).isSuperset(of: ["default.yaml", "bars.yaml", "imix.yaml"]))
        for name in names {
            let request = PlanRequest(configurationPath: "\(folder)/\(name)")
            let (plan, warnings) = try PlanBuilder.plan(request)
            #expect(warnings.isEmpty)
            #expect(plan.cases.count >= 4, "\(name)")
            #expect(Set(plan.cases.map(\.name)).count == plan.cases.count, "\(name)")
        }
    }

    @Test("Built-in configurations are those of the files without captures", arguments: 0..<5)
    func builtIn(_ index: Int) throws {
        let standard = [DefaultConfiguration.bench, .methods, .scale, .latency, .profile][index]
        let builtIn = try standard.readBuiltIn()
        let file = try ConfigurationReader.read(path: "\(packageRoot)/\(standard.relativePath)")
        let generated = try file.cases().filter { (try? TrafficProfile.parse($0.packet)) != nil }
        #expect(try builtIn.cases() == generated)
        // Two captures: each with two cases, or with all methods on both rings.
        #expect(try file.cases().count == generated.count + [4, 24, 0, 0, 0][index])
        #expect(file.plan.repeats == builtIn.plan.repeats)
        #expect(file.plan.latency == builtIn.plan.latency)
    }

    @Test("Latency has keys of its own; a mistake is found at its place")
    func latency() throws {
        let text = """
            preempt: true
            latency: {loads: [5, 50%], arrivals: poisson, pass-time: 7, tolerance: 3}
            cases: [{packet: 64}]
            """
        let plan = try ConfigurationReader.parse(Array(text.utf8), file: "f", directory: "").plan
        #expect(plan.preempts && plan.latency.loads == [5, 50])
        #expect(plan.latency.arrivals == .poisson && plan.latency.passMilliseconds == 7)
        #expect(plan.latency.tolerancePercent == 3)
        let rest = "\ncases: [{packet: 64}]"
        for (line, words) in [
            ("latency: {load: 5}", "f:1:11: unknown key \"load\"; did you mean loads?"),
            ("latency: {loads: [5, x]}", "f:1:11: loads: \"x\" is not a whole number"),
            ("latency: {loads: ['5']}", "f:1:11: loads: \"5\" in quotes"),
            ("latency: {arrivals: [fixed, poisson]}", "f:1:11: arrivals: 2 values where one is"),
            ("latency: {arrivals: bursts}", "f:1:11: arrivals: \"bursts\" is not one of fixed"),
            ("latency: 5", "f:1:10: latency: expected keys with values"),
            ("preempt: sometimes", "f:1:1: preempt: \"sometimes\" is neither true nor false"),
        ] { #expect(message(line + rest).hasPrefix(words), "\(message(line + rest))") }
    }

    @Test("Settings and axes arrive in the plan; case values replace defaults")
    func values() throws {
        let text = """
            mode: threads
            repeats: 3
            packets: 2k
            source-packets: 100
            verify-packets: 300
            flows: 7
            cpus: 0-1
            defaults: {ring-size: 64, burst: 8, consumer: copy}
            cases:
              - {name: mine, packet: 1500, method: d, report: netHeader, buffers: chained, burst: 4,
                 rqs: 2, slot-size: 256, slots: 1k, buffer-size: 2k, private-header-queues: true,
                 hash-report: yes}
            """
        let configuration = try ConfigurationReader.parse(
            Array(text.utf8), file: "f", directory: "")
        var expected = BenchCase()
        expected.name = "mine"
        expected.packet = "1500"
        expected.report = .netHeader
        expected.buffers = .chained
        expected.ringSize = 64
        expected.burst = 4
        expected.rqs = 2
        expected.slotSize = 256
        expected.slots = 1024
        expected.bufferByteCount = 2048
        expected.sharedHeaderQueue = false
        expected.hashReport = true
        expected.consumer = .copy
        #expect(try configuration.cases() == [expected])
        #expect(configuration.plan.mode == .threads)
        #expect(configuration.plan.repeats == 3)
        #expect(configuration.plan.packetsPerRepeat == 2000)
        #expect(configuration.plan.sourcePackets == 100)
        #expect(configuration.plan.verifyPackets == 300)
        #expect(configuration.plan.flows == 7)
        #expect(configuration.plan.cpus == [0, 1])
    }

    @Test(
        "A mistake is named with file, line and column",
        arguments: [
            ("repeat: 3\ncases: []", "f:1:1: unknown key \"repeat\"; did you mean repeats?"),
            ("cases:\n  - {packet: 64,\n     ringsize: 4}", "f:3:6: unknown key \"ringsize\"; did"),
            ("cases:\n  - xyz: 4", "f:2:5: unknown key \"xyz\" (known here: name, packet, method"),
            ("defaults:\n  name: a\ncases: [{}]", "f:2:3: unknown key \"name\""),
            ("repeats: 3\nrepeats: 4\ncases: [{}]", "the same key again in one mapping: \"repea"),
            ("cases:\n- burst: 4\n  burst: 5", "f:2:3: the same key again"),
            ("repeats: many\ncases: [{}]", "f:1:1: repeats: \"many\" is not a whole number"),
            ("repeats: -3\ncases: [{}]", "f:1:1: repeats: -3 is negative"),
            ("repeats: [3]\ncases: [{}]", "f:1:1: repeats: expected a single value"),
            ("repeats:\ncases: [{}]", "f:1:1: repeats: has no value"),
            ("cases:\n- burst: \"4\"", "f:2:10: burst: \"4\" in quotes is not a whole number"),
            ("cases:\n- burst: [4, 5x]", "f:2:14: burst: \"5x\" is not a whole number"),
            ("cases:\n- burst: 4.5", "f:2:10: burst: \"4.5\" is not a whole number"),
            ("cases:\n- burst: 99999999999999999999", "f:2:10: burst: 9999"),
            ("cases:\n- burst: []", "f:2:3: burst: the list is empty"),
            ("cases:\n- burst: [[1]]", "f:2:11: burst: expected a single value"),
            ("cases:\n- burst: {a: 1}", "f:2:10: burst: expected a single value"),
            ("cases:\n- hash-report: maybe", "\"maybe\" is neither true nor false"),
            ("cases:\n- method: wohle", "\"wohle\" is not one of whole, a, b, c, d; did you"),
            ("cases:\n- packet: nine", "f:2:11: packet: traffic profile \"nine\""),
            ("cases:\n- packet: ../a.pcap", "f:2:11: packet: cannot open capture ../a.pcap: No"),
            ("cases:\n- packet: /", "f:2:11: packet: / is not a regular file"),
            ("cases:\n- name: \"a\\tb\"", "f:2:3: name: contains a control character"),
            ("cpus: 1-\ncases: [{}]", "f:1:1: cpus: CPU list \"1-\": expected a CPU number"),
            ("cases: 4", "f:1:8: cases: expected a list"),
            ("cases: []", "f:1:8: cases: the list is empty"),
            ("cases: [4]", "f:1:9: a case: expected keys with values"),
            ("[1, 2]", "f:1:1: the configuration: expected keys with values"),
            ("[1]: 2\ncases: [{}]", "f:1:1: the configuration: a key must be a word"),
            ("mode: one-core", "f: no key \"cases\""),
            ("", "f:1: the configuration is empty"),
            ("# nothing\n", "f:1: the configuration is empty"),
            ("cases: [\n", "f:2:1: YAML:"),
            ("a: b: c", "f:1:5: YAML:"),
            ("cases: [{}]\n---\ncases: [{}]", "f:2:1: YAML:"),
            ("cases: [{}]\nmode: *a", "f:2:7: YAML:"),
        ])
    func mistakes(text: String, expected: String) {
        let message = message(text)
        #expect(message.contains(expected), "\(message)")
        #expect(message.hasPrefix("f:"))
        #expect(!message.contains("\n"))
    }

    @Test("Bytes that are no text, and nesting without end")
    func bytes() {
        #expect(
            message([0xef, 0xbb, 0xbf] + Array("cases: [{}]".utf8)).contains("byte order mark"))
        #expect(message(Array("a: 1\nb: ".utf8) + [0xff]).hasPrefix("f:2: not UTF-8"))
        #expect(message(Array("a: 1\nb: \0".utf8)).hasPrefix("f:2: YAML: control characters"))
        #expect(message(String(repeating: "[", count: 100_000)).hasPrefix("f:"))
        #expect(message(String(repeating: "- ", count: 100_000)).hasPrefix("f:"))
    }

    @Test("Files that are missing, too large, or folders")
    func files() throws {
        let scratch = try Scratch()
        let large = try scratch.file(
            "large.yaml", [UInt8](repeating: 0x23, count: YAMLFile.maximumByteCount + 1))
        for (path, expected) in [
            ("\(scratch.path)/none.yaml", "cannot open: No such file or directory"),
            (scratch.path, "not a regular file"), (large, "too large for a configuration"),
        ] {
            let error = #expect(throws: Failure.self) {
                _ = try ConfigurationReader.read(path: path)
            }
            #expect(error?.description.hasPrefix("\(path): ") == true)
            #expect(error?.description.contains(expected) == true, "\(String(describing: error))")
        }
    }

    @Test("Captures are named relative to the file")
    func relativeCaptures() throws {
        let scratch = try Scratch()
        let capture = try scratch.file("one.pcap", [1])
        let file = try scratch.file("c.yaml", Array("cases: [{packet: one.pcap}]".utf8))
        let configuration = try ConfigurationReader.read(path: file)
        #expect(try configuration.cases().map(\.packet) == [capture])
    }
}
