import CleaveBench
import CleaveTraffic
import CleaveVirtioNet
import Foundation
import Testing

@testable import cleave_bench

/// The built program as a user runs it.
@Suite("Program", .serialized)
struct ProgramTests {
    private static let small = [
        "--repeats", "1", "--packets", "2k", "--source-packets", "64", "--verify-packets", "64",
    ]

    @Test(
        "Wrong usage ends with 2 and one line that names what is wrong",
        arguments: [
            ("--bogus", "Unknown option '--bogus'"), ("bogus", "Unexpected argument 'bogus'"),
            ("--repeats", "Missing value for '--repeats"), ("--repeats 0", "repeats must be"),
            ("--slot-size 100", "header slot size 100"), ("--ring-size 300", "ring size 300"),
            ("--slots 0", "header slot count 0"), ("--slots=-4", "--slots: -4 is negative"),
            ("--cpus 8191", "CPU 8191"), ("--cpus x", "--cpus: CPU list"),
            ("--mode threads --rqs 64", "64 RQs need 64 CPUs"),
            ("--rqs 129", "129 RQs: need 1 to 128"),
            ("--rqs 0", "0 RQs: need 1 to 128"),
            ("--mode threads --rq-cpus 4095", "CPU 4095: does not exist"),
            ("--node 999", "NUMA node 999: does not exist"),
            ("--rqs 2 --sharing 0/0-1", "RQ 0 is listed twice"),
            ("--sharing x", "--sharing: \"x\" is not one of all, node, private"),
            ("--imbalance 101", "imbalance 101"), ("--idle nap", "--idle: \"nap\""),
            ("--indirection-size 3", "indirection table size 3"),
            ("--packet 64,,9", "a value is missing"),
            ("--packet /none.pcap", "/none.pcap: No such file"),
            ("--config /none.yaml", "/none.yaml: cannot open: No such file"),
            ("--json /none/a", "/none/a: cannot open for writing"),
            ("--json - --csv -", "--json and --csv both name -"),
            ("inspect", "Missing expected argument '<file>'"),
            ("inspect /none.pcap", "/none.pcap: cannot open"),
            ("inspect Package.swift", "Package.swift: byte 0: not a pcap"),
        ])
    func usage(line: String, expected: String) throws {
        let outcome = try Program.run(line.split(separator: " ").map(String.init))
        #expect(outcome.exitCode == 2)
        #expect(outcome.output == "")
        #expect(outcome.error.hasPrefix("cleave-bench: "))
        #expect(outcome.error.contains(expected), "\(outcome.error)")
        #expect(outcome.error.filter(\.isNewline).count == 1)
    }

    @Test("Help is no error, and shows every axis with an example")
    func help() throws {
        for arguments in [
            ["--help"], ["run", "--help"], ["help", "inspect"], ["list", "-h"],
            ["compare-methods", "--help"], ["claims", "--help"],
        ] {
            let outcome = try Program.run(arguments)
            #expect(outcome.exitCode == 0)
            #expect(outcome.error == "")
            #expect(outcome.output.hasPrefix("OVERVIEW: "))
        }
        let help = try Program.run(["run", "--help"]).output
        for name in Axis.allCases.map(\.rawValue) + Setting.allCases.map(\.rawValue) {
            #expect(help.contains("  --\(name) "), "\(name)")
            #expect(help.contains("--\(name) ") && help.contains("Example: --\(name)"), "\(name)")
        }
    }

