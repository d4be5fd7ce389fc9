// `cleave-bench report` as a user runs it, and its page in a browser.
import Foundation
import Testing

@testable import cleave_bench

@Suite("Report command")
struct ReportProgramTests {
    private func files(in scratch: Scratch) throws -> [String] {
        try ResultSamples.all.map { try scratch.file($0.0, $0.1.utf8) }
    }

    @Test("It writes where it is told, or beside, and says where")
    func writes() throws {
        let scratch = try Scratch()
        let files = try files(in: scratch)
        let plain = try Program.run(["report"] + files, directory: scratch.path)
        #expect(plain.exitCode == 0 && plain.error.isEmpty, "\(plain.error)")
        #expect(plain.output == "wrote cleave-report.html: 9 files of results\n")
        let page = try String(
            contentsOfFile: scratch.path + "/cleave-report.html", encoding: .utf8)
        #expect(page.hasPrefix("<!DOCTYPE html>"))
        let streamed = try Program.run(["report"] + files + ["--html", "-"])
        #expect(streamed.output == page)
    }

    @Test("It reads what this program writes")
    func ownFiles() throws {
        let scratch = try Scratch()
        let results = "\(scratch.path)/own.json"
        let small = ["--quick", "--packet", "64", "--quiet", "--json", results]
        for command in [["run"], ["scale", "--rqs", "1"], ["profile", "--repeats", "3"]] {
            let made = try Program.run(command + small)
            #expect(made.exitCode == 0, "\(command): \(made.error)")
            let outcome = try Program.run(["report", results, "--html", "-"])
            #expect(outcome.exitCode == 0, "\(command): \(outcome.error)")
            #expect(outcome.output.contains("<svg ") && outcome.output.contains(" --packet 64 "))
            #expect(!outcome.output.contains("not recorded"))
        }
    }

    @Test("Wrong requests: one line, exit code 2, no page")
    func wrong() throws {
        let scratch = try Scratch()
        let good = try scratch.file("good.json", ResultSamples.ring.utf8)
        let bad = try scratch.file("bad.json", "{\"schema\": \"no/1\"}".utf8)
        let requests = [
            [], [bad], [good, bad], [good, "missing.json"], [scratch.path],
            [good, "--html", good], [good, "--html", "no/such/folder.html"],
        ]
        for arguments in requests {
            let outcome = try Program.run(["report"] + arguments, directory: scratch.path)
            #expect(outcome.exitCode == 2, "\(arguments): \(outcome.output)")
            #expect(outcome.error.split(separator: "\n").count == 1, "\(outcome.error)")
            #expect(outcome.output.isEmpty)
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted()
        #expect(left == ["bad.json", "good.json"])
        #expect(try String(contentsOfFile: good, encoding: .utf8) == ResultSamples.ring)
    }

    // MARK: In a browser

    private static let browser: String? = {
        let folders = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return folders.split(separator: ":").map { "\($0)/chromium" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    /// The document after its scripts have run.
    private func dom(of page: String, in scratch: Scratch) throws -> String {
        let file = try scratch.file("page.html", page.utf8)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.browser))
        process.arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=\(scratch.path)/user",
            "--dump-dom", "file://" + file,
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return String(decoding: data, as: UTF8.self)
    }

    @Test(
        "A browser shows every section, chart and table, and sorts",
        .enabled(if: browser != nil, "chromium is not installed"), .timeLimit(.minutes(2)))
    func browserShows() throws {
        let scratch = try Scratch()
        let page = ReportPage(
            documents: try files(in: scratch).map { try ResultDocument(path: $0) }
        ).text
        // Clicks twice on the device cycles of the first table; notes the order after each.
        let click = """
            <script>
              var table = document.querySelector("table.sortable");
              var orders = [];
              for (var turn of [1, 2]) {
                table.tHead.rows[0].cells[5].querySelector("button").click();
                orders.push(Array.from(table.tBodies[0].rows).map(
                  function (row) { return row.cells[5].textContent; }).join("/"));
              }
              document.documentElement.dataset.orders = orders.join(" then ");
            </script></body>
            """
        let dom = try dom(of: page.replacing("</body>", with: click), in: scratch)
        #expect(dom.contains("data-tables=\"\(ResultSamples.tableCount)\""))
        #expect(dom.contains("data-orders=\"9.5/100/1000 then 1000/100/9.5\""))
        #expect(dom.contains("aria-sort=\"descending\""))
        #expect(dom.ranges(of: "<section ").count == ResultSamples.all.count)
        #expect(dom.ranges(of: "<figure>").count == ResultSamples.chartCount)
        #expect(dom.ranges(of: "class=\"sortable\"").count == ResultSamples.tableCount)
    }
}
