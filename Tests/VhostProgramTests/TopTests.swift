import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Testing

@testable import CleaveControl
@testable import cleave_vhost

@Suite("top without a terminal")
struct TopTests {
    /// A snapshot, `seconds` after the first: port `number` of `ports` has had 1000 times its
    /// number of packets each second.
    private func statistics(_ seconds: UInt64, ports: Int) -> SwitchStatistics {
        SwitchStatistics(
            nanoseconds: 1_000_000_000 * (seconds + 1), cycles: 2_000_000_000 * (seconds + 1),
            cyclesPerSecond: 2e9,
            ports: (0..<ports).map { number in
                var port = PortStatistics(
                    name: "port\(number)", serial: UInt64(number), type: .vhostUser)
                port.isConnected = true
                port.queues = (0..<2).map { queue in
                    var one = QueueStatistics(number: queue)
                    one.isOpen = true
                    one.in.packets = 500 * UInt64(number) * seconds
                    one.in.bytes = 64 * one.in.packets
                    one.in.bursts = one.in.packets / 25
                    one.out.dropped = ["noBuffer": number == 1 ? 7 * seconds : 0]
                    one.busyCycles = 100 * one.in.packets
                    return one
                }
                return port
            },
            threads: [ThreadStatistics(number: 0, busyCycles: seconds, idleCycles: 3 * seconds)])
    }

    private func model(ports: Int, samples: UInt64 = 3) -> TopModel {
        var model = TopModel()
        for second in 0...samples { model.take(statistics(second, ports: ports)) }
        return model
    }

    private func lines(_ model: TopModel, _ rows: Int, _ columns: Int) -> [String] {
        model.lines(rows: rows, columns: columns, style: .plain)
    }

    @Test(
        "Every screen is exactly as high as the terminal, and no line is wider",
        arguments: [(24, 80), (50, 200), (5, 40), (1, 20), (10, 60)], [0, 1, 3, 100])
    func sizes(_ size: (Int, Int), _ ports: Int) {
        for keys in ["", "h", "ht", "?", "su", "p"] {
            var model = model(ports: ports)
            for key in keys { _ = model.press(.character(key)) }
            if keys == "h" { _ = model.press(.down) }
            let lines = lines(model, size.0, size.1)
            #expect(lines.count == size.0, "\(keys)")
            // A table's first two columns may need more than a window of 40.
            if size.1 >= 60 {
                #expect(lines.allSatisfy { $0.count <= size.1 }, "\(keys) \(lines)")
            }
        }
    }

    @Test("The order follows the keys, and equal ports keep that of the configuration")
    func order() {
        var model = model(ports: 3)
        func names() -> [String] {
            lines(model, 50, 200).filter { $0.hasPrefix("port") && !$0.contains("pps") }
                .compactMap { $0.split(separator: " ").first.map(String.init) }
                .filter { $0 != "port" && !$0.hasSuffix(":") }
        }
        #expect(names() == ["port0", "port1", "port2"])
        _ = model.press(.character("s"))
        #expect(names() == ["port2", "port1", "port0"])
        _ = model.press(.character("r"))
        #expect(names() == ["port0", "port1", "port2"])
        _ = model.press(.character("r"))
        for _ in 0..<3 { _ = model.press(.character("s")) }
        #expect(model.view.order == .drops && names() == ["port1", "port0", "port2"])
        _ = model.press(.character("S"))
        #expect(model.view.order == .busy)
    }

    @Test("Clearing has totals begin anew; rates go on")
    func clear() throws {
        var model = model(ports: 2)
        #expect(try #require(model.shown).ports[1].in.packets == 3000)
        _ = model.press(.character("c"))
        model.take(statistics(4, ports: 2))
        let port = try #require(model.shown).ports[1]
        #expect(port.in.packets == 1000 && port.in.packetsPerSecond == 1000)
        #expect(port.out.dropped == 14 && port.out.drops == ["noBuffer": 14])
    }

