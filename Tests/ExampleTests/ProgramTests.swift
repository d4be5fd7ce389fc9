// The examples as a user runs them: without arguments, to their end.
import CleaveTestSupport
import Foundation
import Testing

@Suite("Examples, run")
struct ProgramTests {
    /// Output of the program of this build, which is beside the test bundle.
    private func lines(_ name: String) throws -> [String] {
        let bundle = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let path = bundle.deletingLastPathComponent().appendingPathComponent(name).path
        return try ReleaseProgram.output("timeout", ["120", path])
            .split(separator: "\n").map(String.init)
    }

    @Test("A packet arrives byte by byte")
    func receive() throws {
        let ethernet: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]
        let frame = ethernet + Array("Hello, guest".utf8)
        let bytes = frame.map { String($0, radix: 16) }.joined(separator: " ")
        #expect(
            try lines("example-receive") == [
                "device: 1 packet of 26 bytes delivered", "guest: 1 packet received",
                "bytes: \(bytes)", "payload: Hello, guest",
                "counters: 1 packet, 26 bytes, 1 buffer, 0 dropped",
            ])
    }

    @Test("Headers go to slots, payload to pages, and slots return as each way allows")
    func headerQueue() throws {
        // The addresses of payload differ from run to run.
        let found = try lines("example-header-queue").map {
            $0.replacing(/0x[0-9a-f]+/, with: "ADDRESS")
        }
        func packet(_ rq: Int, _ slot: Int, _ text: String) -> String {
            "  RQ \(rq): slot \(slot), 42 bytes of headers; "
                + "payload at ADDRESS, page-aligned: \(text)"
        }
        let packets =
            [
                packet(0, 0, "one"), packet(0, 1, "two"),
                "  RQ 0: no slot, whole packet of 60 bytes in its buffer", packet(0, 2, "three"),
            ] + (3...7).map { packet(1, $0, "packet \($0 + 1)") }
        func part(_ way: String, _ free: Int) -> [String] {
            ["Slots return by \(way):", "  8 packets split: 8 of 16 slots free"] + packets + [
                "  RQ 1 retired 5 slots: \(free) of 16 slots free",
                "  RQ 0 retired 3 slots: 16 of 16 slots free",
                "  RQ 0: 3 packets split, 1 whole: notSplittable",
            ]
        }
        #expect(found == part("the tail", 8) + part("a return ring", 13))
    }

    @Test("Containers take the ports of a switch, and give them back")
    func cloudHypervisor() throws {
        let found = try lines("example-cloud-hypervisor").map {
            $0.replacing(/"?[^ ",=]*\/(port\d)\.sock"?/) { $0.1 }
        }
        func container(_ id: String, _ port: Int) -> [String] {
            let mac = "02:00:00:00:00:0\(port + 2)"
            return [
                "\(id): 192.168.64.\(port + 2)/24",
                "  {\"mac\":\"\(mac)\",\"mtu\":1500,\"num_queues\":2,\"queue_size\":256,"
                    + "\"vhost_mode\":\"Client\",\"vhost_socket\":port\(port),\"vhost_user\":true}",
                "  --memory shared=on --net vhost_user=true,socket=port\(port),vhost_mode=client,"
                    + "mac=\(mac),mtu=1500,num_queues=2,queue_size=256",
            ]
        }
        #expect(
            found == container("web", 0) + container("database", 1) + [
                "cache: no port is left for cache: all 2 are in use",
                "cache, after web has gone: 192.168.64.2/24",
            ])
    }

    @Test("RQs on threads deliver everything, wait while they are paused, and stop")
    func engine() throws {
        // First the plan: one line, or one for each RQ.
        let found = try lines("example-engine")
        #expect(found.first?.hasPrefix("RQ 0") == true)
        let counts =
            "3200 packets submitted, 3200 reaped, 3200 intact; "
            + "counters: 3200 packets, 819200 bytes"
        #expect(
            found.suffix(5) == [
                "RQ 0: \(counts)", "RQ 1: \(counts)", "RQ 0 paused: 32 packets wait",
                "RQ 0 resumed: 32 packets received", "stopped: 6432 packets, 0 dropped",
            ])
    }
}
