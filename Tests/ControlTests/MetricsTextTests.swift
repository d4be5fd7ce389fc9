import CleaveHost
import CleavePorts
import CleaveSwitch
import Foundation
import Testing

@testable import CleaveControl

@Suite("Metrics")
struct MetricsTextTests {
    /// Two ports, one with a name that needs escapes, every count another number.
    static func statistics() -> SwitchStatistics {
        var next: UInt64 = 0
        func fresh() -> UInt64 {
            next += 1
            return next
        }
        var ports: [PortStatistics] = []
        for name in ["guest", "a\\b\"c\nd"] {
            var port = PortStatistics(
                name: name, serial: UInt64(ports.count), type: .vhostUser)
            for number in 0..<2 {
                var queue = QueueStatistics(number: number)
                for count in QueueCounters.counts {
                    queue.in[keyPath: count] = fresh()
                    queue.out[keyPath: count] = fresh()
                }
                queue.in.dropped = ["tooLong": fresh()]
                queue.out.dropped = ["noBuffer": fresh(), "runt": 0]
                queue.out.whole = ["noSlot": fresh()]
                queue.busyCycles = fresh()
                port.queues.append(queue)
            }
            port.droppedIn = ["samePort": fresh()]
            ports.append(port)
        }
        return SwitchStatistics(
            nanoseconds: 5_000_000_000, cycles: 9_000_000_000, cyclesPerSecond: 2e9, ports: ports,
            threads: [
                ThreadStatistics(number: 0, cpu: 1, busyCycles: 30, idleCycles: 70, packets: 10)
            ])
    }

    /// A reader of its own: names of families with their type and unit, and samples by their text.
    private struct Parsed {
        var types: [String: String] = [:]
        var units: [String: String] = [:]
        var helps: Set<String> = []
        var samples: [String: UInt64] = [:]
        var lines: [String] = []

        init(_ text: String) throws {
            #expect(text.hasSuffix("\n"))
            lines = text.dropLast().split(separator: "\n", omittingEmptySubsequences: false)
                .map(String.init)
            var family = ""
            for line in lines where line != "# EOF" {
                let words = line.split(separator: " ", maxSplits: 3).map(String.init)
                if words[0] == "#" {
                    try #require(words.count == 4)
                    family = words[2]
                    switch words[1] {
                    case "TYPE":
                        #expect(types.updateValue(words[3], forKey: family) == nil)
                    case "UNIT": units[family] = words[3]
                    case "HELP": #expect(helps.insert(family).inserted)
                    default: Issue.record("\(line)")
                    }
                    continue
                }
                let blank = try #require(line.lastIndex(of: " "))
                let key = String(line[..<blank])
                // A sample belongs to the family that was declared last.
                #expect(key.hasPrefix(family), "\(line)")
                let value = try #require(UInt64(line[line.index(after: blank)...]), "\(line)")
                #expect(samples.updateValue(value, forKey: key) == nil, "twice: \(line)")
            }
        }
    }

