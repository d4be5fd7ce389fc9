// What a program that takes over is told of ports: whatever cannot be is refused by the name of its
// field, and the port that has it goes on.

import CleaveHost
import CleaveTestSupport
import Foundation
import Glibc
import Testing

@testable import CleavePorts
@testable import CleaveVhostUser

/// A wrong field, and what is said of it.
struct WrongState: CustomTestStringConvertible, Sendable {
    var words: String
    var change: @Sendable (inout PortHandover) -> Void
    var testDescription: String { words }

    static func vhostUser(
        _ words: String, _ change: @escaping @Sendable (inout VhostUserHandover) -> Void
    ) -> WrongState {
        WrongState(words: words) { state in
            guard case .vhostUser(var inner) = state else { return }
            change(&inner)
            state = .vhostUser(inner)
        }
    }

    static func kernel(
        _ words: String, _ change: @escaping @Sendable (inout KernelHandover) -> Void
    ) -> WrongState {
        WrongState(words: words) { state in
            guard case .kernel(var inner) = state else { return }
            change(&inner)
            state = .kernel(inner)
        }
    }

    /// Has a port hand over what is wrong then, and another one of the same keys refuse it.
    func check(_ old: any HandoverPort, _ new: any HandoverPort) throws {
        let descriptors = HandoverDescriptors()
        var state = try JSONDecoder().decode(
            PortHandover.self, from: JSONEncoder().encode(old.handover(descriptors)))
        change(&state)
        let error = #expect(throws: SetupError.self) {
            try new.take(state, descriptors)
            try descriptors.checkAllTaken()
        }
        let text = error?.description ?? ""
        #expect(text.contains(words), "\(text)")
        if !words.hasSuffix("belongs to nothing") { #expect(text.hasPrefix("port \(new.name): ")) }
        new.abandon()
        old.endRest()
    }
}

@Suite("States of vhost-user ports that cannot be")
struct VhostUserStateTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/cleave-state.XXXXXX".utf8CString)
        folder = String(cString: try #require(mkdtemp(&template)))
    }

    private func port() throws -> VhostUserPort {
        var settings = VhostUserPortConfiguration(name: "a", path: folder + "/a")
        settings.queuePairs = 2
        settings.mtu = 1500
        return try VhostUserPort(settings)
    }

    static let wrongs: [WrongState] = [
        .vhostUser("mode is client there, and server here") { $0.mode = "client" },
        .vhostUser("mode is nothing there") { $0.mode = "nothing" },
        .vhostUser("path is /other there") {
            $0.path = "/other"
            $0.place = nil
        },
        .vhostUser("path is /other there") {
            $0.path = "/other"
            $0.place = [1, 2, 3]
        },
        .vhostUser("queues is 1 there, and 2 here") { $0.queuePairs = 1 },
        .vhostUser("mac is 52:54:0:0:0:1 there, and none here") {
            $0.mac = [0x52, 0x54, 0, 0, 0, 1]
        },
        .vhostUser("mtu is none there, and 1500 here") { $0.mtu = nil },
        .vhostUser("what it offers") { $0.offeredFeatures ^= 1 << 34 },
        .vhostUser("listener: mode server has one") { $0.listener = nil },
        .vhostUser("listener: descriptor 1: there are 1") { $0.listener = 1 },
        .vhostUser("listener: descriptor -1: there are 1") { $0.listener = -1 },
        .vhostUser("driverMTU: 67") { $0.driverMTU = 67 },
        .vhostUser("driverMTU: 65536") { $0.driverMTU = 65536 },
        .vhostUser("pairsAskedFor: 0: need 1 to 2") { $0.pairsAskedFor = 0 },
        .vhostUser("pairsAskedFor: 3: need 1 to 2") { $0.pairsAskedFor = 3 },
        WrongState(words: "it is a tap port there, and a vhost-user port here") { state in
            let other = Data(
                #"{"kernel":{"_0":{"type":"tap","interface":"t0","descriptors":[],"offloads":[]}}}"#
                    .utf8)
            if let kernel = try? JSONDecoder().decode(PortHandover.self, from: other) {
                state = kernel
            }
        },
    ]

    @Test("Each is named", arguments: wrongs)
    func wrong(_ wrong: WrongState) throws {
        let (host, old) = (LoneHost(), try port())
        defer { rmdir(folder) }
        try old.open(for: host)
        defer { old.close() }
        try wrong.check(old, try port())
        // Its file is there, and it listens.
        #expect(access(folder + "/a", F_OK) == 0)
        let descriptors = HandoverDescriptors()
        let new = try port()
        try new.take(old.handover(descriptors), descriptors)
        try descriptors.checkAllTaken()
        new.abandon()
        old.endRest()
    }

    @Test("A listener that is something else is named, and so is one too many")
    func listener() throws {
        let (host, old) = (LoneHost(), try port())
        defer { rmdir(folder) }
        try old.open(for: host)
        defer { old.close() }
        guard case .vhostUser(var state) = try old.handover(HandoverDescriptors()) else {
            Issue.record("another kind")
            return
        }
        let others = HandoverDescriptors()
        let null = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
        state.listener = try others.add(null)
        close(null)
        let new = try port()
        let error = #expect(throws: SetupError.self) {
            try new.take(.vhostUser(state), others)
        }
        #expect(error?.description.contains("no listening unix stream socket") == true)
        #expect(error?.description.hasPrefix("port a: listener: ") == true)
        try others.checkAllTaken()
        let more = HandoverDescriptors()
        let whole = try old.handover(more)
        _ = try more.add(1)
        let next = try port()
        try next.take(whole, more)
        let rest = #expect(throws: SetupError.self) { try more.checkAllTaken() }
        #expect(rest?.description == "descriptor 1 of 2 belongs to nothing")
        next.abandon()
    }

    @Test("A position that is not one of the port is named")
    func positions() throws {
        let (host, old) = (LoneHost(), try port())
        defer { rmdir(folder) }
        try old.open(for: host)
        defer { old.close() }
        let descriptors = HandoverDescriptors()
        let new = try port()
        try new.take(old.handover(descriptors), descriptors)
        try new.open(for: host)
        defer { new.abandon() }
        func refusal(_ position: PortPosition) -> String {
            do throws(SetupError) { try new.start(at: position) } catch {
                return error.description
            }
            return "none"
        }
        #expect(refusal(.kernel) == "port a: the position is one of another kind of port")
        var position = VhostUserPosition()
        #expect(refusal(.vhostUser(position)) == "none")
        position.rings = [
            SessionHandover.Position(isBaseOurs: false, isBroken: false, isRunning: false)
        ]
        #expect(refusal(.vhostUser(position)) == "port a: rings without a connection")
    }
}