    @Test("While it is paused the same sample is shown, and arrows go through the others")
    func pause() throws {
        var model = model(ports: 2)
        let before = try #require(model.shown)
        _ = model.press(.character("p"))
        for second in 4...6 { model.take(statistics(UInt64(second), ports: 2)) }
        #expect(model.shown == before && lines(model, 24, 80)[0].contains("paused, 3 s ago"))
        _ = model.press(.left)
        #expect(try #require(model.shown).time == before.time - 1)
        for _ in 0..<10 { _ = model.press(.left) }
        #expect(model.shown == model.history.first)
        for _ in 0..<10 { _ = model.press(.right) }
        #expect(model.shown == model.history.last)
        _ = model.press(.character(" "))
        #expect(!model.isPaused)
    }

    @Test("Old samples go, and the one that is shown while paused stays in reach")
    func history() {
        var model = TopModel()
        for second in 0...UInt64(TopModel.historyLimit + 20) {
            model.take(statistics(second, ports: 1))
            if second == 10 { _ = model.press(.character("p")) }
        }
        #expect(model.history.count == TopModel.historyLimit)
        #expect(model.shown == model.history.first)
    }

    @Test("A switch that ended and one that came anew are no sample")
    func restart() {
        var model = model(ports: 2)
        model.problem = "/c.sock: nobody listens"
        #expect(lines(model, 24, 80)[1] == "/c.sock: nobody listens")
        model.restart()
        let count = model.history.count
        model.take(statistics(0, ports: 2))
        #expect(model.history.count == count && model.problem == nil)
        model.take(statistics(1, ports: 2))
        #expect(model.history.count == count + 1)
    }

    @Test("q and Ctrl-C end, other keys do not")
    func end() {
        var model = model(ports: 1)
        for key in "pctshuSr?xX1" {
            let goesOn = model.press(.character(key))
            #expect(goesOn)
        }
        for key in "q\u{3}\u{4}" {
            let goesOn = model.press(.character(key))
            #expect(!goesOn)
        }
    }

    @Test("Keys come in pieces of any size")
    func keys() {
        let bytes: [UInt8] = Array("a\u{1B}[A\u{1B}OB\u{1B}[1;5C\u{1B}[D\u{1B}[3~é\u{1B}xq".utf8)
        let wanted: [TopKey] = [
            .character("a"), .up, .down, .right, .left, .character("x"), .character("q"),
        ]
        for size in [1, 2, 3, 100] {
            var rest = bytes[...]
            var input: [UInt8] = []
            var keys: [TopKey] = []
            while !rest.isEmpty {
                input += rest.prefix(size)
                rest = rest.dropFirst(size)
                keys += Terminal.keys(&input)
            }
            #expect(keys == wanted, "pieces of \(size)")
        }
    }

    @Test(
        "Numbers keep three digits",
        arguments: [
            (0, "0"), (7.25, "7.3"), (812, "812"), (999.4, "999"), (1000, "1.00k"), (1234, "1.23k"),
            (12_345, "12.3k"), (999_600, "1.00M"), (14.88e6, "14.9M"), (3e9, "3.00G"), (.nan, "-"),
        ])
    func numbers(_ value: Double, _ text: String) {
        #expect(ActivityText.short(value) == text)
    }

    @Test("Long names are shortened, and told apart", arguments: [false, true])
    func longNames(_ isClosed: Bool) {
        var model = TopModel()
        let stem = String(repeating: "n", count: 58)
        for second in 0...1 {
            var statistics = statistics(UInt64(second), ports: 2)
            for port in 0..<2 {
                statistics.ports[port].name = stem + "-\(port)"
                statistics.ports[port].isConnected = !isClosed
            }
            model.take(statistics)
        }
        for _ in 0..<3 {
            let lines = lines(model, 24, 80)
            #expect(lines.allSatisfy { $0.count <= 80 }, "\(lines)")
            for port in 0..<2 {
                #expect(lines.contains { $0.contains("...nn") && $0.contains("n-\(port)") })
            }
            _ = model.press(.down)
        }
    }

    @Test("A name with commands to a terminal is shown as text")
    func names() {
        var model = TopModel()
        for second in 0...1 {
            var statistics = statistics(UInt64(second), ports: 1)
            statistics.ports[0].name = "\u{1B}[2Jx"
            model.take(statistics)
        }
        _ = model.press(.down)
        _ = model.press(.character("h"))
        #expect(lines(model, 24, 80).allSatisfy { !$0.contains("\u{1B}") })
    }
}
