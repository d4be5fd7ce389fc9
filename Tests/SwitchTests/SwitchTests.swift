import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveSwitch

@Suite("A switch's life")
struct SwitchTests {
    @Test("Names and wires that cannot be are refused with the name at fault")
    func configurations() {
        func error(_ wires: [(String, String)], _ names: [String]) -> String {
            var configuration = SwitchConfiguration()
            configuration.wires = wires
            do {
                _ = try Switch(configuration, ports: names.map { ScriptedPort($0) }) { _ in }
                return ""
            } catch { return "\(error)" }
        }
        #expect(error([], ["a", "b"]) == "")
        #expect(error([("a", "b")], ["a", "b"]) == "")
        #expect(error([], ["a", "a"]).contains("two ports are named \"a\""))
        #expect(error([("a", "c")], ["a", "b"]).contains("there is no port \"c\""))
        #expect(error([("a", "a")], ["a", "b"]).contains("both ends are port \"a\""))
        #expect(
            error([("a", "b"), ("b", "c")], ["a", "b", "c"]).contains("\"b\" is wired already"))
        #expect(error([("a", "b")], ["a", "b", "c"]).contains("\"c\" is in no wire"))
    }

    @Test("Threads that cannot be are refused")
    func threads() {
        func error(_ threads: [Int?]) -> String {
            var configuration = SwitchConfiguration()
            configuration.threads = threads
            do {
                let joined = try Switch(configuration, ports: [ScriptedPort("a")]) { _ in }
                try joined.open()
                joined.close()
                return ""
            } catch { return "\(error)" }
        }
        #expect(error([]) == "0 switch threads: need 1 to 32")
        #expect(error([Int?](repeating: nil, count: 33)) == "33 switch threads: need 1 to 32")
        #expect(error([0, nil, 0]) == "CPU 0 is given to two switch threads")
        #expect(error([nil, 8191]).contains("CPU 8191"))
        #expect(error([Int?](repeating: nil, count: 32)) == "")
    }

    @Test("Queues are dealt out: queue q of port p is thread p + q's")
    func dealing() throws {
        var configuration = SwitchConfiguration()
        configuration.threads = [nil, nil, nil]
        let ports = [ScriptedPort("a", queues: 4), ScriptedPort("b"), ScriptedPort("c")]
        let joined = try Switch(configuration, ports: ports) { _ in }
        #expect(joined.threadNumbers == [[0, 1, 2, 0], [1], [2]])
    }

    @Test("A port that cannot be opened closes those that were")
    func failedOpen() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        ports[1].failure = SetupError("port b: no such thing")
        let joined = try Switch(SwitchConfiguration(), ports: ports) { _ in }
        #expect(throws: SetupError("port b: no such thing")) { try joined.open() }
        #expect(!ports[0].isOpen)
    }

    @Test("A packet that comes in last before a thread sleeps waits for room no longer than a hold")
    func heldAtBedtime() throws {
        var configuration = SwitchConfiguration()
        configuration.idle = IdlePolicy(.park, pollsBeforePark: 16, wakeMicroseconds: 60_000_000)
        configuration.wires = [("a", "b")]
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        ports[0].scripted[0].atBedtime = [Frame.make(to: Frame.mac(2), from: Frame.mac(1))]
        ports[1].scripted[0].room = 0
        let joined = try Switch(configuration, ports: ports) { _ in }
        try joined.open()
        let end = SystemClock.monotonic + 10_000_000_000
        var dropped: UInt64?
        while dropped == nil && SystemClock.monotonic < end {
            usleep(1000)
            dropped = joined.counters[1].counters.droppedOut["noRoom"]
        }
        #expect(dropped == 1)
        joined.close()
        #expect(ports[0].scripted[0].out.isEmpty)
    }

    @Test(
        "Packets cross while the control thread holds and releases the switch",
        arguments: [IdlePolicy.busy, .pause, .park], 1...3)
    func holding(idle: IdlePolicy, threads: Int) throws {
        var configuration = SwitchConfiguration()
        configuration.idle = idle
        configuration.threads = [Int?](repeating: nil, count: threads)
        configuration.wires = [("a", "b")]
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try Switch(configuration, ports: ports) { _ in }
        try joined.open()
        var expected: [[UInt8]] = []
        for round in 0..<200 {
            joined.whileHeld(by: ports[0]) {
                let frame = Frame.make(
                    to: Frame.mac(2), from: Frame.mac(1), [UInt8(round)])
                expected.append(frame)
                ports[0].scripted[0].waiting.append(frame)
                // While held, queues come and go.
                ports[1].scripted[0].isOpen = round % 3 != 0
                joined.whileHeld(by: ports[1]) {}
            }
        }
        joined.close()
        let sent = ports[1].sent.count
        let dropped = joined.counters[1].counters.droppedOut["portClosed"] ?? 0
        #expect(sent + Int(dropped) == 200)
        #expect(ports[0].scripted[0].out.isEmpty)
        #expect(ports[1].sent.allSatisfy { expected.contains($0) })
    }
}