    @Test("A run prints a table and fills its files; JSON on standard output stands alone")
    func run() throws {
        let scratch = try Scratch()
        let json = try scratch.file("a.json", [UInt8](repeating: 0x20, count: 1 << 16))
        let csv = "\(scratch.path)/a.csv"
        let axes = ["--packet", "64,configs/captures/linux-mtu1500.pcap", "--method", "whole,d"]
        let outcome = try Program.run(Self.small + axes + ["--json", json, "--csv", csv])
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.error == "")
        #expect(outcome.output.contains("\nlinux-mtu1500 d/usedLength mergeable  "))
        #expect(outcome.output.contains(": placed whole: notSplittable "))
        let object = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: json)))
        let runs = try #require((object as? [String: Any])?["runs"] as? [[String: Any]])
        #expect(runs.count == 4)
        for run in runs {
            let verify = try #require(run["verify"] as? [String: Int])
            #expect(verify["corrupt"] == 0)
            #expect(verify["lost"] == 0)
            #expect((verify["packets"] ?? 0) > 0)
        }
        let rows = try String(contentsOfFile: csv, encoding: .utf8).split(separator: "\n")
        #expect(rows.count == 5)

        let alone = try Program.run(Self.small + ["--packet", "64", "--json", "-"])
        #expect(alone.exitCode == 0)
        #expect(throws: Never.self) {
            _ = try JSONSerialization.jsonObject(with: Data(alone.output.utf8))
        }
    }

    @Test(
        "Asked to end, a run drains, prints its counters and says why", arguments: ["TERM", "INT"])
    func interrupted(_ signal: String) throws {
        let scratch = try Scratch()
        let json = "\(scratch.path)/a.json"
        // Far more passes than any test lasts. The signal goes out when there is a second thread,
        // which verifies and measures.
        let outcome = try Program.run(
            [],
            shell: """
                "$0" --repeats 1000000 --packets 2k --source-packets 64 --packet 64 \
                    --json '\(json)' & p=$!
                until [ "$(ls /proc/$p/task | wc -l)" -gt 1 ]; do kill -0 $p || break; done
                kill -\(signal) $p; wait $p
                """)
        #expect(outcome.exitCode == 1, "\(outcome.error)")
        #expect(outcome.error.contains("interrupted by SIG\(signal) after "))
        #expect(outcome.output.contains(" steps, drained; counters:\n"))
        #expect(outcome.output.contains("64 whole mergeable: packets "))
        let object = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: json)))
        let interrupted = (object as? [String: Any])?["interrupted"] as? String
        #expect(interrupted?.hasPrefix("interrupted by SIG\(signal)") == true)
    }

    @Test("Methods side by side: a table, JSON and a page of one run")
    func compare() throws {
        let scratch = try Scratch()
        let (json, html) = ("\(scratch.path)/a.json", "\(scratch.path)/a.html")
        let outcome = try Program.run(
            ["compare-methods", "--packet", "64,1500", "--json", json, "--html", html]
                + Self.small)
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains("\n64 B\n  Mpps "))
        #expect(outcome.output.contains("\n1500 B\n  Mpps "))
        let object = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: json)))
        let runs = try #require((object as? [String: Any])?["runs"] as? [[String: Any]])
        #expect(runs.count == 2 * 2 * (RxMethod.Kind.allCases.count + 1))
        #expect(Set(runs.compactMap { $0["ring"] as? String }) == ["split", "packed"])
        let page = try String(contentsOfFile: html, encoding: .utf8)
        #expect(page.contains("compare-methods --packet 64,1500"))
        let same = try Program.run(["compare-methods", "--html", json, "--json", json])
        #expect(same.exitCode == 2)
        #expect(same.error.contains("--json and --html both name"))
    }

    @Test("Claims are measured and judged, for people and as JSON")
    func claims() throws {
        let scratch = try Scratch()
        let json = "\(scratch.path)/a.json"
        let outcome = try Program.run(["claims", "--json", json] + Self.small)
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains(" of 9 claims hold"))
        let object = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: json)))
        let claims = try #require((object as? [String: Any])?["claims"] as? [[String: Any]])
        #expect(claims.compactMap { $0["id"] as? Int } == Array(1...9))
        // Claims that depend on no clock hold on any machine, in any build.
        for claim in claims where ![1, 3].contains(claim["id"] as? Int) {
            #expect(claim["holds"] as? Bool == true, "\(claim)")
        }
    }

    @Test("A file that could not be filled is not left behind")
    func noEmptyFile() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/a.json"
        #expect(try Program.run(["--cpus", "8191", "--json", path]).exitCode == 2)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("Far from its package the program still finds the default configuration")
    func elsewhere() throws {
        let scratch = try Scratch()
        let outcome = try Program.run(["list"], directory: scratch.path)
        #expect(outcome.exitCode == 0)
        #expect(outcome.output.contains("linux-mtu9000 d/usedLength mergeable"))
        let copy = "\(scratch.path)/cleave-bench"
        try FileManager.default.copyItem(atPath: Program.path, toPath: copy)
        let lone = try Program.run([], directory: scratch.path, shell: "exec ./cleave-bench list")
        #expect(lone.exitCode == 0)
        #expect(lone.output.hasPrefix("warning: configs/bench/default.yaml is neither"))
        #expect(lone.output.contains("imix d/usedLength mergeable"))
    }

    @Test("Machine facts, for people and as JSON")
    func machine() throws {
        let outcome = try Program.run(["machine", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
        #expect((object as? [String: Any])?["machine"] is [String: Any])
        #expect(try Program.run(["machine"]).output.hasPrefix("cpu      "))
    }

    @Test("Inspect tells header lengths and reasons, and what the capture cut")
    func inspect() throws {
        let scratch = try Scratch()
        let frames = try TrafficProfile.parse("200").packets(count: 1, flows: 1, seed: 1)
        var arp = [UInt8](repeating: 0, count: 42)
        arp[12] = 0x08
        arp[13] = 0x06
        let bytes = CaptureWriter(format: .pcap).encode([
            .init(bytes: frames[0]), .init(bytes: arp),
            .init(bytes: Array(frames[0].prefix(40)), originalByteCount: 200),
            .init(bytes: []),
        ])
        let path = try scratch.file("a.pcap", bytes)
        let lines = try Program.run(["inspect", "--json", path]).output
        #expect(
            lines == """
                {"index": 0, "length": 200, "headerLength": 54, "reason": null}
                {"index": 1, "length": 42, "headerLength": null, "reason": "notIP"}
                {"index": 2, "length": 40, "headerLength": null, "reason": "badIPv4"}
                {"index": 3, "length": 0, "headerLength": null, "reason": "truncated"}

                """)
        #expect(
            try Program.run(["inspect", path]).output == """
                 index  length  header  reason
                     0     200      54  -
                     1      42       -  notIP
                     2      40       -  badIPv4  (cut by the capture; 200 on the wire)
                     3       0       -  truncated
                4 packets: 1 splittable (25.0 %), 3 not: badIPv4 1, notIP 1, truncated 1; \
                1 cut by the capture's snap length

                """)
    }

    @Test("A reader that goes away ends the program without a word")
    func closedOutput() throws {
        let scratch = try Scratch()
        let packet = CaptureFile.Packet(bytes: [UInt8](repeating: 0, count: 60))
        let capture = CaptureWriter(format: .pcap).encode(Array(repeating: packet, count: 20_000))
        let path = try scratch.file("a.pcap", capture)
        let outcome = try Program.run(
            [], shell: "\"$0\" inspect '\(path)' | head -1; exit ${PIPESTATUS[0]}")
        #expect(outcome.exitCode == 0)
        #expect(outcome.error == "")
        #expect(outcome.output == " index  length  header  reason\n")
        let full = try Program.run([], shell: "\"$0\" inspect '\(path)' > /dev/full")
        #expect(full.exitCode == 1)
        #expect(full.error.contains("standard output: cannot write: No space left"))
    }
}
