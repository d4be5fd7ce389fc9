import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

/// TAP devices and packet sockets of the real kernel, in a network of the test's own.
@Suite(
    .enabled(
        if: PrivateNetwork.obstacle == nil,
        "no private network: \(PrivateNetwork.obstacle ?? "")"))
struct KernelPortTests {
    private let host = LoneHost()

    private func tap(
        _ change: (inout TapPortConfiguration) -> Void = { _ in }
    ) throws -> TapPort {
        var configuration = TapPortConfiguration(name: "host", interface: "t0")
        change(&configuration)
        let port = try TapPort(configuration)
        try port.open(for: host)
        return port
    }

    private func packetPort(
        _ interface: String, _ change: (inout AFPacketPortConfiguration) -> Void = { _ in }
    ) throws -> AFPacketPort {
        var configuration = AFPacketPortConfiguration(name: "wire", interface: interface)
        change(&configuration)
        let port = try AFPacketPort(configuration)
        try port.open(for: host)
        return port
    }

    private static let veth = [
        "ip link add v0 type veth peer name v1", "ip link set v0 up", "ip link set v1 up",
    ]

    /// The next frame at an observer, with its header in front; waits for two seconds.
    private func observed(_ descriptor: Int32) throws -> (header: NetHeader, frame: [UInt8]) {
        var bytes = [UInt8](repeating: 0, count: 70000)
        for _ in 0..<2000 {
            let got = read(descriptor, &bytes, bytes.count)
            if got >= 10 {
                var header = bytes.withUnsafeBytes { buffer -> NetHeader in
                    // SAFETY: the array is not empty.
                    NetHeader(load: buffer.baseAddress.unsafelyUnwrapped, byteCount: 12)
                }
                header.numBuffers = 0
                return (header, [UInt8](bytes[10..<got]))
            }
            usleep(1000)
        }
        throw PrivateNetwork.Failure(description: "nothing was observed")
    }

    private func inject(_ descriptor: Int32, _ header: NetHeader, _ frame: [UInt8]) {
        var bytes = [UInt8](repeating: 0, count: 12)
        bytes.withUnsafeMutableBytes { buffer in
            // SAFETY: the array is not empty.
            header.store(to: buffer.baseAddress.unsafelyUnwrapped, byteCount: 12)
        }
        bytes.removeLast(2)
        bytes += frame
        #expect(write(descriptor, bytes, bytes.count) == bytes.count)
    }

    private static let superFrame = TestFrames.tcp4(TestFrames.payload(9000), optionWords: 3)
    private static let superOffloads = PacketOffloads(
        flags: NetHeaderFlags.needsChecksum, gsoType: SegmentationType.tcp4, gsoSize: 1448,
        csumStart: 34, csumOffset: 16)

    @Test("A frame to a TAP arrives byte for byte, in any segments, with its true header length")
    func tapOut() throws {
        try PrivateNetwork.run([]) {
            let port = try tap()
            defer { port.close() }
            try PrivateNetwork.shell("ip link set t0 up")
            let observer = try PrivateNetwork.observe("t0")
            defer { close(observer) }
            var random = SeededRandom(seed: 1)
            for frame in [
                TestFrames.tcp4(TestFrames.payload(1000), optionWords: 3),
                TestFrames.udp6(TestFrames.payload(33)), TestFrames.opaque(60),
            ] {
                let packet = SourcePacket(frame).scattered(&random, most: 40)
                #expect(port.queues[0].send([packet]) == 1)
                #expect(try observed(observer).frame == frame)
            }
            let packet = SourcePacket(Self.superFrame, offloads: Self.superOffloads)
                .scattered(&random, most: 3000)
            #expect(port.queues[0].send([packet]) == 1)
            let (header, frame) = try observed(observer)
            #expect(frame == Self.superFrame)
            #expect(header.flags == NetHeaderFlags.needsChecksum)
            #expect(header.gsoType == SegmentationType.tcp4)
            #expect(header.gsoSize == 1448)
            // Bytes that do not lie in pages: the headers alone, with TCP's options, of which the
            // kernel would know nothing else.
            #expect(header.hdrLen == 66)
            #expect(header.csumStart == 34 && header.csumOffset == 16)
            #expect(port.counters.packetsOut == 4)
            #expect(port.counters.bytesOut == UInt64(1066 + 95 + 60 + Self.superFrame.count))
            #expect(port.counters.droppedOut == [:])
        }
    }

