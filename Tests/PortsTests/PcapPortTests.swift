import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveTraffic
import CleaveVirtioNet
import Glibc
import Testing

/// Capture files in and out.
final class PcapPortTests {
    private let host = LoneHost()
    private let folder: String

    init() throws {
        var template = [CChar]("/tmp/cleave-pcap-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else {
            throw PrivateNetwork.Failure(description: "no temporary folder: errno \(errno)")
        }
        folder = String(cString: made)
    }

    deinit { _ = try? PrivateNetwork.shell("rm -rf \(folder)") }

    private func frames(_ count: Int) -> [[UInt8]] {
        (0..<count).map { index in
            switch index % 3 {
            case 0: TestFrames.tcp4(TestFrames.payload(index * 7 % 1400, seed: index))
            case 1: TestFrames.udp6(TestFrames.payload(index * 3 % 1400, seed: index))
            default: TestFrames.opaque(60 + index % 4, seed: index)
            }
        }
    }

    private func capture(_ frames: [[UInt8]], _ format: CaptureWriter.Format = .pcapng) throws
        -> String
    {
        let path = "\(folder)/in.\(format)"
        try CaptureWriter(format: format).write(
            frames.map { CaptureFile.Packet(bytes: $0, timestampNanoseconds: 1) }, path: path)
        return path
    }

    private func port(_ configuration: PcapPortConfiguration) throws -> PcapPort {
        let port = try PcapPort(configuration)
        try port.open(for: host)
        return port
    }

    private func words(_ configuration: PcapPortConfiguration) -> String {
        do { _ = try port(configuration) } catch { return "\(error)" }
        return "no error"
    }

