// What is printed of the counters, for people and for machines.
import CleaveProgramSupport
import CleaveSwitch
import Foundation
import Testing

@testable import cleave_vhost

@Suite("The counters that are printed")
struct CounterReportTests {
    private func statistics(_ names: [String]) -> SwitchStatistics {
        var statistics = SwitchStatistics(
            ports: names.enumerated().map { number, name in
                var port = PortStatistics(name: name, serial: UInt64(number), type: .vhostUser)
                var queue = QueueStatistics(number: 0)
                queue.in.packets = 123_456_789
                port.queues = [queue]
                return port
            }, threads: [ThreadStatistics(number: 0, packets: 5), ThreadStatistics(number: 1)])
        statistics.removed.count = 2
        statistics.removed.in.packets = 7
        return statistics
    }

    @Test("Objects say all that the table says: ports, those that were removed, threads")
    func objects() throws {
        let log = OperatorLog(.json)
        func lines(_ statistics: SwitchStatistics) throws -> [[String: Any]] {
            try log.report(statistics, at: Date()).split(separator: "\n").map {
                try #require(
                    JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }
        }
        func counter(_ line: [String: Any], _ name: String) -> Int? {
            ((line["counters"] as? [String: Any])?[name] as? NSNumber)?.intValue
        }
        var statistics = statistics(["a", "b"])
        let all = try lines(statistics)
        #expect(all.allSatisfy { $0["message"] as? String == "counters" && $0["time"] != nil })
        #expect(all.map { $0["port"] as? String } == ["a", "b", nil, nil, nil])
        #expect(all.map { ($0["removed"] as? NSNumber)?.intValue } == [nil, nil, 2, nil, nil])
        #expect(all.map { ($0["thread"] as? NSNumber)?.intValue } == [nil, nil, nil, 0, 1])
        #expect(counter(all[2], "count") == 2 && counter(all[3], "packets") == 5)
        let removed = (all[2]["counters"] as? [String: Any])?["in"] as? [String: Any]
        #expect((removed?["packets"] as? NSNumber)?.intValue == 7)
        let text = StatisticsText.text(statistics, style: .plain)
        #expect(text.contains("(removed)") && text.contains("switch thread 1: "))
        // Where none was removed neither has a word of it.
        statistics.removed.count = 0
        #expect(try lines(statistics).count == 4)
        #expect(!StatisticsText.text(statistics, style: .plain).contains("(removed)"))
    }

    @Test("Names that differ in their middle alone have lines of their own, whole")
    func middles() {
        let ends = String(repeating: "e", count: 29)
        let names = ["\(ends)-1\(ends)", "\(ends)-2\(ends)"]
        let lines = StatisticsText.text(statistics(names), style: .plain(width: 80))
            .split(separator: "\n").map(String.init)
        #expect(lines.allSatisfy { $0.count <= 80 }, "\(lines)")
        #expect(names.allSatisfy(lines.contains))
        #expect(lines.contains { $0.hasPrefix("    ") && $0.contains("123456789") })
        // Where there is room nothing is shortened.
        #expect(
            StatisticsText.text(statistics(names), style: .plain)
                .contains("\n\(names[0])  123456789"))
    }

    @Test(
        "A name is shortened in its middle, to the width and no further",
        arguments: [
            ("abcdefghijklmnopqrstuvwxyz", 26, "abcdefghijklmnopqrstuvwxyz"),
            ("abcdefghijklmnopqrstuvwxyz", 20, "abcdefgh...rstuvwxyz"),
            ("abcdefghijklmnopqrstuvwxyz", 15, "abcdef...uvwxyz"),
            ("> abcdefghijklmnopqrstuvwxyz", 20, "> abcdefg...stuvwxyz"),
            ("  queue 1", 4, "  queue 1"), ("", 16, ""),
        ])
    func shortening(_ name: String, _ width: Int, _ expected: String) {
        #expect(TextWrap.shortened(name, to: width) == expected)
    }
}
