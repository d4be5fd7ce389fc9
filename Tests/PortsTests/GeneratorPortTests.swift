import CleavePorts
import CleaveTestSupport
import CleaveTraffic
import CleaveVirtioNet
import Glibc
import Testing

/// Generated packets.
@Suite("Generator")
struct GeneratorPortTests {
    private let host = LoneHost()

    private func port(
        _ change: (inout GeneratorPortConfiguration) -> Void
    ) throws -> GeneratorPort {
        var configuration = GeneratorPortConfiguration(name: "g")
        change(&configuration)
        let port = try GeneratorPort(configuration)
        try port.open(for: host)
        return port
    }

    @Test("The profile's packets come in, round after round, with the addresses given")
    func packets() throws {
        let port = try port {
            $0.traffic = "imix/mixed"
            $0.flows = 3
            $0.source = [2, 9, 9, 9, 9, 9]
            $0.destination = [4, 8, 8, 8, 8, 8]
        }
        // 256, and then as many as make the rounds of three flows whole.
        let expected = try TrafficProfile.parse("mixed").packets(count: 258, flows: 3, seed: 1)
            .map { [4, 8, 8, 8, 8, 8, 2, 9, 9, 9, 9, 9] + $0.dropFirst(12) }
        var received: [[UInt8]] = []
        while received.count < 1000 { received += port.queues[0].take(31).map(\.bytes) }
        #expect(received == (0..<received.count).map { expected[$0 % 258] })
        let counters = port.counters
        #expect(counters.packetsIn == UInt64(received.count))
        #expect(counters.bytesIn == UInt64(received.reduce(0) { $0 + $1.count }))
        port.close()
        #expect(port.queues[0].take().isEmpty)
    }

    @Test("So many come in as were asked for, dealt to the queues by their flow", arguments: 1...5)
    func count(queues: Int) throws {
        let port = try port {
            $0.traffic = "100/udp4"
            $0.flows = 7
            $0.queues = queues
            $0.count = 1003
        }
        var ports: [Set<UInt16>] = []
        var sum = 0
        for queue in port.queues {
            var received: [[UInt8]] = []
            while case let some = queue.take(), !some.isEmpty { received += some.map(\.bytes) }
            sum += received.count
            #expect((1003 / queues...1003 / queues + 1).contains(received.count))
            ports.append(Set(received.map { UInt16($0[34]) << 8 | UInt16($0[35]) }))
            // Nothing more to wait for.
            var wake = pollfd(fd: queue.wakeDescriptor, events: Int16(POLLIN), revents: 0)
            #expect(poll(&wake, 1, 0) == 0)
        }
        #expect(sum == 1003 && port.counters.packetsIn == 1003)
        #expect(ports.reduce(0) { $0 + $1.count } == 7)
        #expect(ports.reduce(Set()) { $0.union($1) }.count == 7)
    }

    @Test("No more than its rate, after a wait no less")
    func rate() throws {
        let port = try port {
            $0.packetsPerSecond = 2000
            $0.queues = 2
            $0.flows = 2
        }
        usleep(50_000)
        // 50 ms at 1000 a second for each queue, and what the test was delayed by.
        #expect((50...800).contains(port.queues[0].take(1000).count))
        #expect((50...800).contains(port.queues[1].take(1000).count))
    }

    @Test("What goes out is counted; what is not finished is refused")
    func out() throws {
        let port = try port { _ in }
        let frame = [UInt8](repeating: 7, count: 60)
        let unfinished = PacketOffloads(flags: 1, csumStart: 34, csumOffset: 16)
        #expect(port.queues[0].send([SourcePacket(frame), SourcePacket(frame)]) == 2)
        #expect(port.queues[0].send([SourcePacket(frame, offloads: unfinished)]) == 1)
        #expect(port.counters.packetsOut == 2 && port.counters.bytesOut == 120)
        #expect(port.counters.droppedOut == ["badOffload": 1])
    }

    @Test("Large frames and many flows take bounded memory, or are refused")
    func memory() throws {
        let large = try port { $0.traffic = "65535" }
        // 8 MiB of them.
        #expect(large.queues[0].take(200).count == 200)
        var configuration = GeneratorPortConfiguration(name: "g")
        configuration.traffic = "65535"
        configuration.flows = 65536
        let port = try GeneratorPort(configuration)
        do {
            try port.open(for: host)
            Issue.record("opened")
        } catch {
            #expect("\(error)".hasPrefix("port g: 65536 flows of 65535 are more than"))
        }
    }
}
