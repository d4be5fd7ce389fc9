import CleaveBench
import CleaveProgramSupport
import Foundation
import FoundationXML
import Testing

@testable import cleave_bench

@Suite("Page of several results")
struct ReportPageTests {
    private func document(_ text: String, _ name: String = "a.json") throws -> ResultDocument {
        try ResultDocument(path: name, Data(text.utf8))
    }

    private func page(_ files: [(String, String)]) throws -> String {
        ReportPage(documents: try files.map { try document($0.1, $0.0) }).text
    }

    private func complaint(_ text: String) -> String {
        do {
            _ = try document(text)
            return "none"
        } catch {
            #expect((error as? Failure)?.exitCode == 2)
            return "\(error)"
        }
    }

    @Test("Every schema gives a section with its facts, charts and tables, in well-formed markup")
    func sections() throws {
        let page = try page(ResultSamples.all)
        #expect(XMLParser(data: Data(page.utf8)).parse())
        func count(_ word: String) -> Int { page.ranges(of: word).count }
        #expect(count("<section ") == ResultSamples.all.count)
        #expect(count("<figure>") == ResultSamples.chartCount)
        #expect(count("class=\"sortable\"") == ResultSamples.tableCount)
        for (name, _) in ResultSamples.all { #expect(count(">\(name)</a>") == 1, "\(name)") }
        for words in [
            "cleave-bench run 'a b'", "ring-bench --repeats 9", "Test &lt;CPU&gt;",
            "noisy &amp; busy", "come from 2 machines", "attached to process 7",
            "DPDK 1, libcleave 2", "DPDK 3", "tags, in order", "0 of 1 claims hold", "not measured",
            "by a busy thread on each of CPUs 0-1", "try --slots &lt;more&gt;",
        ] { #expect(page.contains(words), "\(words)") }
        #expect(count("command not recorded") == 1 && count("machine not recorded") == 1)
        #expect(!page.contains("nan\"") && !page.contains("://"))
    }

    @Test("Figures carry what they sort by, and what is no figure carries nothing")
    func cells() throws {
        let page = try page([("a.json", ResultSamples.bench)])
        #expect(page.contains("data-value=\"9.5\">9.5</td>"))
        #expect(page.contains("<td class=\"figures\">-</td>"))
        #expect(page.contains("<td class=\"figures bad\" data-value=\"1.0\">1</td>"))
    }

    @Test("Cases that differ in more than method and traffic get bars by their full names")
    func names() throws {
        let reader = try document(ResultSamples.claims).content
        let charts = reader.parts.compactMap { part -> BarChart? in
            if case .chart(let chart) = part { return chart }
            return nil
        }
        #expect(charts.map(\.panels.count) == [1, 2])
        #expect(charts[0].panels[0].bars.map(\.figure) == ["5 %", "7.25 %"])
        #expect(
            charts[0].panels[0].title == "1. Costs little: does not hold. Shown: added")
        #expect(charts[1].panels.map(\.title) == ["64 B", "imix"])
        #expect(charts[1].panels[0].bars.map(\.label) == ["whole", "d", "d"])
        #expect(charts[1].panels[1].bars.map(\.label) == ["d of imix"])
        let plain = try document(ResultSamples.bench).content
        let first = plain.parts.compactMap { part -> BarChart? in
            if case .chart(let chart) = part { return chart }
            return nil
        }.first
        let chart = try #require(first)
        #expect(chart.panels.map(\.title) == ["64 B", "imix"])
        #expect(chart.panels[0].bars.map(\.label) == ["whole", "D"])
    }

    @Test("Newer files of the other programs name their command and machine")
    func origin() throws {
        let origin = "\"command\": \"dpdk-bench --json x\", \"machine\": {\"cpuModel\": \"Z80\"},"
        let page = try page([("d.json", ResultSamples.dpdk(origin: origin))])
        #expect(page.contains("dpdk-bench --json x") && page.contains("Z80"))
        #expect(page.contains("64 B, whole<") && page.contains("64 B, whole, checksum<"))
        #expect(!page.contains("not recorded"))
    }

    @Test("What is no length is drawn as nothing; names keep what tells them apart")
    func lengths() {
        let bars = [Double.nan, -3, 4].map {
            BarChart.Bar(
                label: String(repeating: "x", count: 40), colour: "own", parts: [$0], figure: "f")
        }
        let chart = BarChart("t", [.init(title: "p", bars: bars)])
        #expect(chart.panels[0].bars.map(\.parts) == [[0], [-3], [4]])
        let parts = BarChart.Bar(label: "x", colour: "own", parts: [-3, 4], figure: "f")
        let several = BarChart("t", [.init(title: "p", bars: [parts])])
        #expect(several.panels[0].bars[0].parts == [0, 4])
        #expect(ShortNames(["64 d a", "64 d b"]).names == ["a", "b"])
        #expect(ShortNames(["64 d a", "64 d b"]).shared == ["64", "d"])
        // Nothing would be left of the first, and the second of the others is the first again.
        #expect(ShortNames(["64 d", "64 d x"]).names == ["64 d", "64 d x"])
        // A number keeps the word that says what it is.
        #expect(
            ShortNames(["64 d 256 slots burst 8", "64 d 512 slots burst 8"]).names
                == ["256 slots", "512 slots"])
        #expect(ShortNames(["64 d burst 8", "64 d burst 32"]).names == ["burst 8", "burst 32"])
        #expect(ShortNames(["64 d"]).names == ["64 d"])
        #expect(ShortNames([]).names == [])
    }

