import CleaveHost
import CleaveProgramSupport
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Zero copy", .serialized)
struct ZeroCopyTests {
    private static func receipt(
        mapped: Int, seconds: Double, wrong: Int = 0
    ) -> StreamReceipt {
        var receipt = StreamReceipt()
        (receipt.bytes, receipt.mappedBytes) = (1_000_000_000, mapped)
        (receipt.mappedPages, receipt.calls) = (mapped / 4096, 4000)
        (receipt.seconds, receipt.cpuSeconds) = (seconds, seconds / 2)
        receipt.wrongBytes = wrong
        return receipt
    }

    /// Three pairs: 1, 2 and 4 GB/s by copy, twice that mapped; 75 % are mapped, once 50 %.
    private static func report(_ path: ZeroCopyPath = .tap, wrong: Int = 0) -> ZeroCopyReport {
        var report = ZeroCopyReport(
            machine: MachineFacts.current(), path: path, started: "2026-01-02T03:04:05Z",
            segmentByteCount: 4096, passByteCount: 1 << 30, bufferByteCount: 1 << 18, reads: false)
        report.compared = [
            .copied: receipt(mapped: 0, seconds: 1),
            .mapped: receipt(mapped: 999_997_440, seconds: 1, wrong: wrong),
        ]
        report.pairs = [(1.0, 750_002_176), (0.5, 500_002_816), (0.25, 999_997_440)].map {
            ZeroCopyPair(
                copied: receipt(mapped: 0, seconds: $0),
                mapped: receipt(mapped: $1, seconds: $0 / 2))
        }
        return report
    }

