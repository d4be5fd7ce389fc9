// What people see on a terminal: tables that fit, figures that are marked, time that is left.
import CleaveProgramSupport
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Text")
struct TextTests {
    private func table(_ rows: [[String]]) -> TextTable {
        var table = TextTable(columns: [
            .init("case", alignment: .left), .init("rate", "Mpps"), .init("drops", rank: 1),
            .init("headers", "KiB", rank: 3), .init("", "%", rank: 2),
        ])
        for row in rows { table.append(row) }
        return table
    }

    private func lines(_ rows: [[String]], width: Int) -> [String] {
        let text = table(rows).text(style: .plain(width: width))
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= width }, "\(text)")
        return text.split(separator: "\n").map(String.init)
    }

    private let rows = [
        ["first case", "14.31", "0", "32.00", "3.1"], ["b", "2", "0", "16.00", "-"],
    ]

    @Test("A table that fits is whole")
    func whole() {
        let natural = table(rows).naturalWidth
        #expect(lines(rows, width: max(40, natural)).count == 4)
        #expect(table(rows).text(style: .plain).contains("drops"))
        #expect(!table(rows).text(style: .plain).contains("in every row"))
    }

    @Test("First goes what all rows share, then the columns of the highest rank, last the words")
    func narrow() {
        // Without the drops there is room.
        #expect(
            lines(rows, width: 33) == [
                "case         rate  headers", "             Mpps      KiB    %",
                "first case  14.31    32.00  3.1", "b               2    16.00    -",
                "in every row: drops 0",
            ])
        #expect(
            lines(rows, width: 24)
                == [
                    "case         rate", "             Mpps    %", "first case  14.31  3.1",
                    "b               2    -", "in every row: drops 0", "no room here for: headers",
                    "  KiB",
                ].map { $0 == "no room here for: headers" ? "no room here for:" : $0 }
                .map { $0 == "  KiB" ? "  headers KiB" : $0 })
        let long = [["a name of several words", "14.31", "0", "1", "2"]]
        let text = lines(long, width: 23)
        #expect(text[2...3] == ["a name of", "  several words   14.31"])
    }

    @Test("A row in which only the first column says anything takes the whole line")
    func headings() {
        let rows = [
            ["a heading of many words to read", "", "", "", ""], ["b", "2", "0", "16.00", "-"],
        ]
        #expect(lines(rows, width: 32)[2] == "a heading of many words to read")
    }

    @Test("Words are broken at blanks; blanks at the beginning stay")
    func wrap() {
        #expect(
            TextWrap.lines("aa bb  cc dd", width: 8, indentation: 2) == ["aa bb", "  cc dd"])
        #expect(TextWrap.lines("  aa bb", width: 5, indentation: 4) == ["  aa", "    bb"])
        #expect(TextWrap.lines("aaaaaaaa b", width: 4, indentation: 1) == ["aaaaaaaa", " b"])
        #expect(TextWrap.lines("aa bb", width: nil, indentation: 2) == ["aa bb"])
        #expect(TextWrap.text("aa bb\n\ncc\n", width: 3) == "aa\nbb\n\ncc\n")
    }

    @Test("A report fits 80, 120 and 200 columns, and says once what cases share")
    func report() {
        let packets = ["64", "1500", "configs/captures/linux-mtu1500.pcap"]
        let results = packets.flatMap { packet in
            [
                Samples.result(packet, .whole), Samples.result(packet),
                Samples.result(packet, report: .netHeader) {
                    $0.benchCase.consumer = .copy
                    $0.notes = [
                        "guest memory: asked for 2 MiB pages, got small pages: 2 MiB pages: "
                            + "\(packet.count) needed, 0 free (sysctl vm.nr_hugepages=512)",
                        "RQ memory: asked for 2 MiB pages, got small pages: 2 MiB pages: "
                            + "\(packet.count) needed, 0 free (sysctl vm.nr_hugepages=512)",
                    ]
                },
            ]
        }
        var report = Samples.report(results)
        report.warnings = report.machine.warnings + ["Twice said.", "Twice said."]
        for width in [80, 120, 200] {
            let text = ReportText(style: .plain(width: width)).text(report)
            #expect(text.split(separator: "\n").allSatisfy { $0.count <= width }, "\(text)")
            #expect(text.ranges(of: "Twice said.").count == 1)
            let joined = text.replacing(/\n +/, with: " ")
            #expect(
                joined.contains(
                    "3 of 9 cases: guest memory, RQ memory: asked for 2 MiB pages, got small "
                        + "pages: 2 MiB pages: 2 to 35 needed, 0 free "
                        + "(sysctl vm.nr_hugepages=512)"),
                "\(text)")
            #expect(text.contains("all cases: mergeable\n") == (width < 140))
            #expect(text.contains("in every row: ") == (width < 140))
            #expect(text.contains("no room here for: ") == (width == 80))
        }
    }

    // MARK: Noise

    @Test("A median is marked if the middle half of the passes is wide, and one line says so")
    func noise() throws {
        let quiet = try #require(Spread([98, 99, 100, 101, 400]))
        let noisy = try #require(Spread([80, 90, 100, 130, 140]))
        #expect(!quiet.isNoisy && noisy.isNoisy)
        #expect(Numbers.cycles(quiet) == "100 (98.0-400)")
        #expect(Numbers.cycles(noisy) == "100~ (80.0-140)")
        #expect(Numbers.cycles(Spread([7])!) == "7.0" && Spread([7])!.noise == 0)
        #expect(Spread([0, 0])!.noise == nil && Spread(median: 4, min: 1, max: 8).isNoisy)
        #expect(Numbers.cycles(Spread([.nan, .nan])!) == "-")
        #expect(Spread([.nan, 3, 5])?.median == 4)
        let report = Samples.report([
            Samples.result(), Samples.result("64") { $0.mpps = noisy },
        ])
        let text = ReportText(style: .plain, isQuiet: true).text(report)
        #expect(text.contains("100.0~"))
        #expect(text.ranges(of: "~ the middle half of the passes").count == 1)
        #expect(text.contains("(1 of 2 cases)"))
        let calm = ReportText(style: .plain, isQuiet: true).text(
            Samples.report([Samples.result()]))
        #expect(!calm.contains("~"))
    }

    @Test("Quartiles are between, in proportion")
    func quartiles() {
        let spread = Spread([1, 2, 3, 4])
        #expect(spread?.median == 2.5 && spread?.q1 == 1.75 && spread?.q3 == 3.25)
        #expect(Spread([5])?.q1 == 5 && Spread([5])?.q3 == 5)
        #expect(Spread(median: 2, min: 1, max: 3).middle == 1...3)
        #expect(spread?.middle == 1.75...3.25)
    }

    @Test("What sharing adds is not told where passes lie too far apart")
    func sharing() throws {
        func results(_ cycles: [Double]) -> [BenchResult] {
            [true, false].map { isShared in
                Samples.result("64") {
                    ($0.benchCase.rqs, $0.benchCase.sharedHeaderQueue) = (2, isShared)
                    let all = isShared ? cycles : [50, 50, 50]
                    $0.deviceCyclesPerPacket = Spread(all)!
                    $0.passes = all.map {
                        PassRecord(seconds: 1, packets: 1, bytes: 64, deviceCyclesPerPacket: $0)
                    }
                }
            }
        }
        func report(_ cycles: [Double]) -> ScaleReport {
            var report = ScaleReport(machine: .current(), warnings: [])
            report.oneCore = Samples.report(results(cycles))
            return report
        }
        let quiet = try #require(report([55, 55, 56]).pairs.first)
        #expect(quiet.overheadPercent.map { abs($0 - 10) < 1e-9 } == true)
        #expect(quiet.overheadByPass.map { abs($0.max - 12) < 1e-9 } == true)
        let noisy = report([55, 500, 12_000])
        #expect(noisy.pairs.first?.overheadPercent == nil)
        let document = ScaleDocument(noisy, command: [])
        #expect(document.sharing[0].deviceOverheadPercent == nil)
        #expect(document.sharing[0].deviceOverheadByPass?.median == 900)
        let text = ScaleText(style: .plain, isQuiet: true).text(noisy)
        #expect(!text.contains("+10.0 "), "\(text)")
    }

    // MARK: Progress

    @Test("The time left is told as soon as steps like those to come have been seen")
    func timeLeft() {
        var clock = StepClock()
        func left(_ phase: BenchProgress.Phase, _ done: Int, _ time: Double) -> Double? {
            clock.secondsLeft(
                BenchProgress(phase: phase, done: done, total: 10, name: "x"), at: time)
        }
        // Two cases, three passes of each.
        #expect(left(.verifying, 0, 0) == nil)
        #expect(left(.verifying, 1, 5) == nil)
        #expect(left(.warmingUp, 2, 10) == nil)
        // A warm-up took a second: another one, and six passes of four seconds.
        #expect(left(.warmingUp, 3, 11) == 25)
        #expect(left(.measuring, 4, 12) == 24)
        // A pass took two, then the next took eight.
        #expect(left(.measuring, 5, 14) == 10)
        #expect(left(.measuring, 9, 22) == 5)
    }

    @Test("The progress line names step, time, phase and case")
    func progress() {
        let progress = BenchProgress(phase: .warmingUp, done: 3, total: 40, name: "64 whole")
        #expect(ProgressLine.text(progress, nil) == "[ 3/40] warming up 64 whole")
        #expect(ProgressLine.text(progress, 12.4) == "[ 3/40] 12 s left: warming up 64 whole")
        #expect(ProgressLine.text(progress, 200).hasPrefix("[ 3/40] 3 min left: "))
    }
}
