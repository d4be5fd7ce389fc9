// What a program that takes over is told of the switch as a whole.

import CleaveHost
import Foundation
import Glibc
import Testing

@testable import CleavePorts
@testable import CleaveSwitch
@testable import CleaveVhostUser

@Suite("States of a switch that cannot be")
struct SwitchHandoverTests {
    /// Two switches of the ports a and b; the first one has them.
    private final class Rig {
        let folder: String
        let old: Switch
        let new: Switch

        init() throws {
            var template = Array("/tmp/cleave-switch.XXXXXX".utf8CString)
            let folder = String(cString: try #require(mkdtemp(&template)))
            self.folder = folder
            func make() throws -> Switch {
                let ports = try ["a", "b"].map {
                    try VhostUserPort(
                        VhostUserPortConfiguration(name: $0, path: "\(folder)/\($0)"))
                }
                return try Switch(SwitchConfiguration(), ports: ports) { _ in }
            }
            (old, new) = (try make(), try make())
            try old.open()
        }

        deinit {
            old.close()
            try? FileManager.default.removeItem(atPath: folder)
        }

        /// What the first one hands over, as it arrives.
        func handover(_ descriptors: HandoverDescriptors) throws -> SwitchHandover {
            let state = try old.beginHandover(of: ["b", "x", "a"], descriptors)
            return try JSONDecoder().decode(
                SwitchHandover.self, from: JSONEncoder().encode(state))
        }

        /// The first one goes on.
        func checkOld() {
            #expect(old.portNames == ["a", "b"])
            for name in ["a", "b"] { #expect(access("\(folder)/\(name)", F_OK) == 0) }
        }
    }

    struct Wrong: CustomTestStringConvertible, Sendable {
        var words: String
        var change: @Sendable (inout SwitchHandover) -> Void
        var testDescription: String { words }
    }

    static let wrongs = [
        Wrong(words: "port c: it was not asked for") { $0.ports[0].name = "c" },
        Wrong(words: "port a: it comes twice") { $0.ports.append($0.ports[0]) },
        Wrong(words: "port a: path is") { state in
            (state.ports[0].state, state.ports[1].state) = (
                state.ports[1].state, state.ports[0].state
            )
        },
        Wrong(words: "descriptor 1 of 2 belongs to nothing") { $0.ports.removeLast() },
        Wrong(words: "descriptor 0 of 2 belongs to nothing") { $0.ports = [] },
    ]

    @Test("Ports that are not those of the switch, and descriptors of none", arguments: wrongs)
    func ports(_ wrong: Wrong) throws {
        let rig = try Rig()
        let descriptors = HandoverDescriptors()
        var state = try rig.handover(descriptors)
        #expect(state.ports.map(\.name) == ["a", "b"])
        wrong.change(&state)
        let error = #expect(throws: SetupError.self) { try rig.new.take(state, descriptors) }
        #expect(error?.description.hasPrefix(wrong.words) == true, "\(String(describing: error))")
        rig.new.abandon()
        rig.old.cancelHandover()
        rig.checkOld()
        // Nothing of it is left for the next one.
        let again = HandoverDescriptors()
        #expect(try rig.handover(again).ports.count == 2)
        #expect(throws: SetupError.self) { _ = try rig.handover(HandoverDescriptors()) }
        rig.old.cancelHandover()
    }

    @Test("Positions and addresses that are not of its ports")
    func positions() throws {
        let rig = try Rig()
        let descriptors = HandoverDescriptors()
        let state = try rig.handover(descriptors)
        try rig.new.take(state, descriptors)
        try rig.new.open(held: true)
        // Learned in the first one: at its second port.
        _ = rig.old.table.learn(0x0605_0403_0252, at: 1, tick: 0)
        let position = try rig.old.suspend()
        #expect(position.addresses == [.init(address: 0x0605_0403_0252, port: 1)])
        func refusal(_ change: (inout SwitchPosition) -> Void) -> String {
            var wrong = position
            change(&wrong)
            do throws(SetupError) { try rig.new.start(at: wrong) } catch {
                return error.description
            }
            return "none"
        }
        #expect(refusal { $0.ports.removeLast() } == "ports: 1, and 2 were taken")
        #expect(refusal { $0.ports.append(.kernel) } == "ports: 3, and 2 were taken")
        #expect(
            refusal { $0.ports[1] = .kernel }
                == "port b: the position is one of another kind of port")
        let addresses: [(UInt64, Int)] = [
            (0x52, 2), (0x52, -1), (0x52, .max), (0, 0), (1 << 48, 0), (0x01, 0),
            (0xffff_ffff_ffff, 0), (.max, 1),
        ]
        for (address, port) in addresses {
            let words = refusal { $0.addresses.append(.init(address: address, port: port)) }
            #expect(words == "addresses[1]: no address of a port", "\(address), \(port)")
        }
        // More than a port may have here: those that fit are known, and the rest is learned again.
        let many = (0..<3000).map {
            SwitchPosition.Address(address: 0x52 | UInt64($0) << 8, port: 0)
        }
        #expect(refusal { $0.addresses += many } == "none")
        let known = rig.new.table.entries.count { $0.port == 0 }
        #expect(known > 0 && known <= SwitchConfiguration().addressLimit)
        #expect(rig.new.table.port(of: 0x0605_0403_0252) == 1)
        rig.new.abandon()
        rig.old.resume()
        rig.checkOld()
    }

    @Test("A port that was removed while another program prepared keeps that from taking over")
    func removed() throws {
        let rig = try Rig()
        let descriptors = HandoverDescriptors()
        _ = try rig.handover(descriptors)
        _ = try rig.old.remove("b")
        #expect(throws: SetupError.self) { _ = try rig.old.suspend() }
        rig.old.cancelHandover()
        #expect(rig.old.portNames == ["a"])
    }
}
