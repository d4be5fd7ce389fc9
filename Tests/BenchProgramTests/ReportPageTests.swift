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
        #expect(count("<svg ") == ResultSamples.chartCount)
        #expect(count("class=\"sortable\"") == ResultSamples.tableCount)
        for (name, _) in ResultSamples.all { #expect(count(">\(name)</a>") == 1, "\(name)") }
        for words in [
            "cleave-bench run 'a b'", "ring-bench --repeats 9", "Test &lt;CPU&gt;",
            "noisy &amp; busy", "come from 2 machines", "attached to process 7",
            "DPDK 1, libcleave 2", "DPDK 3", "tags, in order", "0 of 1 claims hold", "not measured",
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
        #expect(charts.map(\.panels.count) == [1, 1])
        #expect(charts[0].panels[0].bars.map(\.figure) == ["5 %", "7.25 %"])
        #expect(charts[1].panels[0].bars.map(\.label) == ["whole 64", "d 64", "d imix", "d 64"])
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

    @Test("A chart finds room for long names, and draws what is no length as nothing")
    func fitting() {
        let bars = [Double.nan, -3, 4].map {
            BarChart.Bar(
                label: String(repeating: "x", count: 40), colour: "own", parts: [$0], figure: "f")
        }
        let chart = BarChart.fitting("t", [.init(title: "p", bars: bars)])
        #expect(chart.labelWidth > 200 && chart.columnCount == 2)
        #expect(chart.panels[0].bars.map(\.parts) == [[0], [0], [4]])
        #expect(BarChart.telling(["64 d a", "64 d b"]) == ["a", "b"])
        #expect(BarChart.telling(["64 d", "64 d", "64 d x"]) == ["64 d", "64 d", "x"])
        #expect(BarChart.telling(["64 d"]) == ["64 d"])
    }

    @Test("What is no result is refused in words that name the file and the fault")
    func wrong() {
        #expect(complaint("") == "a.json: the file is empty")
        for text in ["{", "[1]", "7", "{\"schema\": 3}", "\u{0}"] {
            #expect(complaint(text) == "a.json: no JSON object with a schema", "\(text)")
        }
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
