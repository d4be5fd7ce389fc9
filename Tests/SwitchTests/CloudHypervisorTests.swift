// The example for containers' runtimes, with guests at the interfaces that it gives.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

@testable import example_cloud_hypervisor

@Suite("Networks of containers")
struct CloudHypervisorTests {
    private struct Place {
        let folder: String
        let program: String

        init() throws {
            var template = Array("/tmp/cleave-containers.XXXXXX".utf8CString)
            folder = String(cString: try #require(mkdtemp(&template)))
            let builds = ["release", "debug"].map {
                ReleaseProgram.root.appendingPathComponent(".build/\($0)/cleave-vhost").path
            }
            program = try #require(
                builds.first { FileManager.default.isExecutableFile(atPath: $0) })
        }
    }

    @Test("Guests reach each other at the sockets that their VMMs are told, one after another")
    func life() throws {
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        let process = try SwitchProcess(
            program: place.program, folder: place.folder + "/run", portCount: 2)
        var network = VhostUserNetwork(process, prefix: "10.1.2")
        func interface(_ id: String) throws -> VhostUserInterface {
            try #require(try network.createInterface(id) as? VhostUserInterface)
        }
        let first = try interface("one")
        let second = try interface("two")
        #expect(first.ipv4Address != second.ipv4Address && first.socket != second.socket)
        #expect(throws: NetworkFailure.self) { try network.createInterface("one") }
        #expect(throws: NetworkFailure.self) { try network.createInterface("three") }
        let (left, right) = (try LocalGuest(.split), try LocalGuest(.packed))
        try left.connect(try #require(try first.chNetConfig().vhostSocket))
        try right.connect(try #require(try second.chNetConfig().vhostSocket))
        let sent = (0..<20).map {
            Frame.make(to: Frame.mac(2), from: Frame.mac(1), [UInt8($0)], byteCount: 60 + 50 * $0)
        }
        #expect(left.sendAll(sent) == 20)
        #expect(right.receive(atLeast: 20) == sent)
        // Another container at the port of one that has gone.
        right.vanish()
        try network.releaseInterface("two")
        #expect(throws: NetworkFailure.self) { try network.releaseInterface("two") }
        let third = try interface("three")
        #expect(third.socket == second.socket)
        let other = try LocalGuest(.split)
        try other.connectPatiently(third.socket)
        #expect(left.sendAll(sent) == 20)
        #expect(other.receive(atLeast: 20) == sent)
        process.stop()
        #expect(!process.isRunning && access(first.socket, F_OK) != 0)
        try network.releaseInterface("three")
        #expect(throws: NetworkFailure.self) { try network.createInterface("four") }
    }

    @Test("A VMM is told the keys that cloud-hypervisor has")
    func keys() throws {
        let interface = VhostUserInterface(
            ipv4Address: CIDRv4("10.0.0.2/24"), macAddress: MACAddress("02:00:00:00:00:02"),
            mtu: 9000, socket: "/run/x/port0.sock", queuePairs: 2)
        let encoded = try JSONEncoder().encode(interface.chNetConfig())
        let object = try #require(
            try JSONSerialization.jsonObject(with: encoded) as? [String: any Sendable])
        #expect(
            Set(object.keys) == [
                "mac", "mtu", "num_queues", "queue_size", "vhost_user", "vhost_socket",
                "vhost_mode",
            ])
        #expect(object["num_queues"] as? Int == 4 && object["vhost_mode"] as? String == "Client")
        #expect(
            interface.argument
                == "vhost_user=true,socket=/run/x/port0.sock,vhost_mode=client,"
                + "mac=02:00:00:00:00:02,mtu=9000,num_queues=4,queue_size=256")
    }

    @Test("A switch that does not start says why")
    func failure() throws {
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        #expect {
            try SwitchProcess(
                program: place.program, folder: place.folder, portCount: 1, mtu: 1)
        } throws: { "\($0)".contains("mtu: 1 bytes: need 68 to 65535") }
        #expect(throws: (any Error).self) {
            try SwitchProcess(program: "/no/program", folder: place.folder, portCount: 1)
        }
    }
}
