import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveVirtioNet
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

    @Test("A port that cannot be opened closes those that were")
    func failedOpen() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        ports[1].failure = SetupError("port b: no such thing")
        let joined = try Switch(SwitchConfiguration(), ports: ports) { _ in }
        #expect(throws: SetupError("port b: no such thing")) { try joined.open() }
        #expect(!ports[0].isOpen)
    }

    @Test(
        "Packets cross while the control thread holds and releases the switch",
        arguments: [IdlePolicy.busy, .pause, .park])
    func holding(idle: IdlePolicy) throws {
        var configuration = SwitchConfiguration()
        configuration.idle = idle
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
