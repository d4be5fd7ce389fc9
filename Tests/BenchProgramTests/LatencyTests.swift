// `cleave-bench latency` as a user runs it, and what becomes of its results.
import CleaveProgramSupport
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Latency", .serialized)
struct LatencyTests {
    private static let small = [
        "--repeats", "2", "--pass-time", "4", "--loads", "20,60", "--tolerance", "50",
        "--mode", "one-core", "--source-packets", "64", "--verify-packets", "64",
    ]

    private func document(_ path: String) throws -> LatencyDocument {
        try #require(try ResultDocument(path: path).content as? LatencyDocument)
    }

    @Test("A run fills its table of 80 columns and all its files, and report and compare read them")
    func run() throws {
        let scratch = try Scratch()
        let (json, csv) = ("\(scratch.path)/a.json", "\(scratch.path)/a.csv")
        let folder = "\(scratch.path)/curves"
        let words =
            (["--latency"] + Self.small + ["--json", json, "--csv", csv, "--hgrm", folder])
            .joined(separator: " ")
        let outcome = try Program.run([], shell: "COLUMNS=80 \"$0\" \(words)")
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        for line in outcome.output.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        for words in ["highest lossless rate", "load 20 %", "load 60 %", "p99.9", "private"] {
            #expect(outcome.output.contains(words), "\(words)")
        }
        let document = try document(json)
        #expect(document.runs.map(\.method) == ["whole", "a", "c", "d", "d"])
        #expect(document.runs.map(\.sharing).suffix(2) == ["all", "private"])
        #expect(document.runs.allSatisfy { $0.loads.map(\.loadPercent) == [20, 60] })
        #expect(document.runs.flatMap(\.loads).allSatisfy { $0.passes.count == 2 })
        let rows = try String(contentsOfFile: csv, encoding: .utf8).split(separator: "\n")
        #expect(rows.count == 1 + 5 * 2)
        let columns = LatencyCSV.heading.count
        for row in rows {
            #expect(row.split(separator: ",", omittingEmptySubsequences: false).count == columns)
        }
        let files = try FileManager.default.contentsOfDirectory(atPath: folder)
        #expect(files.count == 5 * 2 * 2 && files.contains("64-whole-mergeable-load20.hgrm"))
        for file in files { try check("\(folder)/\(file)") }

        let html = "\(scratch.path)/page.html"
        let report = try Program.run(["report", json, "--html", html])
        #expect(report.exitCode == 0, "\(report.error)")
        let page = try String(contentsOfFile: html, encoding: .utf8)
        #expect(page.ranges(of: "<polyline").count == 5 + 5 * 2)
        let same = try Program.run(["compare", json, json, "--all"])
        #expect(same.exitCode == 0, "\(same.error)")
        // A rate and five percentiles of each load, for each case.
        #expect(same.output.contains("\(5 * (1 + 2 * 5)) figures compared: 0 worse"))
    }

    /// As HdrHistogram's plotter reads it: lines of four words that begin with two numbers.
    private func check(_ path: String) throws {
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(
            lines.first == "       Value     Percentile TotalCount 1/(1-Percentile)", "\(path)")
        let rows = lines.filter { !$0.hasPrefix("#") }.dropFirst().map {
            $0.split(separator: " ").compactMap { Double($0) }
        }
        #expect(rows.allSatisfy { $0.count == 4 || $0.count == 3 }, "\(path)")
        let last = try #require(rows.last)
        #expect(last.count == 3 && last[1] == 1, "\(path)")
        for (one, next) in zip(rows, rows.dropFirst()) {
            #expect(one[0] <= next[0] && one[1] <= next[1] && one[2] <= next[2], "\(path)")
        }
        #expect(lines.suffix(3).allSatisfy { $0.hasPrefix("#[") }, "\(path)")
    }

    @Test("Files of distributions have plain names, no two alike")
    func names() {
        #expect(
            HgrmFolder.names(["64 d/used x", "64 d:used x", "ü/../..", "64-d-used-x"])
                == ["64-d-used-x", "64-d-used-x-2", "--..-..", "64-d-used-x-3"])
    }

    @Test("Loads, modes and preemption that differ do not compare")
    func compare() throws {
        let scratch = try Scratch()
        let one = try scratch.file("a.json", Array(ResultSamples.latency.utf8))
        for (key, other, words) in [
            (#""arrivals": "fixed""#, #""arrivals": "poisson""#, "arrivals fixed, then poisson"),
            (#""mode": "threads""#, #""mode": "cores""#, "mode threads, then cores"),
            (#""preemptedCPUs": [0, 1],"#, "", "preempted CPUs 0-1, then none"),
        ] {
            let changed = ResultSamples.latency.replacing(key, with: other)
            let two = try scratch.file("b.json", Array(changed.utf8))
            let outcome = try Program.run(["compare", one, two])
            #expect(outcome.exitCode == 2 && outcome.error.contains(words), "\(outcome.error)")
            #expect(try Program.run(["compare", one, two, "--force"]).exitCode == 0)
        }
    }

    @Test("A case that did not keep up is told, and so is what to try for slots")
    func remarks() throws {
        let content = try ResultDocument(
            path: "a", Data(ResultSamples.latency.utf8)
        ).content
        let document = try #require(content as? LatencyDocument)
        let report = LatencyReport(
            machine: .current(), started: "", mode: .threads, repeats: 3,
            settings: LatencySettings(), method: document.measuring, results: [], warnings: [])
        let text = LatencyText(style: .plain, isQuiet: true).text(report, document)
        #expect(text.contains("64 whole, load 50 %: 0 dropped, 1 never sent: the case did not"))
        #expect(text.contains("64 d shared: 10 of 1000 packets (1.0 %) found no header slot free"))
        #expect(text.contains("; try --slots <more>"))
    }

    @Test("A curve rises to the right, and its last point has room on the page")
    func curve() throws {
        let points = [
            LatencyPoint(percentile: 50, nanoseconds: 1000),
            LatencyPoint(percentile: 99, nanoseconds: 10_000),
            LatencyPoint(percentile: 100, nanoseconds: 100_000),
        ]
        let chart = CurveChart(
            "t",
            [
                .init(
                    title: "p",
                    curves: [
                        .init(label: "c", colour: "m-d", dash: 1, points: points, count: 1000)
                    ])
            ])
        let match = try #require(
            chart.markup.matches(of: /points="([^"]*)" class="curve m-d dash1"/).last)
        let places = match.1.split(separator: " ").map { pair in
            pair.split(separator: ",").compactMap { Double($0) }
        }
        #expect(places.count == 3)
        // 350 units wide from 52 on, three steps of a tenth each; 190 high, two of a power.
        #expect(places.map { $0[0] } == [81.9, 250.7, 350])
        #expect(places.map { $0[1] } == [172, 89, 6])
    }
}