    @Test("What the kernel sends through a TAP comes in, unsegmented")
    func tapIn() throws {
        try PrivateNetwork.run([]) {
            let port = try tap()
            defer { port.close() }
            try PrivateNetwork.shell("ip link set t0 up")
            let observer = try PrivateNetwork.observe("t0")
            defer { close(observer) }
            #expect(port.queues[0].take().isEmpty)
            let plain = TestFrames.udp4(TestFrames.payload(400))
            inject(observer, NetHeader(), plain)
            inject(
                observer,
                NetHeader(
                    flags: 1, gsoType: 1, hdrLen: 66, gsoSize: 1448, csumStart: 34, csumOffset: 16),
                Self.superFrame)
            let received = port.queues[0].take(atLeast: 2)
            #expect(
                received == [
                    ReceivedPacket(bytes: plain, offloads: .none),
                    ReceivedPacket(bytes: Self.superFrame, offloads: Self.superOffloads),
                ])
            #expect(port.counters.packetsIn == 2)
            #expect(port.counters.bytesIn == UInt64(plain.count + Self.superFrame.count))
        }
    }

    @Test("More frames than slots: those that are out stay, the others wait")
    func slots() throws {
        try PrivateNetwork.run([]) {
            let port = try tap()
            defer { port.close() }
            try PrivateNetwork.shell("ip link set t0 up")
            let observer = try PrivateNetwork.observe("t0")
            defer { close(observer) }
            let frames = (0..<100).map { TestFrames.udp4(TestFrames.payload(100, seed: $0)) }
            for frame in frames { inject(observer, NetHeader(), frame) }
            let queue = port.queues[0]
            let packets = UnsafeMutablePointer<TxPacket>.allocate(capacity: 100)
            defer { packets.deallocate() }
            func bytes(_ index: Int) -> [UInt8] {
                [UInt8](
                    UnsafeRawBufferPointer(
                        start: packets[index].pointer, count: Int(packets[index].byteCount)))
            }
            var poll = pollfd(fd: queue.wakeDescriptor, events: Int16(POLLIN), revents: 0)
            #expect(Glibc.poll(&poll, 1, 1000) == 1)
            #expect(queue.receive(packets, count: 100) == 64)
            #expect(queue.receive(packets + 64, count: 36) == 0)
            queue.complete(20)
            #expect(queue.receive(packets + 64, count: 36) == 20)
            for index in 20..<84 { #expect(bytes(index) == frames[index]) }
            queue.complete(64)
            #expect(queue.take(100).map(\.bytes) == [[UInt8]](frames[84...]))
            #expect(Glibc.poll(&poll, 1, 0) == 0)
        }
    }

    @Test("What the kernel does not take is dropped by reason, and the next goes out")
    func refusedOut() throws {
        try PrivateNetwork.run([]) {
            let port = try tap()
            defer { port.close() }
            let queue = port.queues[0]
            let frame = TestFrames.udp4(TestFrames.payload(100))
            // The device is down.
            #expect(queue.send([SourcePacket(frame)]) == 1)
            #expect(port.counters.droppedOut == ["linkDown": 1])
            try PrivateNetwork.shell("ip link set t0 up")
            let observer = try PrivateNetwork.observe("t0")
            defer { close(observer) }
            var lie = Self.superOffloads
            lie.gsoType = 2
            let sent = queue.send([
                SourcePacket([UInt8](frame.prefix(13))), SourcePacket(frame, offloads: lie),
                SourcePacket([UInt8](repeating: 0, count: 65590)),
                SourcePacket(segments: [[UInt8]](repeating: [1], count: 65)), SourcePacket(frame),
            ])
            #expect(sent == 5)
            #expect(try observed(observer).frame == frame)
            #expect(
                port.counters.droppedOut == [
                    "linkDown": 1, "runt": 1, "badOffload": 1, "tooLong": 1, "tooManySegments": 1,
                ])
            #expect(port.counters.packetsOut == 1)
        }
    }

    @Test("Several queues of a TAP, and a persistent device with another owner's settings")
    func multiQueue() throws {
        try PrivateNetwork.run([
            "ip tuntap add dev t0 mode tap multi_queue"
        ]) {
            let port = try tap { configuration in
                configuration.queues = 3
                configuration.mtu = 4000
            }
            defer { port.close() }
            try PrivateNetwork.shell("ip link set t0 up")
            try PrivateNetwork.shell("ip link show t0 | grep -q 'mtu 4000'")
            let observer = try PrivateNetwork.observe("t0")
            defer { close(observer) }
            for (index, queue) in port.queues.enumerated() {
                #expect(queue.isOpen)
                #expect(queue.offloads.contains([.guestChecksum, .guestTSO4, .guestTSO6]))
                let frame = TestFrames.udp4(TestFrames.payload(100 + index))
                #expect(queue.send([SourcePacket(frame)]) == 1)
                #expect(try observed(observer).frame == frame)
            }
            let frame = TestFrames.udp4(TestFrames.payload(77))
            inject(observer, NetHeader(), frame)
            var received: [ReceivedPacket] = []
            for _ in 0..<2000 where received.isEmpty {
                for queue in port.queues { received += queue.take() }
                usleep(1000)
            }
            #expect(received.map(\.bytes) == [frame])
            port.close()
            #expect(!port.queues[0].isOpen)
            #expect(port.queues[0].take().isEmpty)
            #expect(port.queues[0].send([SourcePacket(frame)]) == 1)
            #expect(port.counters.droppedOut == ["linkDown": 1])
            // It can be opened again, by one queue.
            let again = try tap()
            #expect(again.queues[0].isOpen)
            again.close()
        }
    }

    @Test("A TAP that somebody deletes is let go of, and can be opened again")
    func deleted() throws {
        try PrivateNetwork.run(["ip tuntap add dev t0 mode tap"]) {
            let port = try tap()
            #expect(port.controlDeadline != nil)
            port.service()
            #expect(port.queues[0].isOpen)
            try PrivateNetwork.shell("ip link del t0")
            #expect(port.queues[0].take().isEmpty)
            port.service()
            #expect(!port.queues[0].isOpen)
            #expect(port.queues[0].wakeDescriptor == -1)
            #expect(port.controlDeadline == nil)
            #expect(
                port.counters.events == [.interfaceDeleted: 1]
                    && port.counters.incoming.readErrors == 1)
            try port.open(for: host)
            port.service()
            #expect(port.queues[0].isOpen)
            port.close()
        }
    }

    @Test("A packet socket sends and takes frames, with offloads and tags")
    func packetSocket() throws {
        try PrivateNetwork.run(Self.veth) {
            let port = try packetPort("v0")
            defer { port.close() }
            let observer = try PrivateNetwork.observe("v1")
            defer { close(observer) }
            let queue = port.queues[0]
            let frame = TestFrames.tcp6(TestFrames.payload(900))
            #expect(
                queue.send([
                    SourcePacket(frame),
                    SourcePacket(Self.superFrame, offloads: Self.superOffloads),
                ]) == 2)
            #expect(try observed(observer).frame == frame)
            let (header, segments) = try observed(observer)
            #expect(segments == Self.superFrame)
            #expect(header.gsoType == SegmentationType.tcp4 && header.gsoSize == 1448)
            // What goes out does not come in.
            #expect(queue.take().isEmpty)

            let super4 = NetHeader(
                flags: 1, gsoType: 1, hdrLen: 66, gsoSize: 1448, csumStart: 34, csumOffset: 16)
            inject(observer, NetHeader(), frame)
            inject(observer, super4, Self.superFrame)
            // The kernel takes the tag out of it.
            var shifted = Self.superOffloads
            shifted.csumStart += 4
            var tagged = Self.superFrame
            tagged.insert(contentsOf: [0x81, 0, 0xa0, 5], at: 12)
            var taggedHeader = super4
            taggedHeader.csumStart += 4
            taggedHeader.hdrLen += 4
            inject(observer, taggedHeader, tagged)
            let received = queue.take(atLeast: 3)
            #expect(
                received == [
                    ReceivedPacket(bytes: frame, offloads: .none),
                    ReceivedPacket(bytes: Self.superFrame, offloads: Self.superOffloads),
                    ReceivedPacket(bytes: tagged, offloads: shifted),
                ])
            #expect(port.counters.packetsIn == 3)
            // More than the interface sends at once.
            #expect(queue.send([SourcePacket(TestFrames.opaque(3000))]) == 1)
            #expect(port.counters.droppedOut == ["tooLong": 1])
            try PrivateNetwork.shell("ip link set v0 down")
            #expect(queue.send([SourcePacket(frame)]) == 1)
            #expect(port.counters.droppedOut == ["tooLong": 1, "linkDown": 1])
        }
    }

    @Test("Queues of packet sockets share what comes in, each frame once")
    func fanout() throws {
        try PrivateNetwork.run(Self.veth) {
            let port = try packetPort("v0") { $0.queues = 4 }
            defer { port.close() }
            let observer = try PrivateNetwork.observe("v1")
            defer { close(observer) }
            var frames: Set<[UInt8]> = []
            for index in 0..<64 {
                var frame = TestFrames.udp4(TestFrames.payload(100))
                // Another source port: another flow.
                frame[35] = UInt8(index)
                frames.insert(frame)
                inject(observer, NetHeader(), frame)
            }
            var counts = [Int](repeating: 0, count: 4)
            var received: [[UInt8]] = []
            for _ in 0..<2000 where received.count < 64 {
                for (index, queue) in port.queues.enumerated() {
                    let part = queue.take()
                    counts[index] += part.count
                    received += part.map(\.bytes)
                }
                usleep(1000)
            }
            #expect(received.count == 64 && Set(received) == frames)
            #expect(counts.count { $0 > 0 } > 1)
        }
    }

    @Test("Frames that nobody takes in time are counted, also after the port's end")
    func lost() throws {
        try PrivateNetwork.run(Self.veth) {
            let port = try packetPort("v0")
            let observer = try PrivateNetwork.observe("v1")
            defer { close(observer) }
            let header = NetHeader(
                flags: 1, gsoType: 1, hdrLen: 66, gsoSize: 1448, csumStart: 34, csumOffset: 16)
            func flood() { for _ in 0..<2000 { inject(observer, header, Self.superFrame) } }
            flood()
            var taken = 0
            while case let received = port.queues[0].take(), !received.isEmpty {
                taken += received.count
            }
            let lost = port.counters.droppedIn["socketFull"] ?? 0
            #expect(lost > 0 && taken > 64)
            #expect(taken + Int(lost) == 2000)
            #expect(port.counters.droppedIn["socketFull"] == lost)
            flood()
            port.close()
            #expect(port.counters.droppedIn["socketFull"] ?? 0 > lost)
        }
    }

    @Test("Errors name the port, the interface and the remedy")
    func errors() throws {
        try PrivateNetwork.run(Self.veth + ["ip tuntap add dev single mode tap"]) {
            #expect(refusal(ofPacketPort: "none0") == "port wire: there is no interface none0")
            #expect(refusal(ofTap: "v0") == "port host: TAP device v0: it is no TAP device")
            let single = refusal(ofTap: "single", queues: 2)
            #expect(
                single.hasSuffix("single: it is no TAP device, or was made without multi_queue"))
            let port = try tap()
            let busy = refusal(ofTap: "t0")
            #expect(busy.contains("TAP device t0: another process uses it"))
            port.close()
            let (device, socket) = try PrivateNetwork.withoutRights {
                (refusal(ofTap: "t9"), refusal(ofPacketPort: "v0"))
            }
            #expect(
                device.hasPrefix("port host: TAP device t9: not permitted: it takes CAP_NET_ADMIN"))
            #expect(socket == "port wire: interface v0: not permitted: it takes CAP_NET_RAW")
            let mtu = refusal(ofTap: "t1", mtu: 65535)
            #expect(mtu.contains("MTU of t1: cannot set 65535: Invalid argument"))
        }
    }

    private func refusal(ofTap interface: String, queues: Int = 1, mtu: Int? = nil) -> String {
        do {
            _ = try tap { configuration in
                configuration.interface = interface
                configuration.queues = queues
                configuration.mtu = mtu
            }
            return "no error"
        } catch { return "\(error)" }
    }

    private func refusal(ofPacketPort interface: String) -> String {
        do { _ = try packetPort(interface) } catch { return "\(error)" }
        return "no error"
    }
}

/// Configurations that no kernel is asked about.
struct PortConfigurationTests {
    private func words(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return "no error"
    }

    @Test("Values out of range are refused by name")
    func values() {
        for name in ["", "sixteen-bytes-xx", "a b", "a/b", "t%d", ".", "a:b"] {
            let text = words { _ = try TapPort(.init(name: "p", interface: name)) }
            #expect(text.hasPrefix("port p: \"\(name)\" is no name of an interface"), "\(text)")
        }
        var tap = TapPortConfiguration(name: "p", interface: "fifteen-bytes-x")
        #expect(words { _ = try TapPort(tap) } == "no error")
        tap.queues = 257
        #expect(words { _ = try TapPort(tap) } == "port p: 257 queues: need 1 to 256")
        tap.queues = 1
        tap.mtu = 67
        #expect(words { _ = try TapPort(tap) } == "port p: MTU 67: need 68 to 65535")
        var packet = AFPacketPortConfiguration(name: "p", interface: "e0")
        packet.queues = 0
        #expect(words { _ = try AFPacketPort(packet) } == "port p: 0 queues: need 1 to 256")
    }
}
