// Programs that begin to take over and do not: the one that has the ports goes on as if nothing had
// been, with every packet.

import CleaveControl
import CleaveHost
import CleavePorts
import CleaveSwitch
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@Suite("A program that does not take over")
struct TakeoverFailureTests {
    /// How far a new program comes.
    enum Stage: String, CaseIterable {
        case says, wants, isTold, refuses, stops, refusesLate, isSilent

        /// What the old one's log has.
        var words: String {
            switch self {
            case .refuses: "no such thing"
            case .refusesLate: "not even now"
            case .isSilent: "it did not begin within 1000 ms"
            case .says: "it did not say what it wants"
            case .wants, .isTold, .stops: "gone"
            }
        }
    }

    private func fail(_ stage: Stage, _ control: String) throws {
        let pretender = try Pretender(control)
        if stage == .says {
            return try pretender.channel.send(.prepared, milliseconds: 1000)
        }
        try pretender.hello(["a", "b", "other"])
        if stage == .wants { return }
        let state = try pretender.offer()
        #expect(state.ports.map(\.name) == ["a", "b"])
        if stage == .isTold { return }
        if stage == .refuses {
            return try pretender.channel.send(.failed(reason: "no such thing"), milliseconds: 1000)
        }
        let position = try pretender.position()
        #expect(position.ports.count == 2)
        switch stage {
        case .refusesLate:
            try pretender.channel.send(.failed(reason: "not even now"), milliseconds: 1000)
        case .isSilent:
            usleep(1_300_000)
            // The old one goes on: whoever says now that it serves learns that it must not.
            #expect(throws: ControlFailure.self) {
                try pretender.channel.send(
                    .serves(nanoseconds: 1, queues: 2), milliseconds: 1000)
            }
        default: break
        }
    }

    @Test(
        "The old program goes on with every packet, however far a new one came",
        arguments: RingFormat.allCases)
    func goesOn(_ format: RingFormat) throws {
        let line = try Succession { program in
            program.ports("a") + [
                "--port",
                "type=vhost-user,path=\(program.path("b")),name=b,header-queue=on",
            ]
        }
        let sender = try LocalGuest(format, ringSize: 128)
        var shape = SplitGuest.Shape()
        (shape.ring, shape.ringSize) = (format, 128)
        let receiver = try SplitGuest(shape)
        try receiver.connect(
            line.first.path("b"), format == .split ? .messages : .chain)
        try sender.connect(line.first.path("a"))
        var flow = NumberedFlow()
        func move() {
            let before = flow.next
            flow.noteSent(sender.send(flow.frames(24, limit: 100)))
            flow.add(receiver.receive().joined().map { $0 })
            if flow.next == before { usleep(100) }
        }
        func moveOn() {
            let (wanted, end) = (flow.sent, SystemClock.monotonic + 20_000_000_000)
            while flow.next <= wanted, SystemClock.monotonic < end { move() }
            #expect(flow.next > wanted, "traffic goes on")
        }
        moveOn()
        for stage in Stage.allCases {
            let told = line.first.errors.count
            let control = line.control
            let errand = Errand { try self.fail(stage, control) }
            while !errand.isOver { move() }
            try errand.result()
            // Even where nobody says so, it is soon clear.
            #expect(
                VhostProcess.waitUntil {
                    move()
                    return line.first.errors.dropFirst(told).contains("this one goes on")
                }, "\(stage)")
            moveOn()
            #expect(
                line.first.errors.dropFirst(told).contains(stage.words),
                "\(stage): \(line.first.errors.dropFirst(told))")
        }
        // Another format is none that is known here, and no socket is no conversation.
        #expect(throws: ControlFailure.self) { _ = try Pretender(line.control, format: 2) }
        let client = try ControlClient(path: line.control)
        #expect(throws: ControlFailure.self) { _ = try client.ask("takeover", ["format": 1]) }
        // A second one while the first has only begun.
        // Once the one that was too late is gone for good.
        var begun: Pretender?
        #expect(
            VhostProcess.waitUntil {
                move()
                begun = try? Pretender(line.control)
                return begun != nil
            })
        let first = try #require(begun)
        try first.hello(["a"])
        _ = try first.offer()
        #expect(throws: ControlFailure.self) { _ = try Pretender(line.control) }
        try first.channel.send(.failed(reason: "enough"), milliseconds: 1000)
        #expect(
            VhostProcess.waitUntil {
                move()
                return line.first.errors.contains("enough")
            })
        // And then one that can.
        try line.upgrade { move() }
        moveOn()
        let patience = SystemClock.monotonic + 20_000_000_000
        while flow.next < flow.sent, SystemClock.monotonic < patience {
            flow.add(receiver.receive().joined().map { $0 })
        }
        #expect(flow.wrong.isEmpty && flow.repeated == 0 && flow.next == flow.sent)
        #expect(sender.tx.fault == .none && receiver.rx[0].fault == .none)
        #expect(receiver.conservesSlots())
        #expect(line.last.end() == 0)
    }

    /// Something that another thread does meanwhile.
    private final class Errand: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var outcome: Result<Void, any Error>?
        private var thread: PinnedThread?

        init(_ body: @escaping @Sendable () throws -> Void) {
            thread = try? PinnedThread(name: "errand", cpu: nil) { [self] in
                let outcome = Result { try body() }
                lock.withLock { self.outcome = outcome }
            }
        }

        var isOver: Bool { lock.withLock { outcome != nil } || thread == nil }
        func result() throws { try lock.withLock { outcome }?.get() }
    }

    @Test("A port that is another one here is refused before anything stops")
    func mismatches() throws {
        let program = try VhostProcess()
        let keys = "type=vhost-user,path=\(program.path("a")),name=a"
        let control = ["--control", program.path("control")]
        try program.start(["--port", keys + ",mtu=1500,queues=2"] + control)
        let guest = try LocalGuest(.split)
        try guest.connect(program.path("a"))
        let cases = [
            (keys + ",queues=2", "mtu is 1500 there, and none here"),
            (keys + ",mtu=1500", "queues is 2 there, and 1 here"),
            (keys + ",mtu=1500,queues=2,features-off=packed", "what it offers"),
            (keys + ",mtu=1500,queues=2,header-queue=on", "what it offers"),
            (keys + ",mtu=1500,queues=2,mac=52:54:00:12:34:56", "mac is none there"),
            (keys + ",mtu=1500,queues=2,mode=client", "mode is server there"),
            (
                "type=vhost-user,name=a,mtu=1500,queues=2,path=\(program.path("x"))",
                "path is \(program.path("a")) there"
            ),
            (
                "type=vhost-user,name=new,path=\(program.path("a"))",
                "another process listens at \(program.path("a"))"
            ),
            ("type=pcap,name=p,out=\(program.path("file"))", "would be emptied"),
        ]
        for (port, words) in cases {
            let new = try VhostProcess()
            try new.launch(["--port", port, "--takeover", program.path("control")] + control)
            #expect(new.awaitEnd() != 0)
            #expect(new.errors.contains(words), "\(port): \(new.errors)")
        }
        let lost = try VhostProcess()
        try lost.launch(["--port", keys, "--takeover", program.path("nobody")])
        #expect(lost.awaitEnd() == 1)
        #expect(lost.errors.contains("no such socket"), "\(lost.errors)")
        // The guest is still where it was.
        _ = try guest.leave()
        #expect(program.end() == 0)
    }

    @Test("Ports that only one of the two programs has begin, and end")
    func others() throws {
        let program = try VhostProcess()
        func port(_ name: String) -> [String] {
            ["--port", "type=vhost-user,path=\(program.path(name)),name=\(name)"]
        }
        let control = ["--control", program.path("control")]
        try program.start(port("gone") + port("stays") + control)
        let (goes, stays) = (try LocalGuest(.split), try LocalGuest(.packed))
        try goes.connect(program.path("gone"))
        try stays.connect(program.path("stays"))
        let new = try VhostProcess()
        try new.start(
            port("stays") + port("comes") + ["--takeover", program.path("control")] + control)
        #expect(program.awaitEnd() == 0)
        #expect(access(program.path("gone"), F_OK) != 0)
        let comes = try LocalGuest(.split)
        try comes.connect(program.path("comes"))
        var flow = NumberedFlow()
        flow.noteSent(comes.sendAll(flow.frames(20, limit: 20)))
        flow.add(stays.receive(atLeast: 20))
        #expect(flow.isComplete && flow.sent == 20)
        #expect(new.errors.contains("1 ports with 1 queues"), "\(new.errors)")
        #expect(new.end() == 0)
    }
}