    @Test("Bars go to both sides of zero on one scale, and a far pass does not shrink them")
    func bothSides() {
        func bar(_ length: Double, _ range: Spread? = nil) -> BarChart.Bar {
            .init(label: "x", colour: "own", parts: [length], figure: "f", range: range)
        }
        let scale = BarScale([bar(-1), bar(3)], width: 100)
        #expect(scale.zero == 25 && scale.place(-1) == 0 && scale.place(3) == 100)
        #expect(scale.place(1) - scale.zero == scale.zero - scale.place(-1))
        #expect(BarScale([bar(2), bar(4)], width: 100).zero == 0)
        #expect(BarScale([bar(-2)], width: 100).zero == 100)
        let far = Spread(median: 4, min: 3, max: 400, q1: 3.5, q3: 5)
        let disturbed = BarScale([bar(2), bar(4, far)], width: 100)
        #expect(disturbed.high == 4 * 1.4 && disturbed.place(400) == 100)
        #expect(BarScale([bar(0)], width: 100).place(0) == 0)
    }

    @Test("Each bar with passes has their range, with quartiles where the file tells them")
    func ranges() throws {
        let chart = BarChart(
            "t",
            [
                .init(
                    title: "p",
                    bars: [
                        .init(
                            label: "a", colour: "own", parts: [2], figure: "2",
                            range: Spread([1, 2, 3, 4, 5])),
                        .init(
                            label: "b", colour: "own", parts: [2], figure: "2",
                            range: Spread(median: 2, min: 1, max: 3)),
                        .init(label: "c", colour: "own", parts: [2], figure: "2"),
                    ])
            ])
        #expect(chart.markup.ranges(of: "class=\"whisker\"").count == 2)
        #expect(chart.markup.ranges(of: "class=\"quartiles\"").count == 1)
        #expect(chart.markup.contains("a: 2, least 1.00, largest 5.00, middle half 2.00 to 4.00"))
        for (name, text) in ResultSamples.all where name != "claims.json" {
            let markup = try page([(name, text)])
            #expect(markup.contains("class=\"figure\""), "\(name)")
        }
        // Every chart of cycles and rates: files whose figures have passes show ranges.
        for text in [ResultSamples.bench, ResultSamples.profile, ResultSamples.ring] {
            let ended = text.replacing("\"max\": null", with: "\"max\": 2000")
            #expect(try page([("a.json", ended)]).contains("class=\"whisker\""))
        }
    }

    @Test("No figure that cannot be is a fact on the page")
    func impossible() throws {
        let text = ResultSamples.profile.replacing(
            "\"costliest\": \"parse\",",
            with: "\"costliest\": \"parse\", \"copyLimit\": {\"cyclesPerPacket\": "
                + "\(ResultSamples.spread(40)), \"share\": 1.22},")
        let page = try page([("a.json", text)])
        #expect(page.contains(">40.0<") && !page.contains(">122<"))
    }

    @Test("What is no result is refused in words that name the file and the fault")
    func wrong() {
        #expect(complaint("") == "a.json: the file is empty")
        for text in ["[1]", "7", "{\"schema\": 3}"] {
            #expect(complaint(text) == "a.json: no JSON object with a schema", "\(text)")
        }
        // A file that a full disk or a signal cut: the byte where it ends.
        let cut = String(ResultSamples.bench.prefix(600))
        #expect(
            complaint(cut) == "a.json: the JSON is cut off: it ends at byte 600, inside a value")
        #expect(complaint("{") == "a.json: the JSON is cut off: it ends at byte 1, inside a value")
        #expect(complaint("{\"é\" 1}") == "a.json: no JSON from byte 6 on: invalid value")
        #expect(complaint("\u{0}") == "a.json: no JSON from byte 0 on: invalid value")
        #expect(complaint("{}").hasPrefix("a.json: no schema; known are cleave-bench/1, "))
        #expect(complaint("{\"schema\": \"x/9\"}").hasPrefix("a.json: schema x/9 is unknown; "))
        #expect(
            complaint("{\"schema\": \"cleave-bench/1\"}")
                == "a.json: no valid cleave-bench/1: runs is missing")
        let broken = ResultSamples.bench.replacing("\"ring\": \"split\"", with: "\"ring\": 4")
        #expect(
            complaint(broken)
                == "a.json: no valid cleave-bench/1: runs[0].ring is of the wrong type")
    }
}
