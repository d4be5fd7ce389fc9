// `cleave-bench compare`: two files of results, figure by figure.
import CleaveProgramSupport
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Compare")
struct CompareTests {
    private func figure(
        _ spread: Spread?, better: ComparedFigure.Better = .less, _ subject: String = "a"
    ) throws -> ComparedFigure {
        try #require(ComparedFigure(subject, "f", "u", spread, better: better))
    }

    private func verdict(
        _ old: Spread?, _ new: Spread?, better: ComparedFigure.Better = .less,
        threshold: Double = 5
    ) throws -> ResultComparison.Verdict {
        let comparison = ResultComparison(
            old: [try figure(old, better: better)], new: [try figure(new, better: better)],
            threshold: threshold)
        return try #require(comparison.rows.first).verdict
    }

    private func exactly(_ value: Double) -> Spread {
        Spread(median: value, min: value, max: value)
    }

    @Test("A change is one beyond the threshold whose ranges lie apart")
    func verdicts() throws {
        let old = Spread([99, 100, 101])
        #expect(try verdict(old, Spread([109, 110, 111])) == .worse)
        #expect(try verdict(old, Spread([109, 110, 111]), better: .more) == .better)
        #expect(try verdict(old, Spread([89, 90, 91])) == .better)
        #expect(try verdict(old, Spread([103, 104, 105])) == .same)
        #expect(try verdict(old, Spread([103, 104, 105]), threshold: 2) == .worse)
        // Ranges overlap, whatever the medians.
        #expect(try verdict(Spread([90, 100, 150]), Spread([110, 120, 121])) == .same)
        // One pass that was disturbed hides nothing where quartiles are known.
        let disturbed = Spread([99, 99, 100, 101, 400])
        #expect(try verdict(disturbed, Spread([119, 119, 120, 121, 122])) == .worse)
        let older = Spread(median: 100, min: 99, max: 400)
        #expect(try verdict(older, Spread([119, 119, 120, 121, 122])) == .same)
        // Counts have no range.
        #expect(try verdict(exactly(0), exactly(0.01)) == .worse)
        #expect(try verdict(exactly(0), exactly(0)) == .same)
        #expect(try verdict(exactly(100), exactly(96), better: .more) == .same)
        #expect(ComparedFigure("a", "f", "u", .nan as Double?, better: .less) == nil)
    }

    @Test("What one file has alone is named")
    func alone() throws {
        let comparison = ResultComparison(
            old: [try figure(exactly(1), "a"), try figure(exactly(1), "b")],
            new: [try figure(exactly(1), "b"), try figure(exactly(1), "c")], threshold: 5)
        #expect(comparison.onlyOld == ["a"] && comparison.onlyNew == ["c"])
        let text = ResultComparisonText(style: .plain, showsAll: false)
            .text(comparison, threshold: 5)
        #expect(text.contains("1 figures compared: 0 worse, 0 better, 1 the same"))
        #expect(text.contains("in the old file alone: a\nin the new file alone: c\n"))
    }

    /// Files that are the same but for what `change` does to every number after a key.
    private func changed(_ text: String, _ key: String, by factor: Double) -> String {
        let number = "([0-9.]+)"
        let pattern = try! Regex(
            "\"\(key)\": \\{\"median\": \(number), \"min\": \(number), \"max\": \(number)")
        return text.replacing(pattern) { match in
            let numbers = match.output.dropFirst().map {
                ($0.substring.flatMap { Double($0) } ?? .nan) * factor
            }
            return "\"\(key)\": {\"median\": \(numbers[0]), \"min\": \(numbers[1]), "
                + "\"max\": \(numbers[2])"
        }
    }

    @Test(
        "Every kind of result compares with itself, and a worse figure ends with 3",
        arguments: [
            ("bench.json", "deviceCyclesPerPacket"), ("claims.json", "deviceCyclesPerPacket"),
            ("scale.json", "deviceCyclesPerPacket"), ("profile.json", "cyclesPerPacket"),
            ("dpdk.json", "cleave"), ("parser.json", "cleave"),
        ])
    func kinds(name: String, key: String) throws {
        let scratch = try Scratch()
        // Ranges of the samples are endless; these end at the median.
        let text = try #require(ResultSamples.all.first { $0.0 == name }).1
            .replacing(/"median": ([0-9.]+), "min": ([0-9.]+), "max": null/) {
                "\"median\": \($0.1), \"min\": \($0.1), \"max\": \($0.1)"
            }
        let old = try scratch.file("old.json", text.utf8)
        let same = try Program.run(["compare", old, old])
        #expect(same.exitCode == 0, "\(same.error)")
        #expect(same.output.contains(" 0 worse, 0 better, "))
        let new = try scratch.file("new.json", changed(text, key, by: 1.2).utf8)
        let worse = try Program.run(["compare", old, new])
        #expect(worse.exitCode == 3, "\(worse.output)\(worse.error)")
        #expect(worse.error.hasPrefix("cleave-bench: worse: "))
        #expect(worse.output.contains("+20.0"))
        // Its rates have the same key as its cycles, and are the better the larger they are.
        let back = try Program.run(["compare", new, old])
        #expect(back.exitCode == (name == "dpdk.json" ? 3 : 0))
        #expect(try Program.run(["compare", old, new, "--threshold", "25%"]).exitCode == 0)
    }

