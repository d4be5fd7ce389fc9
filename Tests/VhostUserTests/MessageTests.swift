// The form of messages: sizes, flags, descriptors, pauses and ends. Group A of the hostile
// catalogue, A01 to A15, A42 to A44 and A48.
import CCleaveHost
import CCleaveTestSupport
import CleaveTestSupport
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Messages of a front-end")
struct MessageTests {
    private static let getFeatures = Message(request: 1).bytes

    @Test("A01 A header that is cut short by the end closes", arguments: 1..<12)
    func shortHeader(_ count: Int) {
        let rig = SessionRig()
        let outcome = rig.outcome {
            rig.send(Array(Self.getFeatures.prefix(count)))
            rig.hangUp()
        }
        #expect(outcome == "CLOSE(shortHeader)")
        #expect(rig.session.service() != .open)
        #expect(rig.session.fileDescriptor == -1)
    }

    @Test("A01 A payload that is cut short by the end closes, an end between messages is none")
    func shortPayload() {
        let rig = SessionRig()
        let bytes = Message(request: 2, payload: PayloadWriter.number(0)).bytes
        let outcome = rig.outcome {
            rig.send(Array(bytes.dropLast()))
            rig.hangUp()
        }
        #expect(outcome == "CLOSE(shortPayload)")

        let other = SessionRig()
        other.startRing()
        _ = other.device.take()
        #expect(other.outcome { other.hangUp() } == "CLOSE(ended)")
        #expect(other.device.take() == ["stop 0"])
        #expect(
            other.session.service() == .closed(reason: "the front-end closed the connection"))
    }

    @Test("A02 A03 A message that comes byte by byte is answered when it is whole")
    func piecewise() {
        let rig = SessionRig(features: nil)
        let message = Message(request: 2, flags: 9, payload: PayloadWriter.number(1 << 32)).bytes
        for byte in message.dropLast() { #expect(rig.outcome { rig.send([byte]) } == "nothing") }
        #expect(rig.device.take() == [])
        #expect(rig.outcome { rig.send([message[message.count - 1]]) } == "ok")
        #expect(rig.device.take() == ["features \(1 << 32)"])
        #expect(rig.session.deadline == nil)
    }

    @Test("A02 Descriptors beside the first byte belong to a message that comes in pieces")
    func piecewiseDescriptors() {
        let rig = SessionRig()
        let message = Message(
            request: 5, flags: 9, payload: SessionRig.table([SharedMemory.region()])
        ).bytes
        rig.send([message[0]], [rig.memory.descriptor])
        #expect(rig.session.service() == .open)
        #expect(rig.outcome { rig.send(Array(message.dropFirst())) } == "ok")
        #expect(rig.session.table?.descriptions.count == 1)
    }

    @Test("A03 Many messages at once are all answered, a bounded number per call")
    func manyAtOnce() {
        let rig = SessionRig()
        for _ in 0..<200 { rig.send(1, flags: 1) }
        var seen: [Int] = []
        for _ in 0..<4 {
            #expect(rig.session.service() == .open)
            seen.append(rig.answers().count)
        }
        #expect(seen == [64, 64, 64, 8])
    }

    @Test("A04 A message that does not end in 5 seconds closes", arguments: [1, 11, 12, 19])
    func slowPeer(_ count: Int) throws {
        let rig = SessionRig()
        rig.clock.now = 100
        let bytes = Message(request: 2, payload: PayloadWriter.number(0)).bytes
        rig.send(Array(bytes.prefix(count)))
        #expect(rig.session.service() == .open)
        #expect(rig.session.deadline == 5_000_000_100)
        // Another byte does not buy more time.
        rig.clock.now = 5_000_000_099
        #expect(rig.session.service() == .open)
        rig.clock.now = 5_000_000_100
        #expect(rig.outcome {} == "CLOSE(timeout)")
        #expect(rig.session.deadline == nil)
    }

    @Test(
        "A05 A payload larger than any request closes before it is read",
        arguments: [4097, 65536, 0x7fff_ffff, 0xffff_ffff] as [UInt32])
    func oversize(_ size: UInt32) {
        let rig = SessionRig()
        var writer = PayloadWriter()
        for word in [1, 1, size] { writer.append(word) }
        #expect(rig.outcome { rig.send(writer.bytes) } == "CLOSE(oversize)")
    }

    @Test(
        "A06 A payload of another size than the request's is refused",
        arguments: FrontendRequest.allCases)
    func size(_ request: FrontendRequest) {
        let descriptors = request.shape.descriptors.lowerBound
        for count in [0, 1, 7, 8, 9, 12, 20, 39, 40, 41, 268, 269, 4096]
        where !request.shape.payload.contains(count) {
            let payload = [UInt8](repeating: 0, count: count)
            let rig = SessionRig.offeringAll()
            let passed = Array(repeating: rig.memory.descriptor, count: descriptors)
            // Acknowledged, it is refused; without, the connection is closed.
            let answers = rig.outcome { rig.send(request.rawValue, payload, passed) }
            #expect(answers == "REJ(size)", "\(count) bytes")
            let closes = rig.outcome { rig.send(request.rawValue, payload, passed, flags: 1) }
            #expect(closes == "CLOSE(size)", "\(count) bytes")
        }
    }

    @Test(
        "A07 Versions, replies and unknown flags are refused",
        arguments: [
            0, 2, 3, 5, 0x11, 0x8000_0001, 0xffff_fff1, 0xffff_ffff,
        ] as [UInt32])
    func flags(_ flags: UInt32) {
        let rig = SessionRig()
        let expected = flags & 8 == 0 ? "CLOSE(flags)" : "REJ(flags)"
        #expect(rig.outcome { rig.send(1, flags: flags) } == expected)
    }

    @Test(
        "A08 An unknown request is refused; three in a row close",
        arguments: [0, 45, 100, 0x1000, 0xffff_ffff] as [UInt32])
    func unknown(_ number: UInt32) {
        let rig = SessionRig()
        #expect(rig.outcome { rig.send(number, [1, 2, 3]) } == "REJ(unknown)")
        #expect(rig.outcome { rig.send(number, flags: 1) } == "silent unknown")
        #expect(rig.request(.getFeatures) == "answer")
        #expect(rig.outcome { rig.send(number) } == "REJ(unknown)")
        #expect(rig.outcome { rig.send(number) } == "REJ(unknown)")
        #expect(rig.outcome { rig.send(number) } == "CLOSE(unknown)")
        #expect(rig.session.counters["unknown"] == 6)
    }

    @Test(
        "A09 A request without its protocol feature is refused", arguments: FrontendRequest.allCases
    )
    func feature(_ request: FrontendRequest) {
        let needed = request.shape.feature
        if needed.isEmpty { return }
        let without = ProtocolFeatures.offered.subtracting(needed)
        let rig = SessionRig.offeringAll(without)
        let payload = [UInt8](repeating: 0, count: request.shape.payload.lowerBound)
        #expect(rig.outcome { rig.send(request.rawValue, payload) } == "REJ(feature)")
    }

    @Test("A09 Requests of features that are never offered are refused with their descriptors")
    func neverOffered() {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let identity = FileIdentity(pipe.reader)
        let served = Set(FrontendRequest.allCases.map(\.rawValue))
        for number in 1...FrontendRequest.highestKnown where !served.contains(number) {
            let outcome = rig.outcome { rig.send(number, [1, 2, 3, 4], [pipe.reader]) }
            #expect(outcome == "REJ(feature)", "request \(number)")
        }
        #expect(identity?.openCount == 2)
    }

    @Test(
        "A10 Descriptors on a request that takes none are refused and closed",
        arguments: FrontendRequest.allCases)
    func descriptors(_ request: FrontendRequest) {
        let shape = request.shape
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let identity = FileIdentity(pipe.reader)
        let rig = SessionRig.offeringAll()
        let payload = [UInt8](repeating: 0, count: shape.payload.lowerBound)
        for count in 0...8 where !shape.descriptors.contains(count) {
            let passed = Array(repeating: pipe.reader, count: count)
            let outcome = rig.outcome { rig.send(request.rawValue, payload, passed) }
            #expect(outcome == "REJ(fds)", "\(count) descriptors")
            #expect(identity?.openCount == 2)
        }
    }

    @Test(
        "A11 More descriptors than a message may carry close, and are closed",
        arguments: [9, 16, 253])
    func truncated(_ count: Int) {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let identity = FileIdentity(pipe.reader)
        let outcome = rig.outcome {
            Self.send(Self.getFeatures, Array(repeating: pipe.reader, count: count), to: rig.far)
        }
        #expect(outcome == "CLOSE(ctrunc)")
        #expect(identity?.openCount == 2)
    }

    @Test("A12 Descriptors beside a payload, or twice for a message, close")
    func misplaced() {
        let message = Message(request: 2, payload: PayloadWriter.number(0)).bytes
        for cut in [1, 11, 12, 13, 19] {
            let rig = SessionRig()
            let peers = PeerDescriptors()
            let pipe = peers.pipe()
            let identity = FileIdentity(pipe.reader)
            let outcome = rig.outcome {
                rig.send(Array(message.prefix(cut)), [pipe.reader])
                rig.send(Array(message.dropFirst(cut)), [pipe.reader])
            }
            #expect(outcome == "CLOSE(fds)", "cut at \(cut)")
            #expect(identity?.openCount == 2, "cut at \(cut)")
        }
    }

    @Test("A13 Ancillary data of another kind is ignored")
    func credentials() {
        let rig = SessionRig()
        var on: Int32 = 1
        setsockopt(
            rig.session.fileDescriptor, SOL_SOCKET, SO_PASSCRED, &on, socklen_t(4))
        #expect(rig.request(.getFeatures) == "answer")
        #expect(rig.setMemory([SharedMemory.region()]) == "ok")
        #expect(rig.session.table?.descriptions.count == 1)
    }

    @Test("A14 Descriptors of bad messages do not stay open, and good ones close on exec")
    func flat() throws {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let identity = try #require(FileIdentity(pipe.writer))
        for _ in 0..<5000 {
            _ = rig.outcome { rig.send(14, PayloadWriter.number(1 << 8), [pipe.writer]) }
            _ = rig.outcome { rig.send(3, [], [pipe.reader, pipe.writer]) }
            _ = rig.outcome {
                rig.send(37, SessionRig.single(SharedMemory.region()), [pipe.reader])
            }
        }
        #expect(identity.openCount == 2)
        #expect(rig.session.counters["fds"] == 10000)
        #expect(rig.session.counters["fdType"] == 5000)
        #expect(rig.setDescriptor(.setVringError, 0, pipe.writer) == "ok")
        let kept = identity.openDescriptors.filter { $0 != pipe.reader && $0 != pipe.writer }
        #expect(kept.count == 1)
        #expect(kept.allSatisfy { fcntl($0, F_GETFD) & FD_CLOEXEC != 0 })
    }

    @Test("A42 A request with an answer of its own is answered once")
    func oneReply() {
        let rig = SessionRig()
        for request in [FrontendRequest.getFeatures, .getQueueNum, .getStatus] {
            #expect(rig.request(request, flags: 1) != "nothing")
            #expect(rig.request(request, flags: 9) != "2 replies")
        }
    }

    @Test("A43 Without REPLY_ACK nothing is acknowledged")
    func noAcknowledgement() {
        let rig = SessionRig(protocolFeatures: [])
        #expect(rig.request(.setOwner) == "nothing")
        #expect(rig.request(.setOwner) == "silent owner")
        #expect(rig.outcome { rig.send(0) } == "silent unknown")
        #expect(rig.request(.getFeatures) == "answer")
    }

    @Test("A44 A peer that reads no answers is closed after a bounded amount of them")
    func backpressure() {
        let rig = SessionRig()
        rig.startRing()
        var messages = 0
        var outcome = BackendSession.Outcome.open
        while outcome == .open, messages < 1_000_000 {
            rig.send(1, flags: 1)
            outcome = rig.session.service()
            messages += 1
        }
        #expect(outcome == .closed(reason: Closure.backpressure.reason))
        #expect(rig.device.events.last == "stop 0")
        #expect(rig.session.counters["backpressure"] == 1)
    }

    @Test("A44 Answers that waited are sent when the peer reads, or closed for after 5 seconds")
    func lateReader() throws {
        for reads in [true, false] {
            let rig = SessionRig()
            var sent = 0
            while rig.session.deadline == nil, sent < 1_000_000 {
                rig.send(1, flags: 1)
                #expect(rig.session.service() == .open)
                sent += 1
            }
            // The owner is asked to come back soon.
            #expect(rig.session.deadline == rig.clock.now + Connection.retryInterval)
            rig.clock.now += Connection.patience
            if reads {
                var seen = rig.answers().count
                #expect(rig.session.service() == .open)
                seen += rig.answers().count
                #expect(seen == sent)
                #expect(rig.session.deadline == nil)
            } else {
                #expect(rig.outcome {} == "CLOSE(backpressure)")
            }
        }
    }

    @Test("A48 A connection that ends in mid message gives everything back")
    func midMessage() throws {
        let rig = SessionRig()
        rig.startRing(0)
        rig.startRing(1)
        let identity = try #require(FileIdentity(rig.memory.descriptor))
        #expect(identity.mappingCount == 1)
        _ = rig.device.take()
        let table = Message(request: 5, payload: SessionRig.table([SharedMemory.region()])).bytes
        let outcome = rig.outcome {
            rig.send(Array(table.prefix(20)), [rig.memory.descriptor])
            rig.hangUp()
        }
        #expect(outcome == "CLOSE(shortPayload)")
        #expect(rig.device.take() == ["stop 0", "stop 1"])
        #expect(identity.mappingCount == 0)
        #expect(identity.openCount == 1)
        rig.session.close()
        #expect(rig.device.take() == [])
    }

    /// Sends more descriptors than the product's own function allows.
    private static func send(_ bytes: [UInt8], _ descriptors: [Int32], to socket: Int32) {
        #expect(
            peer_send(socket, bytes, UInt(bytes.count), descriptors, Int32(descriptors.count)) == 0)
    }
}
