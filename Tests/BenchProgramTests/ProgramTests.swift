import ArgumentParser
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

    @Test("No line of any command's help is wider than 80 columns")
    func helpWidth() {
        func all(_ command: any ParsableCommand.Type) -> [any ParsableCommand.Type] {
            [command] + command.configuration.subcommands.flatMap(all)
        }
        let commands = all(BenchProgram.self)
        #expect(commands.count > 13)
        for command in commands {
            let help = BenchProgram.helpMessage(for: command, columns: 80)
            #expect(help.contains("USAGE: cleave-bench"))
            for line in help.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        }
    }

    @Test("Exit codes of the help, of README and of the documentation's page are the same")
    func exitCodes() throws {
        let help = BenchProgram.helpMessage(for: BenchProgram.self, columns: 1000)
        for file in ["README.md", "Sources/CleaveEngine/Cleave.docc/RunningOnAHost.md"] {
            let page = try String(contentsOfFile: packageRoot + "/" + file, encoding: .utf8)
            for code in ["0", "1", "2", "3", "130, 143"] {
                #expect(page.contains("\n| \(code) |"), "\(file): \(code)")
            }
        }
        for words in ["0 done; 1 ", "; 2 wrong ", "; 3 compare", "; 130 or 143 ended by"] {
            #expect(help.contains(words), "\(help)")
        }
    }

    @Test(
        "Wrong usage ends with 2 and one line that names what is wrong",
        arguments: [
            ("--bogus", "Unknown option '--bogus'"),
            ("claim --quick", "unknown command \"claim\"; did you mean claims? (known here: run, "),
            ("bogus", "unknown command \"bogus\" (known here: run, compare-methods, "),
            ("profile dif a b", "unknown command \"dif\"; did you mean diff? (known here: run, "),
            ("--quick bogus", "Unexpected argument 'bogus'"),
            ("inspect x --limit -1", "--limit -1: is negative"),
            ("inspect x --slot-size x", "--slot-size <bytes>: \"x\" is not a number"),
            ("--repeats", "Missing value for '--repeats"),
            ("--repeats 0", "--repeats: 0: need at least 1"),
            ("--slot-size 100", "--slot-size 100: header slot size 100"),
            ("--ring-size 64,300", "--ring-size 300: "),
            ("--method b,d --buffers chained", "--method b --buffers chained: method b needs"),
            ("--method whole --slot-return ring", "--slot-return is for method d, and no case"),
            ("--method a --report netHeader", "--report is for method d"),
            ("--sharing private", "--sharing is for method d with several RQs"),
            ("--imbalance 50", "--imbalance is for several RQs"),
            ("--align-payload", "--align-payload is for method d with report netHeader"),
            ("--buffers single --buffer-size 2k", "--buffer-size is for mergeable or chained"),
            ("scale --mode cores", "--mode: scale measures in every mode"),
            ("scale --stall-only --packet 64", "--stall-only measures"),
            ("latency --packets 1k", "--packets: a load is offered by the clock"),
            ("--latency --idle park", "--idle: a load is offered by the clock"),
            ("latency --loads 0", "--loads: 0 is not between 1 and 100"),
            ("latency --loads 5,,9", "--loads: \"\" is not a whole number"),
            ("latency --arrivals x", "--arrivals: \"x\" is not one of fixed, poisson"),
            ("latency --hgrm /none/a", "--hgrm: cannot make /none/a: No such file"),
            ("latency --hgrm Package.swift", "--hgrm: Package.swift is no folder"),
            ("--preempt=x", "--preempt: \"x\" is neither true nor false"),
            ("--slots 0", "header slot count 0"), ("--slots=-4", "--slots: -4 is negative"),
            ("--cpus 8191", "--cpus: CPU 8191"), ("--cpus x", "--cpus: CPU list"),
            ("--mode threads --rqs 64", "--rqs: 64 RQs need 64 CPUs"),
            ("--rqs 129", "129 RQs: need 1 to 128"),
            ("--rqs 0", "0 RQs: need 1 to 128"),
            ("--mode threads --rq-cpus 4095", "--rq-cpus: CPU 4095: does not exist"),
            ("--node 999", "--node: NUMA node 999: does not exist"),
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
            ("inspect --slot-size 65 -", "--slot-size: header slot size 65"),
            ("inspect --limit=-1 -", "--limit: -1 is negative"),
            ("inspect --report netHeader -", "--report: makes a difference with --slot-size only"),
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
            ["compare-methods", "--help"], ["claims", "--help"], ["latency", "--help"],
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
                kill -\(signal) $p; kill -\(signal) $p; wait $p
                """)
        #expect(outcome.exitCode == (signal == "INT" ? 130 : 143), "\(outcome.error)")
        #expect(outcome.error.hasPrefix("cleave-bench: interrupted by SIG\(signal) "))
        #expect(outcome.error.filter(\.isNewline).count == 1)
        #expect(!outcome.error.contains(" 0 of "))
        #expect(outcome.output.contains("64 whole mergeable: packets "))
        // The table comes last, so that a terminal shows it.
        let last = try #require(outcome.output.split(separator: "\n").last)
        #expect(last.hasPrefix("64 ") || last.contains("packets/bad"), "\(last)")
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

    @Test("Asked to end before anything was measured, it says so")
    func interruptedEarly() throws {
        // While the cases are built: there is one thread, and the progress of nothing.
        let outcome = try Program.run(
            [],
            shell: """
                "$0" claims --json - & p=$!
                until grep -q '^SigCgt:.*[4-7c-f][0-9a-f]\\{3\\}$' "/proc/$p/status"; do
                    kill -0 $p || break; done
                kill -TERM $p; wait $p
                """)
        #expect(outcome.exitCode == 143, "\(outcome.error)")
        #expect(
            outcome.error.contains("interrupted by SIGTERM before anything was measured")
                || outcome.error.contains("interrupted by SIGTERM after "))
        #expect(!outcome.error.contains(" 0 of "))
    }

    @Test("Its version names the build: commit, changes, traits, processors")
    func version() throws {
        let makefile = try String(contentsOfFile: "\(packageRoot)/Makefile", encoding: .utf8)
        let number = try #require(makefile.firstMatch(of: /VERSION := ([0-9.]+)/)).1
        let line = try Program.run(["--version"]).output
        #expect(
            line.wholeMatch(
                of: /cleave-bench ([0-9.]+) \(commit [0-9a-z]+( with changes)?\), debug, .*\n/
            )?.1 == number, "\(line)")
    }

    @Test("claims --strict: a claim that does not hold ends with 3")
    func strict() throws {
        let outcome = try Program.run(["claims", "--strict", "--quiet"] + Self.small)
        let holdsAll = outcome.output.contains("9 of 9 claims hold")
        #expect(outcome.exitCode == (holdsAll ? 0 : 3), "\(outcome.error)")
        #expect(outcome.error.isEmpty == holdsAll)
        if !holdsAll { #expect(outcome.error.contains("claims that do not hold: ")) }
    }

    @Test("Settings that change nothing are named in a warning")
    func unusedSettings() throws {
        let outcome = try Program.run(
            Self.small + [
                "--packet", "64", "--idle", "park", "--park-after", "9", "--indirection-size", "8",
            ])
        #expect(outcome.exitCode == 0)
        for flag in ["--idle", "--park-after", "--indirection-size"] {
            #expect(outcome.output.contains("warning: \(flag) changes nothing: "), "\(flag)")
        }
    }

    @Test("A terminal's width is obeyed", arguments: [80, 120, 200])
    func width(_ columns: Int) throws {
        let line =
            "--packet 64,imix,1500 --method whole,a,d --consumer copy "
            + Self.small
            .joined(separator: " ")
        for command in ["run \(line)", "list \(line)", "machine", "scale --rqs 1 \(line)"] {
            let outcome = try Program.run(
                [], shell: "COLUMNS=\(columns) exec \"$0\" \(command)")
            #expect(outcome.exitCode == 0, "\(outcome.error)")
            for line in outcome.output.split(separator: "\n") {
                #expect(line.count <= columns, "\(command): \(line)")
            }
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
        // As `make install` leaves it: with its configurations, and the captures that they name.
        let installed = try Program.run(
            [], directory: scratch.path,
            shell: """
                mkdir -p usr/bin usr/share/cleave && cp cleave-bench usr/bin/ &&
                cp -r '\(packageRoot)/configs' usr/share/cleave/ && cd / &&
                exec "$OLDPWD/usr/bin/cleave-bench" list
                """)
        #expect(installed.exitCode == 0, "\(installed.error)")
        #expect(!installed.output.contains("warning"))
        #expect(installed.output.contains("linux-mtu9000 d/usedLength mergeable"))
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
                4 packets: 1 splittable (25.0 %), 3 not
                     1   25.0 %  badIPv4: IPv4 of a wrong version, header length or total length
                     1   25.0 %  notIP: neither IPv4 nor IPv6
                     1   25.0 %  truncated: ends inside its headers
                1 cut by the capture's snap length

                 index  length  header  reason
                     0     200      54  -
                     1      42       -  notIP
                     2      40       -  badIPv4  (cut by the capture; 200 on the wire)
                     3       0       -  truncated

                """)
    }

    @Test("Inspect lists what was asked for, the summary is of all")
    func inspectLists() throws {
        let scratch = try Scratch()
        let frames = try TrafficProfile.parse("200/tcp4").packets(count: 3, flows: 1, seed: 1)
        var six = try TrafficProfile.parse("200/udp6").packets(count: 1, flows: 1, seed: 1)[0]
        var four = frames[0]
        // As at a sender that leaves segmentation to its card.
        for offset in 16...17 { four[offset] = 0 }
        for offset in 18...19 { six[offset] = 0 }
        let packets = frames.dropFirst() + [four, six, four]
        let path = try scratch.file(
            "a.pcap", CaptureWriter(format: .pcapng).encode(packets.map { .init(bytes: $0) }))
        let head = """
            5 packets: 3 splittable (60.0 %), 2 not
                 2   40.0 %  badIPv4: IPv4 of a wrong version, header length or total length
                             2 of them with total length 0, as at a sender whose card
                             segments (TSO); payload length 0 of IPv6 is no obstacle

             index  length  header  reason

            """
        #expect(
            try Program.run(["inspect", "--unsplit", "--limit", "1", path]).output
                == head + "     2     200       -  badIPv4\n1 more\n")
        let none = try Program.run(["inspect", "--limit", "0", path]).output
        #expect(none.hasSuffix("is no obstacle\n5 more\n"))
        let lines = try Program.run(["inspect", "--json", "--unsplit", "--slot-size", "64", path])
        #expect(
            lines.output == """
                {"index": 0, "length": 200, "headerLength": 54, "reason": "headerTooLong"}
                {"index": 1, "length": 200, "headerLength": 54, "reason": "headerTooLong"}
                {"index": 2, "length": 200, "headerLength": null, "reason": "badIPv4"}
                {"index": 3, "length": 200, "headerLength": 62, "reason": "headerTooLong"}
                {"index": 4, "length": 200, "headerLength": null, "reason": "badIPv4"}

                """)
        // 54 bytes and the virtio-net header are more than 64; without it all fit.
        let own = try Program.run(
            ["inspect", "--unsplit", "--slot-size", "64", "--report", "netHeader", path]).output
        #expect(own.hasPrefix("5 packets: 3 splittable (60.0 %), 2 not\n"))
        let wide = try Program.run(["inspect", "--slot-size", "64", path]).output
        #expect(
            wide.hasPrefix(
                """
                5 packets: 0 splittable (0.0 %), 5 not
                     3   60.0 %  headerTooLong: headers are longer than a slot has room for

                """))
        #expect(wide.split(separator: "\n").allSatisfy { $0.count <= 80 })
    }

    @Test("Inspect takes captures that hold nothing, end early, come by a pipe or declare checks")
    func inspectCaptures() throws {
        let scratch = try Scratch()
        let frame = try TrafficProfile.parse("154").packets(count: 1, flows: 1, seed: 1)[0]
        let whole = CaptureWriter(format: .pcap).encode([.init(bytes: frame), .init(bytes: frame)])
        let empty = try Program.run(["inspect", try scratch.file("empty", whole.prefix(24))])
        #expect(empty.exitCode == 0 && empty.output == "no packets\n" && empty.error == "")
        let path = try scratch.file("cut", whole.dropLast(20))
        let cut = try Program.run(["inspect", path])
        #expect(cut.exitCode == 0)
        #expect(cut.output.hasPrefix("1 packet: 1 splittable (100.0 %), 0 not\n"))
        #expect(
            cut.error
                == "warning: \(path): packet 1 at byte 194: the file ends inside the packet: 134 "
                + "of 154 bytes; the packets before it were read\n")
        // A pipe, which cannot be gone back in, by its standard name and by a path.
        let file = try scratch.file("whole", whole)
        for shell in ["cat '\(file)' | \"$0\" inspect -", "\"$0\" inspect <(cat '\(file)')"] {
            let piped = try Program.run([], shell: shell)
            #expect(piped.error == "")
            #expect(piped.output == (try Program.run(["inspect", file])).output)
        }
        let nothing = try Program.run(["inspect", "-"])
        #expect(nothing.exitCode == 2)
        #expect(
            nothing.error.hasSuffix(
                "standard input: 0 bytes, too short for a pcap or pcapng file\n"))
        var checked = CaptureWriter(format: .pcap).encode([.init(bytes: frame + [1, 2, 3, 4])])
        checked[23] = 0x24
        let output = try Program.run(["inspect", try scratch.file("checked", checked)]).output
        #expect(output.contains("1 without the frame check sequence that the file declares\n"))
        #expect(output.hasSuffix("     0     154      54  -\n"))
    }

    @Test("Paths are bytes: any name is read, written, and printed without harm")
    func pathsAreBytes() throws {
        let scratch = try Scratch()
        let frame = try TrafficProfile.parse("154").packets(count: 1, flows: 1, seed: 1)[0]
        _ = try scratch.file("plain", CaptureWriter(format: .pcap).encode([.init(bytes: frame)]))
        let run = "exec \"$0\" \(Self.small.joined(separator: " ")) --method d"
        let outcome = try Program.run(
            [], directory: scratch.path,
            shell: """
                cp plain $'b-caf\\xe9.pcap'
                \(run) --packet $'b-caf\\xe9.pcap' --json $'\\xff.json' --csv $'\\xfe.csv'
                """)
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains(#"b-caf\xe9 d/usedLength"#))
        let json = try Program.run(
            [], directory: scratch.path,
            shell: """
                cat $'\\xff.json'; "$0" report $'\\xff.json' --html $'\\xfd.html' >&2
                ls $'\\xfe.csv' $'\\xfd.html' >/dev/null
                """)
        #expect(json.exitCode == 0)
        #expect(json.error == "wrote \\xfd.html: 1 file of results\n")
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
        let runs = (object as? [String: Any])?["runs"] as? [[String: Any]]
        let command = (object as? [String: Any])?["command"] as? [String]
        #expect(command?.contains(#"b-caf\xe9.pcap"#) == true)
        #expect((runs?.first?["name"] as? String)?.hasPrefix(#"b-caf\xe9 "#) == true)
        let none = try Program.run([], shell: "exec \"$0\" inspect $'none\\xe9\\x1b[31m.pcap'")
        #expect(
            none.error.hasSuffix(
                #"none\xe9\x1b[31m.pcap: cannot open: No such file or directory"# + "\n"))
        let same = try Program.run(
            [], directory: scratch.path,
            shell: "exec \"$0\" report $'\\xff.json' --html $'./\\xff.json'")
        #expect(same.exitCode == 2)
        let configuration = try Program.run(
            [], directory: scratch.path,
            shell: """
                echo 'cases: [{packet: 64}]' >$'\\xe9.yaml'; exec "$0" list --config $'\\xe9.yaml'
                """)
        #expect(configuration.exitCode == 0, "\(configuration.error)")
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
        #expect(outcome.output == "20000 packets: 0 splittable (0.0 %), 20000 not\n")
        let full = try Program.run([], shell: "\"$0\" inspect '\(path)' > /dev/full")
        #expect(full.exitCode == 1)
        #expect(full.error.contains("standard output: cannot write: No space left"))
    }
}
