import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet
import Foundation
import FoundationXML
import Testing

@testable import cleave_bench

@Suite("Comparison of methods")
struct ComparisonTests {
    /// Every method and report on both rings.
    private func all(_ packet: String) -> [BenchResult] {
        RingFormat.allCases.reversed().flatMap { ring in
            RxMethod.Kind.allCases.reversed().flatMap { method in
                (method == .d ? HeaderReport.allCases : [.usedLength]).map {
                    Samples.result(packet, method, ring: ring, report: $0)
                }
            }
        }
    }

    @Test("Columns go by ring, then from whole to D; groups by traffic, in the order given")
    func arrangement() {
        let results = all("64") + all("/a/b/linux.pcap") + all("imix")
        let comparison = Comparison(Samples.runs(results))
        #expect(comparison.groups.map(\.title) == ["64 B", "linux", "imix"])
        #expect(comparison.columns.count == 2 * (RxMethod.Kind.allCases.count + 1))
        #expect(comparison.rings == ["split", "packed"])
        let labels = comparison.columns(of: "packed").map(\.label)
        #expect(labels.first == "whole")
        #expect(Array(labels.suffix(2)) == ["D used", "D net"])
        #expect(comparison.groups.allSatisfy { $0.runs.count == comparison.columns.count })
    }

    @Test("A report that this version does not have keeps its name")
    func retiredReport() {
        let columns = ["netHeader", "usedElement", "usedLength"].map {
            Comparison.Column(ring: "split", method: "d", report: $0)
        }
        #expect(columns.map(\.label) == ["D net", "D usedElement", "D used"])
        #expect(Comparison.Column(ring: "split", method: "d", report: nil).label == "D")
    }

    @Test("What cases differ in beside method and traffic stands in the title")
    func conditions() {
        let results = [2048, 4096].map { size in
            Samples.result("64", .whole) { $0.benchCase.bufferByteCount = size }
        }
        let titles = Comparison(Samples.runs(results)).groups.map(\.title)
        #expect(titles == ["64 B, buffer 2048", "64 B, buffer 4096"])
        // Equal cases under one name: they still get a column each.
        let twins = Comparison(Samples.runs([Samples.result(), Samples.result()]))
        #expect(twins.groups.map(\.title) == ["1500 B", "1500 B"])
        #expect(Comparison([]).groups.isEmpty)
    }

    @Test("The table has a block for each traffic and fits 120 columns with every method")
    func table() throws {
        let report = Samples.report(all("9000") + all("linux-mtu9000.pcapng"))
        let text = ComparisonText(style: .plain, isQuiet: true).text(report)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.allSatisfy { $0.count <= 120 })
        let figures = ComparisonFigure.all(Samples.document(report))
        #expect(lines.count >= 2 * (figures.count + 2) + 2)
        for name in figures.map(\.name) {
            #expect(lines.count { $0.trimmingCharacters(in: .whitespaces).hasPrefix(name) } == 2)
        }
        let device = try #require(lines.first { $0.hasPrefix("  device cycles") })
        let cells = device.split(separator: " ").dropFirst(2)
        #expect(cells.count == 2 * (RxMethod.Kind.allCases.count + 1))
        #expect(cells.allSatisfy { $0 == "100" })
        let frame = ComparisonText(style: .plain).text(report)
        #expect(frame.contains("\ncpu ") || frame.hasPrefix("cpu "))
        #expect(frame.contains("D used, D net: header queue"))
    }

    // MARK: The page

    private final class Reader: NSObject, XMLParserDelegate {
        var counts: [String: Int] = [:]
        var attributes: [(String, String)] = []
        var text = ""

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
            qualifiedName: String?, attributes: [String: String]
        ) {
            counts[name, default: 0] += 1
            self.attributes += attributes.map { ($0.key, $0.value) }
        }

        func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }
    }

    private func read(_ page: String) throws -> Reader {
        let reader = Reader()
        let parser = XMLParser(data: Data(page.utf8))
        parser.delegate = reader
        try #require(parser.parse(), "line \(parser.lineNumber): \(page.count) characters")
        return reader
    }

    private let nasty = "<script src=\"x\">&amp; \u{1} ]]> 'quoted' \u{FFFE} é"

    @Test("The page is well-formed whatever is in it, and carries every figure")
    func wellFormed() throws {
        var results = all("64") + all("1500")
        results[0].benchCase.name = nasty
        results[0].dropped = ["noBuffer": 7]
        results[1].notes = [nasty]
        results[2].deviceCyclesPerPacket.median = .nan
        results[3].bufferUse.bytesHeldPerPacket = .infinity
        results[4].driverCycles.total.max = .infinity
        var report = Samples.report(results)
        report.warnings = [nasty]
        let document = BenchDocument(report, command: ["cleave-bench", nasty])
        let page = ComparisonPage.text(document)
        #expect(page.hasPrefix("<!DOCTYPE html>\n<html "))
        let reader = try read(page)
        // Two rings: device, driver, memory.
        #expect(reader.counts["figure"] == 6)
        #expect(reader.counts["table"] == 2)
        #expect(reader.counts["script"] == nil)
        // Device, driver in three parts, memory in two: six bars for a result.
        #expect((reader.counts["rect"] ?? 0) >= 6 * results.count)
        for figure in ComparisonFigure.all(document) { #expect(reader.text.contains(figure.name)) }
        for word in ["dropped: noBuffer 7", "<script src=\"x\">&amp;", "'quoted'"] {
            #expect(reader.text.contains(word), "\(word)")
        }
        for (_, value) in reader.attributes {
            #expect(!value.contains("nan") && !value.contains("inf"), "\(value)")
        }
    }

    @Test("The page needs nothing but itself")
    func selfContained() throws {
        let page = ComparisonPage.text(Samples.document(Samples.report(all("64"))))
        let reader = try read(page)
        let names = Set(reader.counts.keys)
        #expect(names.isDisjoint(with: ["script", "link", "img", "iframe", "object", "use", "a"]))
        for (name, value) in reader.attributes {
            #expect(!["src", "href", "xlink:href", "srcset"].contains(name))
            #expect(!value.contains("://"), "\(name)=\(value)")
        }
        for word in ["url(", "@import", "javascript:"] { #expect(!page.contains(word)) }
        #expect(page.contains("prefers-color-scheme: dark"))
    }

    @Test("A page about nothing is still a page")
    func empty() throws {
        let page = ComparisonPage.text(Samples.document(Samples.report([])))
        #expect(try read(page).counts["h1"] == 1)
    }

    @Test("Bars are as long as their figures, within their panel")
    func bars() throws {
        let bars = [50.0, 100].map {
            BarChart.Bar(label: "x", colour: "m-d", parts: [$0 / 2, $0 / 2], figure: "\($0)")
        }
        let chart = BarChart("t", [.init(title: "p", bars: bars)])
        let markup = Markup.element("div", [:], chart.markup)
        let drawn = markup.split(separator: "<g>").dropFirst().joined(separator: "<g>")
        let widths = drawn.matches(of: /<rect [^>]*width="([0-9.]+)"/).compactMap {
            Double($0.1)
        }
        #expect(widths.count == 4)
        #expect(abs(widths[2] - 2 * widths[0]) < 0.2 && widths[0] == widths[1])
        // The drawing fits the window of a telephone.
        let all = try read(markup).attributes.filter { $0.0 == "width" }
            .compactMap { Double($0.1) }
        #expect((all.max() ?? 0) <= 360)
    }
}