    @Test(
        "The document holds medians with their range, shares of bytes, and the proposal's figures")
    func document() throws {
        let text = ResultJSON.text(
            ZeroCopyDocument(Self.report(), command: ["cleave-bench", "zerocopy"]))
        let data = Data(text.utf8)
        let object = try #require(
            JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(object["schema"] as? String == "cleave-zerocopy/1")
        #expect(object["started"] as? String == "2026-01-02T03:04:05Z")
        #expect(object["interrupted"] is NSNull && object["machine"] is [String: Any])
        let proposal = object["proposal"] as? [String: Double]
        #expect(
            proposal == ["copiedGigabytesPerSecond": 1.9, "mappedGigabytesPerSecond": 3.3])
        let read = try ResultJSON.read(
            ZeroCopyDocument.self, from: data, path: "a.json", what: "result")
        #expect(read.pairs == Self.report().pairs && read.through == .tap)
        let copied = try #require(read.copied)
        let mapped = try #require(read.mapped)
        #expect(copied.gigabytesPerSecond == Spread([1, 2, 4]))
        #expect(copied.cpuSecondsPerGigabyte == Spread([0.125, 0.25, 0.5]))
        #expect(copied.copiedBytesPerByte == 1 && copied.mappedPages == 0)
        #expect(mapped.gigabytesPerSecond == Spread([2, 4, 8]))
        #expect(mapped.bytes == 3_000_000_000)
        #expect(abs(mapped.mappedShare - 0.75) < 1e-5)
        #expect(abs(mapped.copiedBytesPerByte - 0.25) < 1e-5)
        #expect(abs(mapped.leastMappedShare - 0.5) < 1e-5)
        let ratio = try #require(read.ratio)
        #expect(ratio.throughput == Spread([2, 2]))
        #expect(ratio.cpu == Spread([0.5, 0.5]))
        #expect(ratio.isMeaningful && ratio.note == nil)
    }

    @Test("Where a ratio means nothing, text and JSON say so", arguments: ZeroCopyPath.allCases)
    func meaning(_ path: ZeroCopyPath) throws {
        let report = Self.report(path)
        let means = path == .tap || path == .guests
        let ratio = try #require(ZeroCopyDocument(report, command: []).ratio)
        #expect(ratio.isMeaningful == means && (ratio.note == nil) == means)
        let text = ZeroCopyText(style: .plain, isQuiet: true).text(report)
        #expect(text.contains("mapped / copied: meaningless") == !means)
        #expect(text.contains("CPU alone allows") == means)
        #expect(text.contains("only counts mean something") == !means)
    }

    @Test("The table has a line for each way, their ratio, the proposal and what was compared")
    func table() {
        let text = ZeroCopyText(style: .plain, isQuiet: true).text(Self.report(wrong: 7))
        let lines = text.split(separator: "\n").map {
            $0.split(separator: " ").joined(separator: " ")
        }
        #expect(
            lines.dropFirst(2) == [
                "by copy 2.00~ (1.00-4.00) 250.0~ (125.0-500.0) 1.0000 0 0 0",
                "mapped 4.00~ (2.00-8.00) 125.0~ (62.50-250.0) 0.2500 75.0 50.0 549317",
                "mapped / copied 2.00 0.500",
                "~ the middle half of the passes spans more than 10 % of the median (2 of 2 ways): "
                    + "disturbed, no fact; a quiet machine or more --pairs help",
                "proposal: 1.90 GB/s by copy, 3.30 GB/s mapped, 1.74 times",
                "receiver's CPU alone allows: 4.00 GB/s by copy, 8.00 GB/s mapped, 2.00 times",
                "copied: 1000000000 bytes compared, 0 wrong",
                "mapped: 1000000000 bytes compared, 7 wrong",
            ])
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 140 })
        let whole = ZeroCopyText(style: .plain, isQuiet: false).text(Self.report())
        #expect(
            whole.contains("4096-byte segments; streams of 1 GiB, 256 KiB a call, nothing read"))
    }

    @Test("Bytes that were not sent fail the run, and so does a signal")
    func failures() {
        #expect(ZeroCopyCommand.failure(Self.report()) == nil)
        var report = Self.report(wrong: 7)
        report.interruption = "interrupted by SIGINT"
        #expect(
            ZeroCopyCommand.failure(report)
                == .run("bytes came that were not sent: mapped: 7 of 1000000000 bytes"))
        report.compared = [:]
        #expect(ZeroCopyCommand.failure(report) == .run("interrupted by SIGINT"))
    }

    @Test("A run that was stopped before its first pair has no figures, and a place for them")
    func nothing() throws {
        var report = Self.report()
        (report.pairs, report.interruption) = ([], "interrupted by SIGINT")
        let document = ZeroCopyDocument(report, command: [])
        #expect(document.copied == nil && document.mapped == nil && document.ratio == nil)
        #expect(ResultJSON.text(document).contains("\"ratio\": null"))
        let text = ZeroCopyText(style: .plain, isQuiet: true).text(report)
        #expect(text.contains("interrupted by SIGINT") && !text.contains("by copy  "))
    }

    @Test(
        "Wrong usage names the option and what to do",
        arguments: [
            ("--through vm", "--through: \"vm\" is not one of tap, uml, qemu, guests"),
            ("--through uml", "--through uml needs --receiver; 'make bench-zerocopy THROUGH=uml'"),
            ("--through guests --receiver a --sender b", "--through guests needs --address"),
            (
                "--through guests --receiver a --sender b --address vm1",
                "--address: \"vm1\" is no IPv4 address"
            ),
            ("--receiver env", "--receiver is not for --through tap"),
            ("--through guests --program x", "--program is for --through tap alone"),
            ("--through guests --segment 9", "--segment is for --through tap alone"),
            ("--program /none", "there is no program /none: build it (make build)"),
            ("--pairs 0", "--pairs: 0 is not 1 to"), ("--pairs x", "--pairs: \"x\""),
            ("--bytes 0", "--bytes: 0 is not 1 to"),
            ("--buffer 5000", "--buffer: 5000 is not a multiple of a page"),
            ("--buffer 1", "--buffer: 1 is not 4096 to"), ("--port 0", "--port: 0"),
            ("--segment 87", "--segment: 87 is not 88 to 65469"),
            ("--json /none/a", "/none/a: cannot open for writing"),
        ])
    func usage(line: String, expected: String) throws {
        let outcome = try Program.run(
            ["zerocopy"] + line.split(separator: " ").map(String.init))
        #expect(outcome.exitCode == 2 && outcome.output == "")
        #expect(outcome.error.contains(expected), "\(outcome.error)")
        #expect(outcome.error.filter(\.isNewline).count == 1)
    }

    @Test("An end is a process of its own that no list of commands shows")
    func hidden() throws {
        #expect(!(try Program.run(["--help"]).output.contains("zerocopy-end")))
        let outcome = try Program.run(["zerocopy-end", "--port", "1", "--bytes", "1"])
        #expect(outcome.exitCode == 2)
        #expect(outcome.error.contains("either --receive or --send is needed"))
    }

    // MARK: Both ends as processes

    /// At a port that another run of these tests, at the same time, does not use.
    private static func guests(_ words: [String]) -> [String] {
        [
            "zerocopy", "--through", "guests", "--receiver", "env", "--sender", "env",
            "--there", Program.path, "--address", "127.0.0.1", "--quick", "--bytes", "3M",
            "--port", "\(20_000 + getpid() % 10_000)",
        ] + words
    }

    @Test("Machines that run commands are measured, the loopback interface among them")
    func loopback() throws {
        let scratch = try Scratch()
        let json = "\(scratch.path)/a.json"
        let outcome = try Program.run(Self.guests(["--reads", "--json", json]))
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains("\nby copy "))
        let document = try ResultJSON.read(
            ZeroCopyDocument.self, from: Data(contentsOf: URL(fileURLWithPath: json)), path: json,
            what: "result")
        #expect(document.through == .guests && document.segmentBytes == nil && document.reads)
        #expect(document.pairs.count == 2 && document.compared.map(\.way) == [.copied, .mapped])
        for pair in document.pairs {
            #expect(pair.copied.bytes == 3 << 20 && pair.mapped.bytes == 3 << 20)
            #expect(pair.copied.mappedBytes == 0)
        }
        let page = try Program.run(["report", json, "--html", "-"])
        #expect(page.exitCode == 0 && page.output.contains("TCP received by mapping"))
    }

    @Test("An end that cannot be started or fails is named with its own words")
    func failing() throws {
        let outcome = try Program.run(
            Self.guests(["--there", "/none/cleave-bench"]))
        #expect(outcome.exitCode == 1)
        #expect(outcome.error.contains("(copied) failed: "), "\(outcome.error)")
        #expect(outcome.error.contains("/none/cleave-bench"), "\(outcome.error)")
    }

    @Test("A pass that fails leaves the pairs that were measured before it")
    func failingLater() throws {
        let scratch = try Scratch()
        // Two passes compare, two are the first pair's, and the second one of the next pair fails.
        let flaky = try scratch.file(
            "flaky",
            """
            #!/bin/sh
            echo >>'\(scratch.path)/calls'
            [ "$(wc -l <'\(scratch.path)/calls')" -lt 6 ] || { echo 'out of luck' >&2; exit 3; }
            exec "$@"

            """.utf8)
        #expect(chmod(flaky, 0o755) == 0)
        let json = "\(scratch.path)/a.json"
        let outcome = try Program.run(
            Self.guests(["--pairs", "3", "--receiver", flaky, "--json", json]))
        #expect(outcome.exitCode == 1)
        #expect(outcome.error.contains("out of luck after 1 of 3 pairs"), "\(outcome.error)")
        #expect(outcome.output.contains("\nby copy "))
        let document = try ResultJSON.read(
            ZeroCopyDocument.self, from: Data(contentsOf: URL(fileURLWithPath: json)), path: json,
            what: "result")
        #expect(document.pairs.count == 1)
        #expect(document.interrupted?.contains("out of luck") ?? false)
    }

    @Test("A pass may take as long as its bytes need")
    func patience() {
        #expect(ZeroCopyEnds.patience(byteCount: 1) > 600)
        #expect(ZeroCopyEnds.patience(byteCount: 1 << 40) > Double(1 << 40) / 1.1e6)
    }

    // MARK: TAP

    @Test("A switch whose starter has ended before it could be told does not run")
    func orphan() throws {
        let scratch = try Scratch()
        for (parent, runs) in [(getpid(), true), (1 << 22, false)] {
            let file = "\(scratch.path)/\(parent)"
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = TapNetwork.endsWith(parent: parent) + ["touch", file]
            try process.run()
            process.waitUntilExit()
            #expect((process.terminationStatus == 0) == runs)
            #expect(FileManager.default.fileExists(atPath: file) == runs)
        }
    }

    /// Why two networks cannot be made here; nil if they can.
    private static let obstacle: String? = {
        if access("/dev/net/tun", R_OK | W_OK) != 0 { return "there is no /dev/net/tun" }
        let user = geteuid() == 0 ? "" : "--map-root-user"
        let outcome = try? Program.run(
            [],
            shell: """
                for tool in ip nsenter setpriv; do command -v $tool >&2 || exit 1; done
                unshare \(user) --net true
                """)
        return outcome?.exitCode == 0
            ? nil : "network namespaces may not be made, or a tool for them is missing"
    }()

    private static var tap: [String] { ["zerocopy", "--quick", "--bytes", "32M"] }

    @Test(
        "Over TAP, whole pages of payload are mapped, and half pages are not",
        .enabled(if: obstacle == nil, "no TAP here: \(obstacle ?? "")"), .timeLimit(.minutes(2)))
    func mapsPages() throws {
        let scratch = try Scratch()
        for (segment, share) in [(4096, 0.99...1), (2048, 0...0.01)] {
            let json = "\(scratch.path)/\(segment).json"
            let outcome = try Program.run(
                Self.tap + ["--segment", "\(segment)", "--json", json])
            #expect(outcome.exitCode == 0, "\(outcome.error)")
            let document = try ResultJSON.read(
                ZeroCopyDocument.self, from: Data(contentsOf: URL(fileURLWithPath: json)),
                path: json, what: "result")
            #expect(document.compared.map(\.wrong) == [0, 0])
            #expect(share.contains(try #require(document.mapped).leastMappedShare), "\(segment)")
        }
    }

    @Test(
        "Asked to end, it takes its processes and networks along",
        .enabled(if: obstacle == nil, "no TAP here: \(obstacle ?? "")"), .timeLimit(.minutes(2)),
        arguments: ["TERM", "INT", "KILL"])
    func interrupted(_ signal: String) throws {
        // More pairs than any test lasts. Its processes are known by the name of a copy.
        let scratch = try Scratch()
        let vhost = URL(fileURLWithPath: Program.path).deletingLastPathComponent().path
        let outcome = try Program.run(
            [],
            shell: """
                cp '\(Program.path)' '\(scratch.path)/bench'
                cp '\(vhost)/cleave-vhost' '\(scratch.path)/vhost'
                left() { ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c '\(scratch.path)/'; }
                '\(scratch.path)/bench' zerocopy --pairs 10000 --bytes 32M --quiet \
                    --program '\(scratch.path)/vhost' & p=$!
                for try in $(seq 600); do
                    [ "$(left)" -lt 4 ] || break
                    kill -0 $p || exit 9
                    sleep 0.05
                done
                [ "$try" -lt 600 ] || { kill -KILL $p; echo 'it does not begin'; exit 8; }
                kill -\(signal) $p; wait $p; status=$?
                for try in $(seq 400); do [ "$(left)" = 0 ] && exit $status; sleep 0.1; done
                echo "$(left) processes are left"
                """)
        #expect(!outcome.output.contains("are left"), "\(outcome.output)")
        let codes: [String: Int32] = ["TERM": 143, "INT": 130, "KILL": 137]
        #expect(outcome.exitCode == codes[signal], "\(outcome.error)")
        if signal != "KILL" {
            #expect(outcome.error.contains("interrupted by SIG\(signal)"), "\(outcome.error)")
        }
    }
}
