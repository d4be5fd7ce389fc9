import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveSwitch

@Suite("Captures")
struct CaptureTests {
    private func frames(_ count: Int, _ seed: UInt8, longest: Int = 1500) -> [[UInt8]] {
        (0..<count).map { number in
            let head = [seed, UInt8(truncatingIfNeeded: number), UInt8(number >> 8 & 255)]
            let frame = Frame.make(to: Frame.mac(2), from: Frame.mac(1), head)
            let most = max(0, longest - frame.count)
            return frame + TestFrames.payload(number * 37 % (most + 1), seed: number)
        }
    }

    private func isOrdered(_ packets: [CapturedStream.Packet]) -> Bool {
        zip(packets, packets.dropFirst()).allSatisfy { $0.time <= $1.time }
    }

    @Test(
        "What passes is recorded byte for byte, in order, by queue and direction", arguments: 1...3)
    func exact(threads: Int) throws {
        let ports = [ScriptedPort("a", queues: 2), ScriptedPort("b", queues: 2)]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")], threads: threads)
        let reader = try CaptureReader()
        try reader.begin()
        let before = SystemClock.realTime
        #expect(joined.capture(CaptureRequest(port: nil), reader) == nil)
        let there = [frames(700, 1), frames(500, 2)]
        let back = [frames(300, 3), frames(400, 4)]
        joined.give(there, to: ports[0])
        joined.give(back, to: ports[1])
        joined.await(ports[0], completed: 1200)
        joined.await(ports[1], completed: 700)
        reader.stop()
        let stream = reader.finish()
        joined.end()
        let after = SystemClock.realTime
        #expect(stream.problem == nil)
        #expect(stream.names == ["a", "b"] && stream.resolutions == [9, 9])
        for queue in 0..<2 {
            let number = UInt32(queue)
            #expect(stream.bytes("a", queue: number, inbound: false) == there[queue])
            #expect(stream.bytes("b", queue: number, inbound: false) == back[queue])
            #expect(
                stream.bytes("a", queue: number, inbound: true) == ports[0].scripted[queue].sent)
            #expect(
                stream.bytes("b", queue: number, inbound: true) == ports[1].scripted[queue].sent)
        }
        #expect(ports[1].sent.count == 1200 && ports[0].sent.count == 700)
        #expect(isOrdered(stream.packets), "from all threads, the oldest first")
        #expect(stream.packets.allSatisfy { $0.byteCount == $0.bytes.count && $0.dropCount == 0 })
        #expect(stream.packets.allSatisfy { $0.time >= before && $0.time <= after })
        for statistics in stream.statistics.values {
            #expect(statistics.received == 1900 && statistics.dropped == 0)
            #expect(statistics.comment == nil && statistics.start <= statistics.end)
        }
        #expect(stream.statistics.count == 2)
    }

    @Test("Queue, direction and length of a capture are what was asked for")
    func choices() throws {
        let ports = [ScriptedPort("a", queues: 2), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")], threads: 2)
        var requests: [CaptureRequest] = []
        for direction in CaptureDirection.allCases {
            for queue in 0..<2 {
                var request = CaptureRequest(port: "a")
                request.queue = queue
                request.direction = direction
                request.snapLength = 61 + queue
                requests.append(request)
            }
        }
        let readers = try requests.map { _ in try CaptureReader() }
        for (request, reader) in zip(requests, readers) {
            try reader.begin()
            #expect(joined.capture(request, reader) == nil)
        }
        let there = [frames(100, 1), frames(90, 2)]
        joined.give(there, to: ports[0])
        joined.give([frames(80, 3)], to: ports[1])
        joined.await(ports[0], completed: 190)
        joined.await(ports[1], completed: 80)
        for reader in readers { reader.stop() }
        for (request, reader) in zip(requests, readers) {
            let stream = reader.finish()
            let queue = try #require(request.queue)
            let expected =
                request.direction == .tx ? there[queue] : ports[0].scripted[queue].sent
            #expect(stream.problem == nil && stream.names == ["a"])
            #expect(stream.snapLengths == [request.snapLength])
            #expect(stream.packets.map(\.byteCount) == expected.map(\.count))
            #expect(
                stream.packets.map(\.bytes)
                    == expected.map { Array($0.prefix(request.snapLength)) })
            #expect(stream.packets.allSatisfy { $0.isOutbound == (request.direction == .tx) })
            #expect(stream.packets.allSatisfy { $0.queue == UInt32(queue) })
        }
        joined.end()
    }

    @Test("Offloads are in the flags, and what the switch finished is seen finished")
    func offloads() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        ports[0].scripted[0].incomingOffloads = PacketOffloads(
            flags: NetHeaderFlags.needsChecksum, gsoType: SegmentationType.tcp4, gsoSize: 1000,
            csumStart: 34, csumOffset: 16)
        let joined = try ControlledSwitch(ports, wires: [("a", "b")])
        let reader = try CaptureReader()
        try reader.begin()
        #expect(joined.capture(CaptureRequest(port: nil), reader) == nil)
        let large = TestFrames.tcp4(TestFrames.payload(2500))
        joined.give([[large]], to: ports[0])
        joined.await(ports[0], completed: 1)
        reader.stop()
        let stream = reader.finish()
        joined.end()
        #expect(stream.bytes("a", inbound: false) == [large])
        // Outbound, its checksum not ready, to be segmented.
        #expect(stream.packets.first.map(\.flags) == UInt32(0xa02))
        #expect(ports[1].sent.map(\.count) == [1054, 1054, 554])
        #expect(stream.bytes("b", inbound: true) == ports[1].sent)
        #expect(stream.packets.dropFirst().allSatisfy { $0.flags == 1 })
    }

    @Test(
        "Between guests: both ends see what the guests see", arguments: 1...3, RingFormat.allCases)
    func guests(threads: Int, ring: RingFormat) throws {
        var template = Array("/tmp/cleave-capture.XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        defer { rmdir(folder) }
        let ports = try ["a", "b"].map {
            try VhostUserPort(VhostUserPortConfiguration(name: $0, path: "\(folder)/\($0)"))
        }
        let joined = try ControlledSwitch(ports, threads: threads)
        // A packet lies in several buffers: a record gathers them.
        let (left, right) = (try LocalGuest(ring, pieceCount: 3), try LocalGuest(ring))
        try left.connect("\(folder)/a")
        try right.connect("\(folder)/b")
        let readers = [try CaptureReader(), try CaptureReader()]
        for (name, reader) in zip(["a", "b"], readers) {
            try reader.begin()
            #expect(joined.capture(CaptureRequest(port: name), reader) == nil)
        }
        var (sent, received) = ([[UInt8]](), [[UInt8]]())
        for round in 0..<20 {
            let burst = frames(16, UInt8(round), longest: 5000)
            #expect(left.sendAll(burst) == burst.count)
            sent += burst
            received += right.receive(atLeast: burst.count)
        }
        let answers = frames(20, 99, longest: 1500).map { Array($0[6..<12] + $0[..<6] + $0[12...]) }
        #expect(right.sendAll(answers) == answers.count)
        #expect(left.receive(atLeast: answers.count) == answers)
        #expect(received == sent)
        _ = readers[0].packets(atLeast: sent.count + answers.count)
        for reader in readers { reader.stop() }
        let (a, b) = (readers[0].finish(), readers[1].finish())
        #expect(a.problem == nil && b.problem == nil)
        #expect(a.bytes("a", inbound: false) == sent)
        #expect(a.bytes("a", inbound: true) == answers)
        #expect(b.bytes("b", inbound: true) == sent)
        #expect(b.bytes("b", inbound: false) == answers)
        joined.end()
    }

    @Test("A reader that stalls costs records, which are counted, and no traffic", arguments: 1...2)
    func stalled(threads: Int) throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")], threads: threads)
        let reader = try CaptureReader()
        var request = CaptureRequest(port: "a")
        request.direction = .tx
        request.ringByteCount = 1 << 17
        #expect(joined.capture(request, reader) == nil)
        let given = frames(8000, 1)
        joined.give([given], to: ports[0])
        // Nobody reads, and all of it passes.
        joined.await(ports[0], completed: given.count)
        try reader.begin()
        let later = frames(50, 2)
        // Once there is room, records go on.
        _ = reader.packets(atLeast: 1)
        joined.give([later], to: ports[0])
        joined.await(ports[0], completed: given.count + later.count)
        reader.stop()
        let stream = reader.finish()
        joined.end()
        #expect(ports[1].sent == given + later)
        let statistics = try #require(stream.statistics[0])
        #expect(stream.problem == nil)
        #expect(statistics.received == UInt64(given.count + later.count))
        #expect(statistics.dropped == statistics.received - UInt64(stream.packets.count))
        #expect(statistics.dropped > 0 && !stream.packets.isEmpty)
        let told = stream.packets.reduce(0) { $0 + $1.dropCount }
        #expect(told <= statistics.dropped)
        // Each drop is told where it was: the packets that are there are at their places.
        var place = 0
        let all = given + later
        for packet in stream.packets {
            place += Int(packet.dropCount)
            try #require(place < all.count)
            #expect(packet.bytes == all[place])
            place += 1
        }
    }

    @Test("A reader that never reads delays the end by no more than its time")
    func deaf() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")])
        let reader = try CaptureReader()
        #expect(joined.capture(CaptureRequest(port: nil), reader) == nil)
        let given = frames(2000, 1)
        joined.give([given], to: ports[0])
        joined.await(ports[0], completed: given.count)
        joined.end()
        #expect(ports[1].sent == given)
        // What it was told before is whole blocks and the beginning of one.
        try reader.begin()
        let stream = reader.finish()
        #expect(stream.statistics.isEmpty && !stream.packets.isEmpty)
        let outbound = stream.bytes("a", inbound: false)
        #expect(outbound == Array(given.prefix(outbound.count)))
    }

    @Test("A capture ends after as many packets as were asked for")
    func limit() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")])
        let reader = try CaptureReader()
        try reader.begin()
        var request = CaptureRequest(port: "b")
        request.packetLimit = 40
        #expect(joined.capture(request, reader) == nil)
        let given = frames(100, 1)
        joined.give([given], to: ports[0])
        let stream = reader.finish()
        #expect(stream.problem == nil && stream.packets.map(\.bytes) == Array(given.prefix(40)))
        #expect(stream.statistics[0]?.received == 40)
        joined.await(ports[0], completed: 100)
        joined.end()
        #expect(joined.lines.contains("capture of port b ended: 40 packets, 0 dropped"))
    }

    @Test("Readers that go away leave nothing behind")
    func gone() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")], threads: 2)
        var given: [[UInt8]] = []
        for round in 0..<(2 * CaptureList.limit) {
            let reader = try CaptureReader()
            let file = try #require(FileIdentity(reader.far))
            // Those before are gone, or there would be too many.
            var refusal = joined.capture(CaptureRequest(port: nil), reader)
            let end = SystemClock.monotonic + 30_000_000_000
            while refusal != nil && SystemClock.monotonic < end {
                #expect(refusal?.contains("8 captures run already") == true)
                refusal = joined.capture(CaptureRequest(port: nil), reader)
            }
            #expect(refusal == nil)
            let burst = frames(100, UInt8(round))
            joined.give([burst], to: ports[0])
            given += burst
            shutdown(reader.near, Int32(SHUT_RDWR))
            joined.await(ports[0], completed: given.count)
            while file.openCount > 0 && SystemClock.monotonic < end { usleep(1000) }
            #expect(file.openCount == 0)
        }
        joined.end()
        #expect(ports[1].sent == given)
    }

    @Test("The switch and a port that is removed say why a capture ends")
    func reasons() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")])
        let reader = try CaptureReader()
        try reader.begin()
        #expect(joined.capture(CaptureRequest(port: "a"), reader) == nil)
        joined.end()
        #expect(reader.finish().statistics[0]?.comment == "the switch ended")

        let list = CaptureList()
        let other = try CaptureReader()
        try other.begin()
        try list.start(CaptureRequest(port: "a"), to: other.far, threadCount: 1, avoiding: [])
        other.handOver()
        let queues = ["a", "b"].map {
            SwitchQueue(port: $0 == "a" ? 0 : 1, queue: ScriptedQueue())
        }
        list.link([("a", [queues[0]]), ("b", [queues[1]])])
        #expect(queues[0].txTap != nil && queues[0].rxTap != nil)
        #expect(queues[1].txTap == nil && queues[1].rxTap == nil)
        list.link([("b", [queues[1]])])
        #expect(other.finish().statistics[0]?.comment == "port a was removed")
    }

    @Test("Requests that cannot be are refused with what is wrong")
    func refusals() throws {
        let ports = [ScriptedPort("a", queues: 2), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports)
        func refusal(_ port: String?, _ change: (inout CaptureRequest) -> Void = { _ in }) -> String
        {
            var request = CaptureRequest(port: port)
            change(&request)
            guard let reader = try? CaptureReader() else { return "no reader" }
            return joined.capture(request, reader) ?? "none"
        }
        #expect(refusal("c") == "capture: there is no port \"c\" among a, b")
        #expect(refusal("a") { $0.queue = 2 } == "capture of a: there is no queue 2, only 0 to 1")
        #expect(refusal("b") { $0.queue = 1 } == "capture of b: there is no queue 1, only queue 0")
        #expect(refusal("b") { $0.queue = -1 }.contains("no queue -1"))
        #expect(refusal(nil) { $0.queue = 1 } == "none")
        #expect(refusal("a") { $0.packetLimit = 0 } == "capture: 0 packets: need 1 or more")
        #expect(refusal("a") { $0.snapLength = 0 }.contains("need 1 to 262144"))
        #expect(refusal("a") { $0.ringByteCount = 1000 }.contains("need a power of two"))
        let pipe = perform(joined, port: "a") { () -> Int32 in
            var ends: [Int32] = [-1, -1]
            _ = Glibc.pipe(&ends)
            close(ends[0])
            return ends[1]
        }
        #expect(pipe == "capture: what it shall be written to is no stream socket")
        joined.end()
    }

    private func perform(
        _ joined: ControlledSwitch, port: String, _ make: @escaping @Sendable () -> Int32
    ) -> String? {
        joined.perform { joined -> String in
            let descriptor = make()
            defer { close(descriptor) }
            do { try joined.startCapture(CaptureRequest(port: port), to: descriptor) } catch {
                return "\(error)"
            }
            return "none"
        }
    }
}
