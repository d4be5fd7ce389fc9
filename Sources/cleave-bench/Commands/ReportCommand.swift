import ArgumentParser
import CleaveHost
import CleaveProgramSupport
import Glibc

/// Joins files of results into one page.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Join files of results into one page of charts and tables.",
        discussion: """
            Reads what --json wrote: by run, compare-methods, claims, scale, latency, profile \
            and zerocopy, and by the benchmarks beside DPDK (make bench-dpdk, bench-parser) and \
            beside other rings (make bench-rings). The page has a section for each file with its \
            machine and command, and needs no network.

            Examples:
              cleave-bench report methods.json scale.json profile.json
              cleave-bench report claims.json dpdk.json --html peers.html
            """)

    @Argument(help: .init("Files that --json wrote.", valueName: "file.json"))
    var files: [String]

    @Option(
        help: .example(
            "Where the page goes; - is standard output.", "--html results.html", "file"))
    var html = "cleave-report.html"

    func run() throws {
        if let same = files.first(where: { Self.place($0) == Self.place(html) }) {
            throw Failure.usage("\(same): --html would replace a file of results by the page")
        }
        let documents = try files.map { path throws(Failure) in try ResultDocument(path: path) }
        let page = ReportPage(documents: documents)
        let count = files.count == 1 ? "1 file" : "\(files.count) files"
        try ResultFiles(["--html": html]).fill(
            { _ in page.text }, table: "wrote \(html): \(count) of results\n")
    }

    private static func place(_ path: String) -> String {
        let real = PathText.withBytes(path) { realpath($0, nil) }
        defer { free(real) }
        return real.map {
            PathText.text([UInt8](UnsafeRawBufferPointer(start: $0, count: strlen($0))))
        }
            ?? path
    }
}
