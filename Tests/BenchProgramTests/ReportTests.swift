import CleaveHost
import CleaveProgramSupport
import Foundation
import Testing

@testable import CleaveBench
@testable import cleave_bench

@Suite("Reports")
struct ReportTests {
    private func result(_ change: (inout BenchResult) -> Void = { _ in }) throws -> BenchResult {
        var one = BenchCase()
        one.packet = "1500"
        one.slots = 64
        var verify = Verification()
        verify.packets = 4096
        var memory = BenchMemory()
        memory.dataBytes = 256 * 4096
        memory.headerBytes = 256 * 128
        var result = BenchResult(
            benchCase: one, uniformPacketBytes: 1500, meanPacketBytes: 1500,
            mpps: try #require(Spread([4.25, 4, 4.5])), gbps: try #require(Spread([51, 48, 54])),
            deviceCyclesPerPacket: try #require(Spread([204.6, 198.5, 230])),
            driverCycles: DriverCycles(
                refill: try #require(Spread([20])), harvest: try #require(Spread([25])),
                giveBack: try #require(Spread([7.25])),
                total: try #require(Spread([52.25, 50, 60]))),
            consumerCyclesPerPacket: try #require(Spread([0])),
            packets: 1000, split: 990, fallback: ["noSlot": 3, "notSplittable": 7],
            dropped: [:], claimRetries: 0, verify: verify, memory: memory, notes: [])
        result.bufferUse = BufferUse(
            descriptorsPerPacket: 1, bytesHeldPerPacket: 4224, wastedShare: 0.625)
        result.payload = PayloadPlaces(
            packets: 4096, alone: 4096, pageAligned: 2048, headerAreas: 1)
        change(&result)
        return result
    }

    private func report(_ results: [BenchResult]) -> BenchReport {
        BenchReport(
            machine: MachineFacts.current(), mode: .oneCore, repeats: 3, results: results,
            warnings: ["A \"warning\",\nof two lines \u{1} \\."])
    }

    private func whole() throws -> BenchResult {
        try result {
            $0.benchCase.method = .whole
            $0.benchCase.packet = "configs/captures/a,b.pcap"
            $0.split = 0
            $0.fallback = [:]
            $0.memory.headerBytes = 0
            $0.dropped = ["noBuffer": 12]
            $0.verify.corrupt = 2
            $0.verify.lost = 1
            $0.notes = ["small pages"]
            $0.gbps.max = .nan
            $0.mpps.max = .infinity
        }
    }

    @Test("The table is aligned, and what it cannot hold stands below")
    func table() throws {
        let text = ReportText(style: .plain, isQuiet: true).text(
            report([try result(), try whole()]))
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines.count == 10)
        let widths = lines[2...3].map(\.count)
        #expect(widths[0] == widths[1])
        #expect(widths[0] <= 140)
        #expect(
            lines[2].split(separator: " ").map(String.init) == [
                "1500", "d/usedLength", "mergeable", "4.25", "51.00", "205", "(198-230)", "52.2",
                "(50.0-60.0)", "99.0", "1.0", "0", "32.00", "3.1", "4096/0",
            ])
        #expect(lines[5] == "1500 d/usedLength mergeable: placed whole: notSplittable 7, noSlot 3")
        #expect(lines[6] == "configs/captures/a,b.pcap whole mergeable: dropped: noBuffer 12")
        #expect(lines[7].hasSuffix(": verification: 2 corrupt, 1 lost"))
        #expect(lines[8].hasSuffix(": small pages"))
    }

    @Test("Facts, warnings and legend frame the table unless it is to be quiet")
    func frame() throws {
        let text = ReportText(style: .plain).text(report([try result()]))
        #expect(text.contains("mode     one-core, 3 timed passes"))
        #expect(text.contains("warning: A \"warning\""))
        #expect(text.contains("\nrate: of delivered packets, median of one thread"))
        #expect(text.contains("\nprogram  \(ProgramRecord.current.version) (commit "))
        #expect(!text.contains("\u{1B}"))
    }

    @Test("JSON is valid whatever is in it, and carries every figure")
    func json() throws {
        let text = ResultJSON.text(
            BenchDocument(report([try result(), try whole()]), command: ["a b", "--json"]))
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(object["schema"] as? String == "cleave-bench/1")
        #expect(object["mode"] as? String == "one-core")
        #expect(object["command"] as? [String] == ["a b", "--json"])
        #expect(object["warnings"] as? [String] == ["A \"warning\",\nof two lines \u{1} \\."])
        #expect((object["machine"] as? [String: Any])?["cpuModel"] is String)
        let runs = try #require(object["runs"] as? [[String: Any]])
        let split = runs[0]
        #expect(split["method"] as? String == "d")
        #expect(split["report"] as? String == "usedLength")
        #expect(split["ring"] as? String == "split")
        #expect(split["buffers"] as? String == "mergeable")
        #expect(split["packetBytes"] as? Int == 1500)
        #expect(split["slots"] as? Int == 64)
        #expect(split["sharedHeaderQueue"] as? Bool == true)
        #expect(
            split["deviceCyclesPerPacket"] as? [String: Double]
                == ["median": 204.6, "min": 198.5, "max": 230, "q1": 201.55, "q3": 217.3])
        #expect(
            split["mpps"] as? [String: Double]
                == ["median": 4.25, "min": 4, "max": 4.5, "q1": 4.125, "q3": 4.375])
        #expect(split["packets"] as? Int == 1000)
        #expect(split["split"] as? Int == 990)
        #expect(split["fallback"] as? [String: Int] == ["noSlot": 3, "notSplittable": 7])
        #expect(split["dropped"] as? [String: Int] == [:])
        #expect(
            split["verify"] as? [String: Int] == ["packets": 4096, "corrupt": 0, "lost": 0])
        #expect(
            split["memory"] as? [String: Double]
                == ["dataBytes": 1_048_576, "headerBytes": 32768, "headerPercent": 3.125])
        let cycles = try #require(split["driverCycles"] as? [String: [String: Double]])
        #expect(
            cycles["refill"] == ["median": 20, "min": 20, "max": 20, "q1": 20, "q3": 20])
        #expect(cycles["harvest"]?["median"] == 25 && cycles["return"]?["median"] == 7.25)
        #expect(
            cycles["total"]
                == ["median": 52.25, "min": 50, "max": 60, "q1": 51.125, "q3": 56.125])
        #expect(cycles["total"] == split["driverCyclesPerPacket"] as? [String: Double])
        let shares = ["wastedShare": 0.625, "payloadAloneShare": 1, "pageAlignedShare": 0.5]
        for (key, share) in shares { #expect(split[key] as? Double == share, "\(key)") }
        #expect(split["descriptorsPerPacket"] as? Double == 1)
        #expect(split["bytesHeldPerPacket"] as? Double == 4224)
        let whole = runs[1]
        #expect(whole["report"] is NSNull)
        #expect(whole["packetBytes"] as? String == "a,b.pcap")
        #expect((whole["gbps"] as? [String: Any])?["max"] is NSNull)
        #expect(whole["notes"] as? [String] == ["small pages"])
    }

    @Test("JSON keys come in the order that is declared")
    func keyOrder() throws {
        let text = ResultJSON.text(Samples.document(report([try result()])))
        let keys = [
            "schema", "program", "version", "started", "machine", "mode", "command", "warnings",
            "runs", "name", "method", "report",
            "ring", "buffers", "ringSize", "burst", "rqs", "sharedHeaderQueue", "packetBytes",
            "gbps", "deviceCyclesPerPacket", "driverCyclesPerPacket", "packets", "split",
            "fallback", "dropped", "verify", "memory", "passes",
        ]
        var rest = text[...]
        for key in keys {
            let range = rest.range(of: "\"\(key)\": ")
            #expect(range != nil, "\(key)")
            if let range { rest = rest[range.upperBound...] }
        }
    }

    @Test("CSV has one row per case, as many fields as its heading, and quotes what needs it")
    func csv() throws {
        let document = Samples.document(report([try result(), try whole()]))
        let text = ReportCSV.text(document)
        let rows = text.split(separator: "\n").map(String.init)
        #expect(rows.count == 3)
        #expect(rows[0].hasPrefix("name,mode,method,report,ring,buffers,ringSize,burst,rqs,"))
        #expect(
            rows[1]
                == "1500 d/usedLength mergeable,one-core,d,usedLength,split,mergeable,256,32,1,"
                + "true,128,64,4096,128,false,false,none,false,1500,4.25,4.0,4.5,51.0,48.0,54.0,"
                + "204.6,198.5,230.0,"
                + "52.25,50.0,60.0,0.0,0.0,0.0,20.0,20.0,20.0,25.0,25.0,25.0,7.25,7.25,7.25,"
                + "1000,990,10,noSlot=3;notSplittable=7,0,,0,0,0,4096,0,0,"
                + "1048576,32768,3.125,1.0,4224.0,0.625,1.0,0.5,1,,"
                + "tail,all,0,false,0,false,false,"
                + "4.125,4.375,49.5,52.5,201.55,217.3,51.125,56.125,0.0,0.0,20.0,20.0,25.0,25.0,"
                + "7.25,7.25")
        #expect(
            rows[1].split(separator: ",", omittingEmptySubsequences: false).count
                == ReportCSV.heading.count)
        #expect(rows[2].contains(",\"a,b.pcap\",4.25,4.0,,51.0,48.0,,"))
    }

    @Test("Every axis of a case is in JSON and in CSV, and JSON says all that a name is made of")
    func axes() throws {
        let keys = Set(Mirror(reflecting: RunRecord(try result())).children.compactMap(\.label))
        for (axis, value) in Self.values {
            var one = try result().benchCase
            try axis.set(SettingValue(text: value), in: &one)
            var changed = try result()
            changed.benchCase = one
            let read = RunRecord(changed).benchCase
            #expect(axis.label(of: read) == axis.label(of: one), "\(axis)")
            var other = read
            other.name = one.name
            // What a case had by default, a record says.
            let slotReturn = one.slotReturn
            one.slotReturn = slotReturn
            #expect(other == one, "\(axis)")
            #expect(keys.contains(axis.key) && ReportCSV.heading.contains(axis.key), "\(axis)")
        }
        #expect(Set(Self.values.map(\.0)).count == Axis.allCases.count)
    }

    /// A value for each axis that is not what a case begins with.
    private static let values: [(Axis, String)] = [
        (.packet, "imix"), (.method, "a"), (.report, "netHeader"), (.ring, "packed"),
        (.buffers, "chained"), (.ringSize, "512"), (.burst, "8"), (.rqs, "2"),
        (.slotSize, "256"), (.slots, "32"), (.bufferSize, "2k"), (.headerBuffer, "256"),
        (.inOrder, "true"), (.sharing, "0/1"), (.imbalance, "50"),
        (.slotReturn, "ring"), (.hashReport, "true"), (.splitThreshold, "64"), (.tiny, "true"),
        (.zeroPad, "true"), (.alignPayload, "true"), (.consumer, "copy"), (.reads, "true"),
    ]

    @Test("What is written is read as the same; no number is read as none")
    func roundTrip() throws {
        let document = BenchDocument(
            report([try result(), try whole()]), command: ["x y"],
            claims: [Claim(id: 1, title: "t", figures: [])])
        let text = ResultJSON.text(document)
        let read = try ResultJSON.read(
            BenchDocument.self, from: Data(text.utf8), path: "a", what: "b")
        #expect(ResultJSON.text(read) == text)
        #expect(read.runs[1].gbps.max.isNaN && read.runs[1].packetBytes == .name("a,b.pcap"))
    }

    @Test("A packet that is wrong or lost is a failure at run time")
    func verification() throws {
        #expect(Measuring.failure(report([try result()])) == nil)
        let failure = Measuring.failure(report([try result(), try whole()]))
        #expect(failure?.exitCode == 1)
        #expect(failure?.description.hasSuffix("2 corrupt and 1 lost of 4096") == true)
    }

    @Test("Numbers for people")
    func numbers() {
        #expect(
            [0.9, 14.312, 99.999, 204.66, 1146.4].map(Numbers.rate)
                == ["0.90", "14.31", "100.0", "204.7", "1146"])
        #expect(Numbers.cycles(.nan) == "-")
        #expect(Numbers.percent(0, of: 0) == "-")
        #expect(Numbers.percent(1, of: 1_000_000) == "<0.1")
        #expect(Numbers.percent(999_999, of: 1_000_000) == "99.9")
        #expect(
            [0, 1023, 1536, 1 << 20, 3 << 40].map(Numbers.bytes)
                == ["0 B", "1023 B", "1.5 KiB", "1 MiB", "3 TiB"])
    }
}