    @Test("Both texts have each value of each registered counter once, under its name and labels")
    func complete() throws {
        let statistics = Self.statistics()
        for format in [MetricsText.Format.openMetrics, .prometheus] {
            let parsed = try Parsed(MetricsText.text(statistics, version: "1.2.3", format))
            var count = 1
            for counter in CounterRegistry.all {
                let samples = counter.samples(statistics)
                count += samples.count
                if samples.isEmpty { continue }
                let sampleName = MetricsText.sampleName(counter)
                let family =
                    format == .openMetrics ? "cleave_vhost_" + counter.name : sampleName
                #expect(parsed.types[family] == counter.kind.rawValue)
                #expect(parsed.helps.contains(family))
                #expect(
                    parsed.units[family]
                        == (format == .openMetrics ? counter.unit?.rawValue : nil))
                for sample in samples {
                    let labels = zip(counter.labels, sample.labels).map { label, value in
                        let escaped = value.replacing("\\", with: "\\\\")
                            .replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
                        return "\(label.rawValue)=\"\(escaped)\""
                    }.joined(separator: ",")
                    let key = labels.isEmpty ? sampleName : "\(sampleName){\(labels)}"
                    #expect(parsed.samples[key] == sample.value, "\(key)")
                }
            }
            #expect(parsed.samples.count == count)
            #expect(parsed.samples["cleave_vhost_build_info{version=\"1.2.3\"}"] == 1)
            #expect((parsed.lines.last == "# EOF") == (format == .openMetrics))
        }
    }

    @Test(
        "The format is the one that a scraper wants most",
        arguments: [
            (nil, MetricsText.Format.prometheus), ("", .prometheus), ("*/*", .prometheus),
            ("text/plain", .prometheus), ("application/openmetrics-text", .openMetrics),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.9", .prometheus),
            // What Prometheus 2.42 sends.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
                    + "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", .openMetrics
            ),
            ("image/png, application/openmetrics-text; q=0", .prometheus),
            (";;,,q=,=", .prometheus),
        ])
    func negotiation(_ header: String?, _ format: MetricsText.Format) {
        #expect(MetricsText.Format(accept: header) == format)
    }

    @Test("/metrics answers with the format's type, other paths say where metrics are")
    func paths() throws {
        let statistics = Self.statistics()
        let request = HTTPRequest(
            path: "/metrics", headers: ["accept": "application/openmetrics-text"])
        let answer = MetricsExport.response(to: request, version: "1") { statistics }
        #expect(answer.status == 200 && answer.contentType.hasPrefix("application/openmetrics"))
        #expect(
            answer.body == Array(MetricsText.text(statistics, version: "1", .openMetrics).utf8))
        let silent = MetricsExport.response(to: request, version: "1") { nil }
        #expect(silent.status == 503)
        let other = MetricsExport.response(to: HTTPRequest(path: "/x"), version: "1") { nil }
        #expect(other.status == 404)
    }

    @Test("The textfile is whole at any moment, begins and ends with the owner's figures")
    func textfile() throws {
        let folder = NSTemporaryDirectory() + "cleave-metrics-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var settings = MetricsSettings()
        settings.textfile = folder + "/cleave.prom"
        settings.textfileSeconds = 1
        let statistics = Self.statistics()
        var last = statistics
        last.ports[0].queues[0].in.packets = 777_777
        let export = try MetricsExport(
            settings, now: statistics, busyCPUs: [], version: "1", log: { _ in },
            source: { statistics })
        func content() throws -> String {
            try String(contentsOfFile: folder + "/cleave.prom", encoding: .utf8)
        }
        #expect(try content() == MetricsText.text(statistics, version: "1", .prometheus))
        // Its next write shows as another file under the same name.
        func number() throws -> Int {
            let facts = try FileManager.default.attributesOfItem(atPath: folder + "/cleave.prom")
            return try #require(facts[.systemFileNumber] as? Int)
        }
        let first = try number()
        let end = ContinuousClock.now + .seconds(60)
        while try number() == first && ContinuousClock.now < end {
            #expect(try content().hasSuffix("\n"))
        }
        #expect(try number() != first)
        export.stop(last)
        #expect(try content().contains(" 777777\n"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["cleave.prom"])
    }

    @Test("A textfile that cannot be written is refused by name, and one that no collector reads")
    func badTextfile() {
        for (path, words) in [
            ("/nowhere/at/all/x.prom", "No such file"), ("/tmp/metrics.txt", ".prom"),
        ] {
            var settings = MetricsSettings()
            settings.textfile = path
            let failure = #expect(throws: SetupError.self) {
                _ = try MetricsExport(
                    settings, now: SwitchStatistics(), busyCPUs: [], version: "1",
                    log: { _ in }, source: { nil })
            }
            #expect(failure?.description.contains(path) == true)
            #expect(failure?.description.contains(words) == true)
        }
    }
}
