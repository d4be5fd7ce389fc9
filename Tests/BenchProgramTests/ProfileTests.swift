// `cleave-bench profile` as a user runs it: here, on another process, and two runs compared.

import CleaveProfiling
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

#if canImport(FoundationXML)
import FoundationXML
#endif

@Suite("Profile", .serialized)
struct ProfileTests {
    private static let small = [
        "--repeats", "3", "--packets", "20k", "--source-packets", "64", "--verify-packets", "64",
        "--period", "4",
    ]

    private func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    private func median(_ value: Any?) throws -> Double {
        let spread = try #require(value as? [String: Any])
        let median = try #require((spread["median"] as? NSNumber)?.doubleValue)
        let least = try #require((spread["min"] as? NSNumber)?.doubleValue)
        let most = try #require((spread["max"] as? NSNumber)?.doubleValue)
        #expect(least <= median && median <= most)
        return median
    }

    @Test("A run prints stages that add up and fills its files")
    func run() throws {
        let scratch = try Scratch()
        let files = ["svg", "trace", "folded", "json"].map { "\(scratch.path)/a.\($0)" }
        let outcome = try Program.run(
            ["profile", "--packet", "64,1500", "--rqs", "2"] + Self.small
                + [
                    "--svg", files[0], "--trace", files[1], "--folded", files[2], "--json",
                    files[3],
                ]
        )
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains("costliest: "))
        for stage in RxStage.allCases { #expect(outcome.output.contains("\n\(stage.name) ")) }
        #expect(outcome.output.contains("\ncopying   the same packets alone takes "))

        let json = try object(String(contentsOfFile: files[3], encoding: .utf8))
        let runs = try #require(json["runs"] as? [[String: Any]])
        #expect(runs.count == 2)
        for run in [json] + runs {
            let stages = try #require(run["stages"] as? [[String: Any]])
            #expect(stages.compactMap { $0["name"] as? String } == RxStage.allCases.map(\.name))
            let sum = try stages.reduce(0) { try $0 + median($1["cyclesPerPacket"]) }
            #expect(sum > 0)
            #expect(try median(run["turnCyclesPerPacket"]) > 0)
        }
        for run in runs {
            #expect((run["rqs"] as? [Any])?.count == 2)
            #expect(run["copyLimit"] is [String: Any] && run["workingSet"] is [String: Any])
        }
        try checkTrace(String(contentsOfFile: files[1], encoding: .utf8))
        let parser = XMLParser(data: try Data(contentsOf: URL(fileURLWithPath: files[0])))
        #expect(parser.parse(), "the flame graph is XML")
        let folded = try String(contentsOfFile: files[2], encoding: .utf8)
        for line in folded.split(separator: "\n") {
            #expect(line.contains(";RQ ") && line.contains(";poll;"))
            #expect(UInt64(line.split(separator: " ").last ?? "") != nil, "\(line)")
        }
        for run in runs { try checkPicture(folded, run) }
        let picture = try String(contentsOfFile: files[0], encoding: .utf8)
        for words in [
            "Width: TSC cycles of all polls", "1 poll in 4", "profile --packet 64,1500",
            "Linux ", "(commit ", "% of its polls, ",
        ] { #expect(picture.contains(words), "\(words)") }
    }

    /// A stage takes the same share of the polls in the picture as in the table.
    private func checkPicture(_ folded: String, _ run: [String: Any]) throws {
        let name = try #require(run["name"] as? String)
        var cycles: [Substring: Double] = [:]
        for line in folded.split(separator: "\n") where line.hasPrefix(name + ";") {
            let parts = line.split(separator: ";")
            let last = try #require(parts.last).split(separator: " ")
            cycles[last[0], default: 0] += Double(last[1]) ?? .nan
        }
        let all = cycles.values.reduce(0, +)
        let stages = try #require(run["stages"] as? [[String: Any]])
        let sum = try stages.reduce(0) { try $0 + median($1["cyclesPerPacket"]) }
        for stage in stages {
            let stageName = try #require(stage["name"] as? String)
            let share = try median(stage["cyclesPerPacket"]) / sum
            let drawn = cycles[stageName[...], default: 0] / all
            #expect(abs(drawn - share) < 0.001, "\(stageName): \(drawn) and \(share)")
        }
    }

    @Test("What cannot be is not said: a copy slower than the poll, a cost within the noise")
    func impossible() throws {
        var plan = BenchPlan()
        plan.cases = [BenchCase()]
        (plan.repeats, plan.packetsPerRepeat, plan.sourcePackets) = (3, 4000, 64)
        (plan.verifyPackets, plan.profilePeriod) = (64, 2)
        let report = try BenchRunner(plan).run { _ in }
        var run = try #require(ProfileRun.all(report).first)
        func change(_ change: (inout BenchProfile) -> Void) throws {
            var profile = try #require(run.bench?.profile)
            change(&profile)
            run.bench?.profile = profile
        }
        let text = ProfileText(style: .plain, isQuiet: true)
        let poll = run.table.poll.median
        try change {
            ($0.plain, $0.profiled) = ([100, 101, 102], [103, 104, 105])
            $0.copyLimit = CopyLimit(
                cyclesPerPacket: Spread([poll / 2])!, bytesPerCycle: 1)
        }
        #expect(run.leastOverhead.map { abs($0 - 3) < 1e-9 } == true && run.noise == nil)
        #expect(run.shareOfCopyLimit == 0.5)
        #expect(
            text.text([run], facts: "", remarks: []).contains("+3.0 % with (fastest passes)"))
        #expect(
            text.text([run], facts: "", remarks: []).contains("runs at 50 % of the copy limit"))
        try change {
            ($0.plain, $0.profiled) = ([1, 100, 200], [200, 300, 24_000])
            $0.copyLimit = CopyLimit(
                cyclesPerPacket: Spread([poll * 1.22])!, bytesPerCycle: 1)
        }
        #expect(run.leastOverhead == nil && run.shareOfCopyLimit == nil)
        let words = text.text([run], facts: "", remarks: [])
        #expect(words.contains("what measuring adds cannot be told"))
        #expect(words.contains("one of the two was disturbed") && !words.contains("122 %"))
        let document = ProfileDocument([run], started: nil, warnings: [], command: [])
        #expect(document.runs[0].leastOverheadPercent == nil)
        #expect(document.runs[0].copyLimit?.share == nil)
        let overhead = OverheadText(
            figures: [
                OverheadFigures(
                    run: run,
                    rounds: [.init(without: 1, off: 1), .init(without: 90, off: 20_000)])
            ], period: 2)
        let table = overhead.text(style: .plain)
        #expect(table.contains("what profiling costs cannot be told here: the middle half of"))
        let json = ResultJSON.text(overhead.document(command: []))
        #expect(json.contains("\"onPercent\": null") && json.contains("\"offPercent\": null"))
    }

    /// Stages lie inside their polls, one after the other.
    private func checkTrace(_ text: String) throws {
        let events = try #require(try object(text)["traceEvents"] as? [[String: Any]])
        var polls = 0
        var end = 0.0
        var position = 0.0
        for event in events where event["ph"] as? String == "X" {
            let start = try #require((event["ts"] as? NSNumber)?.doubleValue)
            let length = try #require((event["dur"] as? NSNumber)?.doubleValue)
            if event["name"] as? String == "poll" {
                polls += 1
                (position, end) = (start, start + length)
            } else {
                #expect(start >= position - 1e-6 && start + length <= end + 1e-6)
                position = start + length
            }
        }
        #expect(polls > 10)
    }

    @Test("Two runs are compared by stage; what changed is named")
    func diff() throws {
        let scratch = try Scratch()
        func file(_ name: String, parse: Double) throws -> String {
            func spread(_ value: Double) -> String {
                "{\"median\": \(value), \"min\": \(value - 0.5), \"max\": \(value + 0.5)}"
            }
            let stages = [("parse", parse), ("placePayload", 100)].map {
                "{\"name\": \"\($0)\", \"cyclesPerPacket\": \(spread($1))}"
            }.joined(separator: ", ")
            let text =
                "{\"schema\": \"\(ProfileDocument.schema)\", \"runs\": [{\"name\": \"one\", "
                + "\"stages\": [\(stages)], \"turnCyclesPerPacket\": \(spread(100 + parse))}]}"
            return try scratch.file(name, text.utf8)
        }
        let before = try file("a.json", parse: 20)
        let after = try file("b.json", parse: 32)
        let outcome = try Program.run(["profile", "diff", before, after])
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        #expect(outcome.output.contains("Changed: parse (+12.0 cycles); the poll +10.0 %."))
        let same = try Program.run(["profile", "diff", before, before])
        #expect(same.output.contains("No stage changed"))
    }

    @Test("Another process is read while it runs, and left as it was")
    func attach() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = [
            "--packet", "64", "--method", "d", "--repeats", "1000000", "--packets", "50k",
            "--quiet",
        ]
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        defer {
            process.terminate()
            process.waitUntilExit()
        }
        let arguments = [
            "profile", "--attach", "\(process.processIdentifier)", "--seconds", "0.7", "--period",
            "2", "--json", "-",
        ]
        var outcome = try Program.run(arguments)
        // It may still be making its queues.
        for _ in 0..<50 where outcome.exitCode != 0 {
            usleep(100_000)
            outcome = try Program.run(arguments)
        }
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        let run = try #require((try object(outcome.output)["runs"] as? [[String: Any]])?.first)
        #expect((run["name"] as? String)?.hasPrefix("RQ 0: d/usedLength, split ring") == true)
        #expect(try median(run["turnCyclesPerPacket"]) > 0)
        #expect(process.isRunning)
        let attachment = try ProfileAttachment(processID: process.processIdentifier)
        #expect(attachment.blocks.map { $0.period.load() } == [0])
    }

    @Test(
        "Wrong requests end with 2 and one line",
        arguments: [
            ("--attach 0", "there is no process 0"),
            ("--attach 1 --packet 64", "--attach reads a process"),
            ("--attach 1 --seconds 0", "--seconds: 0.0 is not"),
            ("--seconds 2", "--seconds goes with --attach"), ("--period 0", "--period: 0 is not"),
            ("diff /none.json /none.json", "/none.json: cannot open"),
            ("diff Package.swift Package.swift", "Package.swift: no JSON from byte 0"),
            ("overhead --rounds 0", "--rounds: must be"),
            ("overhead --rounds 3", "--rounds goes with --against"),
            ("--svg - --json -", "--json and --svg both name -"),
        ])
    func usage(line: String, expected: String) throws {
        let outcome = try Program.run(["profile"] + line.split(separator: " ").map(String.init))
        #expect(outcome.exitCode == 2)
        #expect(outcome.error.contains(expected), "\(outcome.error)")
        #expect(outcome.error.filter(\.isNewline).count == 1)
    }

    @Test("Every configuration for profiles can be read")
    func configurations() throws {
        for name in ["default", "packed", "many-rqs"] {
            let path = "\(packageRoot)/configs/profile/\(name).yaml"
            let configuration = try ConfigurationReader.read(path: path)
            #expect(try !configuration.cases().isEmpty)
        }
        #expect(!(try DefaultConfiguration.profile.read().0.cases().isEmpty))
    }
}