@Suite(
    "States of kernel interfaces that cannot be",
    .enabled(
        if: PrivateNetwork.obstacle == nil,
        "no private network: \(PrivateNetwork.obstacle ?? "")"))
struct KernelStateTests {
    static let wrongs: [WrongState] = [
        .kernel("there, and a") { $0.type = $0.type == .tap ? .afPacket : .tap },
        .kernel("interface is other there") { $0.interface = "other" },
        .kernel("queues is 1 there, and 2 here") {
            $0.descriptors.removeLast()
            $0.offloads.removeLast()
        },
        .kernel("queues is 3 there, and 2 here") {
            $0.descriptors.append(2)
            $0.offloads.append(0)
        },
        .kernel("offloads: 1 of 2 descriptors") { $0.offloads.removeLast() },
        .kernel("offloads: 2 of 0 descriptors") { $0.descriptors = [] },
        .kernel("offloads[1]: bits that no kernel has") { $0.offloads[1] = 1 << 63 },
        .kernel("descriptors[1]: descriptor 2: there are 2") { $0.descriptors[1] = 2 },
        .kernel("descriptors[0]: descriptor -1: there are 2") { $0.descriptors[0] = -1 },
        .kernel("descriptors[1]: descriptor 0 is named twice") { $0.descriptors[1] = 0 },
        .kernel("belongs to nothing") {
            $0.descriptors = []
            $0.offloads = []
        },
    ]

    private func tap(_ interface: String = "t0") throws -> TapPort {
        var configuration = TapPortConfiguration(name: "host", interface: interface)
        configuration.queues = 2
        return try TapPort(configuration)
    }

    private func wire(_ interface: String = "v0") throws -> AFPacketPort {
        var configuration = AFPacketPortConfiguration(name: "host", interface: interface)
        configuration.queues = 2
        return try AFPacketPort(configuration)
    }

    private static let veth = [
        "ip link add v0 type veth peer name v1", "ip link set v0 up", "ip link set v1 up",
    ]

    @Test("Each is named", arguments: wrongs)
    func wrong(_ wrong: WrongState) throws {
        try PrivateNetwork.run(Self.veth) {
            let host = LoneHost()
            let (oldTap, oldWire) = (try tap(), try wire())
            try oldTap.open(for: host)
            defer { oldTap.close() }
            try oldWire.open(for: host)
            defer { oldWire.close() }
            try wrong.check(oldTap, try tap())
            try wrong.check(oldWire, try wire())
        }
    }

    @Test("A descriptor of another interface, another kind or other frames is named")
    func descriptors() throws {
        try PrivateNetwork.run(Self.veth) {
            let host = LoneHost()
            let (oldTap, otherTap) = (try tap(), try tap("t1"))
            let (oldWire, otherWire) = (try wire(), try wire("v1"))
            let ports: [any HandoverPort] = [oldTap, otherTap, oldWire, otherWire]
            for port in ports { try port.open(for: host) }
            defer { for port in ports { port.close() } }
            // Neither at an interface nor with a virtio-net header in front of each frame.
            let plain = socket(AF_PACKET, Int32(SOCK_RAW.rawValue), 0)
            let detached = Glibc.open("/dev/net/tun", O_RDWR | O_CLOEXEC)
            let null = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
            let stranger = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { for number in [plain, detached, null, stranger] { close(number) } }
            let wrongs =
                [null, stranger, detached, plain]
                + [otherTap.queues[1].wakeDescriptor, otherWire.queues[1].wakeDescriptor]
            func check(_ old: any HandoverPort, _ new: any HandoverPort, _ wrong: Int32) throws {
                guard case .kernel(var state) = try old.handover(HandoverDescriptors()) else {
                    return
                }
                let list = HandoverDescriptors()
                state.descriptors = [
                    try list.add(old.queues[0].wakeDescriptor), try list.add(wrong),
                ]
                let error = #expect(throws: SetupError.self) {
                    try new.take(.kernel(state), list)
                }
                #expect(
                    error?.description
                        == "port host: descriptors[1]: it is no queue of type "
                        + "\(new.type.rawValue) at \(state.interface)")
                old.endRest()
            }
            for wrong in wrongs {
                try check(oldTap, try tap(), wrong)
                try check(oldWire, try wire(), wrong)
            }
            try check(oldTap, try tap(), oldWire.queues[1].wakeDescriptor)
            try check(oldWire, try wire(), oldTap.queues[1].wakeDescriptor)
            // And a position of another kind.
            let list = HandoverDescriptors()
            let new = try tap()
            try new.take(oldTap.handover(list), list)
            let error = #expect(throws: SetupError.self) {
                try new.start(at: .vhostUser(VhostUserPosition()))
            }
            #expect(error?.description.contains("another kind of port") == true)
        }
    }
}
