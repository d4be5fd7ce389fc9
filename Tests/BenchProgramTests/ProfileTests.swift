// `cleave-bench profile` as a user runs it: here, on another process, and two runs compared.
import CleaveBench
import CleaveProfiling
import CleaveVirtioNet
import Foundation
import Testing

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
        #expect(outcome.output.contains("% of the copy limit"))

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
        for line in try String(contentsOfFile: files[2], encoding: .utf8).split(separator: "\n") {
            #expect(line.contains(";RQ ") && line.contains(";poll;"))
            #expect(UInt64(line.split(separator: " ").last ?? "") != nil, "\(line)")
        }
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
            ("diff /none.json /none.json", "/none.json: cannot read"),
            ("diff Package.swift Package.swift", "Package.swift: no JSON object"),
            ("overhead --rounds 0", "--rounds must be"),
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