    @Test("A capture played into another is the same, byte for byte", arguments: [1, 3])
    func copy(queues: Int) throws {
        let frames = frames(2000)
        let output = "\(folder)/out.pcapng"
        var configuration = PcapPortConfiguration(
            name: "file", input: try capture(frames), output: output)
        configuration.queues = queues
        let port = try port(configuration)
        var random = SeededRandom(seed: 6)
        var wake = pollfd(fd: port.queues[0].wakeDescriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&wake, 1, 0) == 1)
        for queue in port.queues {
            while case let received = queue.take(), !received.isEmpty {
                let sent = received.map {
                    SourcePacket($0.bytes).scattered(&random, most: random.pick([50, 2000]))
                }
                #expect(queue.send(sent) == received.count)
            }
            #expect(queue.take().isEmpty)
        }
        #expect(poll(&wake, 1, 0) == 0)
        port.close()
        let written = try CaptureFile.read(path: output).packets.map(\.bytes)
        if queues == 1 { #expect(written == frames) }
        #expect(
            written.sorted { $0.lexicographicallyPrecedes($1) }
                == frames.sorted { $0.lexicographicallyPrecedes($1) })
        let byteCount = UInt64(frames.reduce(0) { $0 + $1.count })
        let counters = port.counters
        #expect(counters.packetsIn == 2000 && counters.packetsOut == 2000)
        #expect(counters.bytesIn == byteCount && counters.bytesOut == byteCount)
        #expect(counters.droppedIn == [:] && counters.droppedOut == [:])
    }

    @Test("The input is played as often as was asked for, and no faster")
    func schedule() throws {
        let frames = frames(10)
        var configuration = PcapPortConfiguration(name: "file", input: try capture(frames, .pcap))
        configuration.loops = 3
        let thrice = try port(configuration)
        #expect(thrice.queues[0].take(100).map(\.bytes) == frames + frames + frames)
        #expect(thrice.queues[0].take().isEmpty)
        thrice.close()
        configuration.loops = 0
        configuration.packetsPerSecond = 1000
        let endless = try port(configuration)
        usleep(50_000)
        var received: [[UInt8]] = []
        let first = endless.queues[0].take(1000)
        received += first.map(\.bytes)
        // 50 ms and what the test was delayed by.
        #expect((50...800).contains(first.count))
        usleep(20_000)
        #expect(endless.queues[0].take(1000).count >= 20)
        #expect(received == (0..<received.count).map { frames[$0 % 10] })
        endless.close()
        #expect(endless.queues[0].take().isEmpty)
    }

    private func write(_ bytes: [UInt8], _ name: [UInt8] = Array("in".utf8)) -> String {
        let path = PathText.text(Array("\(folder)/".utf8) + name)
        let descriptor = PathText.withBytes(path) { open($0, O_WRONLY | O_CREAT | O_TRUNC, 0o600) }
        #expect(Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
        close(descriptor)
        return path
    }

    @Test("Captures are played as cleave-bench reads them")
    func variants() throws {
        let frame = TestFrames.tcp4(TestFrames.payload(50, seed: 1))
        func words(_ values: UInt32...) -> [UInt8] {
            values.flatMap { value in (0..<4).map { UInt8(value >> (8 * $0) & 0xff) } }
        }
        let count = UInt32(frame.count)
        // A frame check sequence that the file declares; longer record headers; lengths as of 2.2.
        let files: [[UInt8]] = [
            words(0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 0x2400_0001, 1, 2, count + 4, count + 4)
                + frame + [1, 2, 3, 4],
            words(0xa1b2_cd34, 0x0004_0002, 0, 0, 65535, 1, 1, 2, count, count, 3, 0x0800) + frame,
            words(0xa1b2_c3d4, 0x0002_0002, 0, 0, 65535, 1, 1, 2, count, count) + frame,
        ]
        for file in files {
            let port = try port(PcapPortConfiguration(name: "p", input: write(file)))
            #expect(port.queues[0].take().map(\.bytes) == [frame])
        }
        #expect(host.lines == [])
        // The file ends inside its second packet, and its name is not UTF-8.
        let path = write(files[2] + words(1, 2, count, count) + [9], [0x63, 0xe9])
        let cut = try port(PcapPortConfiguration(name: "p", input: path))
        #expect(cut.queues[0].take().map(\.bytes) == [frame])
        let offset = 24 + 16 + frame.count
        #expect(
            host.lines == [
                "port p: \(folder)/c\\xe9: packet 1 at byte \(offset): the file ends inside the "
                    + "packet: 1 of \(count) bytes; the packets before it are played"
            ])
        #expect(
            self.words(PcapPortConfiguration(name: "p", input: write(Array(files[2][..<24]))))
                == "port p: \(folder)/in: the capture holds no packets")
        let output = PathText.text(Array("\(folder)/".utf8) + [0xff])
        let port = try port(PcapPortConfiguration(name: "p", output: output))
        port.close()
        var status = stat()
        #expect(PathText.withBytes(output) { stat($0, &status) } == 0)
    }

    @Test("Frames of lengths that no switch carries are left out, and counted")
    func lengths() throws {
        let frames = [TestFrames.opaque(13), TestFrames.opaque(14), TestFrames.opaque(65590)]
        let port = try port(PcapPortConfiguration(name: "file", input: try capture(frames)))
        #expect(port.queues[0].take().map(\.bytes) == [frames[1]])
        #expect(port.counters.droppedIn == ["runt": 1, "tooLong": 1])
    }

    @Test(
        "A disk that is full drops packets by name, and the file stays readable",
        .enabled(if: geteuid() == 0, "only root can mount a small disk"))
    func full() throws {
        try PrivateNetwork.shell("mount -t tmpfs -o size=8k cleave \(folder)")
        defer { _ = try? PrivateNetwork.shell("umount \(folder)") }
        let output = "\(folder)/out.pcapng"
        do {
            let port = try port(PcapPortConfiguration(name: "file", output: output))
            let frame = TestFrames.opaque(1000)
            let queue = port.queues[0]
            func send(_ count: Int) {
                let packets = [SourcePacket](repeating: SourcePacket(frame), count: count)
                #expect(queue.send(packets) == count)
                // As before a sleep.
                queue.setWakeups(enabled: true)
            }
            send(1)
            #expect(port.counters.packetsOut == 1)
            // The disk has room for some of them.
            send(10)
            #expect(port.counters.droppedOut == ["writeFailed": 10])
            send(1)
            port.close()
            #expect(port.counters.packetsOut == 2)
            #expect(port.counters.droppedOut == ["writeFailed": 10])
            let written = try CaptureFile.read(path: output).packets.map(\.bytes)
            #expect(written == [frame, frame])
        }
    }

    @Test("What a far side should not be sent is dropped by name")
    func refused() throws {
        let port = try port(
            PcapPortConfiguration(name: "file", output: "\(folder)/out.pcapng"))
        let frame = TestFrames.tcp4([1, 2, 3])
        let unfinished = PacketOffloads(flags: 1, csumStart: 34, csumOffset: 16)
        let valid = PacketOffloads(flags: NetHeaderFlags.dataValid)
        let sent = port.queues[0].send([
            SourcePacket(frame, offloads: unfinished), SourcePacket(frame, offloads: valid),
            SourcePacket([UInt8](repeating: 0, count: 65590)),
        ])
        #expect(sent == 3)
        port.close()
        #expect(port.counters.droppedOut == ["badOffload": 1, "tooLong": 1])
        #expect(try CaptureFile.read(path: "\(folder)/out.pcapng").packets.map(\.bytes) == [frame])
        #expect(port.queues[0].send([SourcePacket(frame)]) == 1)
        #expect(port.counters.droppedOut["writeFailed"] == 1)
    }

    @Test("Errors name the port and the file")
    func errors() throws {
        #expect(
            words(PcapPortConfiguration(name: "p"))
                == "port p: needs a capture to play, to write, or both")
        #expect(
            words(PcapPortConfiguration(name: "p", input: "x", output: "x"))
                == "port p: x cannot be played and written at once")
        #expect(
            words(PcapPortConfiguration(name: "p", input: "\(folder)/none"))
                == "port p: \(folder)/none: cannot open: No such file or directory")
        #expect(
            words(PcapPortConfiguration(name: "p", output: "\(folder)/none/out")).contains(
                "cannot write \(folder)/none/out: No such file or directory"))
        #expect(
            words(PcapPortConfiguration(name: "p", output: "/dev/full")).contains(
                "cannot write /dev/full: No space left on device"))
        let runts = try capture([TestFrames.opaque(13)])
        #expect(
            words(PcapPortConfiguration(name: "p", input: runts))
                == "port p: \(runts): no packet has the length of a frame")
        var configuration = PcapPortConfiguration(name: "p", input: runts)
        configuration.loops = -1
        #expect(words(configuration) == "port p: -1 loops: need 0 or more")
        configuration.loops = 1
        configuration.packetsPerSecond = 0
        #expect(
            words(configuration) == "port p: 0 packets per second: need 1 to 1000000000")
    }
}