    @Test("A stream that is mapped more slowly, a ring with less throughput, a claim that fell")
    func otherKinds() throws {
        let scratch = try Scratch()
        func compare(_ old: String, _ new: String) throws -> Outcome {
            try Program.run([
                "compare", try scratch.file("old.json", old.utf8),
                try scratch.file("new.json", new.utf8),
            ])
        }
        func way(_ speed: Double) -> String {
            """
            "mapped": {"gigabytesPerSecond": {"median": \(speed), "min": \(speed), "max": \(speed)},
              "cpuSecondsPerGigabyte": {"median": 1, "min": 1, "max": 1}, "bytes": 1,
              "copiedBytesPerByte": 0, "mappedPages": 1, "mappedShare": 1, "leastMappedShare": 1}
            """
        }
        func stream(_ speed: Double) -> String {
            ResultSamples.zeroCopy.replacing("\"mapped\": null", with: way(speed))
        }
        #expect(try compare(stream(3), stream(2)).exitCode == 3)
        #expect(try compare(stream(2), stream(3)).exitCode == 0)
        let slower = ResultSamples.ring.replacing(
            "\"median\": 55.5, \"min\": 50", with: "\"median\": 20, \"min\": 19"
        )
        .replacing("\"max\": 60", with: "\"max\": 21")
        #expect(try compare(ResultSamples.ring, slower).exitCode == 3)
        let holding = ResultSamples.claims.replacing(
            "\"unit\": \"%\", \"holds\": false, \"figures\"",
            with: "\"unit\": \"%\", \"holds\": true, \"figures\"")
        let fallen = try compare(holding, ResultSamples.claims)
        #expect(fallen.exitCode == 3 && fallen.error.contains("claim 1, holds"))
        let stalled = ResultSamples.scale.replacing(
            "\"splitShare\": 0.5", with: "\"splitShare\": 0.4")
        #expect(try compare(ResultSamples.scale, stalled).exitCode == 3)
    }

    @Test("JSON has every figure; the table has those that changed, or all")
    func outputs() throws {
        let scratch = try Scratch()
        let exact = ResultSamples.bench.replacing(
            /"median": ([0-9.]+), "min": ([0-9.]+), "max": null/
        ) { "\"median\": \($0.1), \"min\": \($0.1), \"max\": \($0.1)" }
        let old = try scratch.file("old.json", exact.utf8)
        let new = try scratch.file(
            "new.json", changed(exact, "deviceCyclesPerPacket", by: 2).utf8)
        let json = "\(scratch.path)/c.json"
        let outcome = try Program.run(["compare", old, new, "--json", json])
        #expect(outcome.exitCode == 3)
        #expect(!outcome.output.contains(" driver "))
        #expect(try Program.run(["compare", old, new, "--all"]).output.contains(" driver "))
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: json)))
                as? [String: Any])
        #expect(object["schema"] as? String == "cleave-compare/1")
        let figures = try #require(object["figures"] as? [[String: Any]])
        let worse = figures.filter { $0["verdict"] as? String == "worse" }
        #expect(worse.count == 3)
        #expect(worse.allSatisfy { $0["changePercent"] as? Double == 100 })
        #expect(figures.contains { $0["verdict"] as? String == "same" })
        let narrow = try Program.run(
            [], shell: "COLUMNS=80 exec \"$0\" compare '\(old)' '\(new)' --all")
        #expect(narrow.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
        // Ranges are left out before anything else.
        let wide = try scratch.file(
            "wide.json",
            exact.replacing(/("deviceCyclesPerPacket": {)[^}]*}/) {
                "\($0.1)\"median\": 123456.5, \"min\": 100000.5, \"max\": 123456789.5}"
            }.utf8)
        let ranges = try Program.run(
            [], shell: "COLUMNS=80 exec \"$0\" compare '\(old)' '\(wide)' --all")
        #expect(ranges.output.contains("no room here for: ranges old, new"), "\(ranges.output)")
        #expect(ranges.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
    }

    @Test("What does not compare is refused, with 2 and one line")
    func refused() throws {
        let scratch = try Scratch()
        let bench = try scratch.file("bench.json", ResultSamples.bench.utf8)
        let ring = try scratch.file("ring.json", ResultSamples.ring.utf8)
        let cut = try scratch.file("cut.json", ResultSamples.bench.utf8.prefix(99))
        let elsewhere = try scratch.file(
            "other.json", ResultSamples.bench.replacing("Test <CPU>", with: "Z80").utf8)
        let threads = try scratch.file(
            "threads.json",
            ResultSamples.bench.replacing("\"mode\": \"turns\"", with: "\"mode\": \"threads\"").utf8
        )
        let renamed = try scratch.file(
            "renamed.json", ResultSamples.bench.replacing(" of ", with: " at ").utf8)
        let requests: [([String], String)] = [
            ([bench, ring], "nothing to compare"), ([bench, cut], "the JSON is cut off"),
            ([bench], "Missing expected argument '<NEW>'"),
            ([bench, elsewhere], "CPU Test <CPU>, then Z80; --force"),
            ([bench, threads], "mode one-core, then threads"),
            ([bench, renamed], "have no case in common"),
            ([bench, bench, "--threshold", "x"], "--threshold: \"x\""),
            ([bench, bench, "--threshold=-1"], "--threshold: \"-1\""),
            ([bench, "/none.json"], "/none.json: cannot open"),
        ]
        for (arguments, expected) in requests {
            let outcome = try Program.run(["compare"] + arguments)
            #expect(outcome.exitCode == 2, "\(arguments)")
            #expect(outcome.error.contains(expected), "\(outcome.error)")
            #expect(outcome.error.filter(\.isNewline).count == 1)
        }
        #expect(try Program.run(["compare", bench, elsewhere, "--force"]).exitCode == 0)
        // Older files call the mode by another name.
        let named = try scratch.file(
            "named.json",
            ResultSamples.bench.replacing("\"mode\": \"turns\"", with: "\"mode\": \"one-core\"")
                .utf8)
        #expect(try Program.run(["compare", bench, named]).exitCode == 0)
    }
}
