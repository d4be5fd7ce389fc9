// Ports of every kind, taken over while packets flow.

import CCleaveHost
import CleaveControl
import CleaveHost
import CleaveSwitch
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Glibc
import Testing

/// A guest at one end and the test at an interface of the kernel at the other; both send.
private final class KernelPair {
    let guest: LocalGuest
    private let observer: Int32
    /// To the guest, and from it.
    private(set) var toGuest = NumberedFlow()
    private(set) var fromGuest = NumberedFlow()

    /// What is out at once: the kernel holds far more.
    private static let limit = 40

    init(_ program: VhostProcess, at interface: String) throws {
        guest = try LocalGuest(.split, ringSize: 128)
        observer = try PrivateNetwork.observe(interface)
        try guest.connect(program.path("a"))
    }

    deinit { close(observer) }

    func move() {
        let before = toGuest.next + fromGuest.next
        fromGuest.noteSent(guest.send(fromGuest.frames(8, limit: Self.limit)))
        for frame in toGuest.frames(8, limit: Self.limit) {
            // A virtio-net header without offloads goes first, 10 bytes.
            let bytes = [UInt8](repeating: 0, count: 10) + frame
            if write(observer, bytes, bytes.count) == bytes.count { toGuest.noteSent(1) }
        }
        take()
        if toGuest.next + fromGuest.next == before { usleep(200) }
    }

    private func take() {
        toGuest.add(guest.receive())
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(observer, &bytes, bytes.count)
            if count <= 10 { break }
            fromGuest.add([Array(bytes[10..<count])])
        }
        _ = guest.tx.reap()
    }

    /// Until frames have arrived both ways that were not sent before.
    func moveOn() {
        let wanted = (toGuest.sent, fromGuest.sent)
        let end = SystemClock.monotonic + 20_000_000_000
        while toGuest.next <= wanted.0 || fromGuest.next <= wanted.1,
            SystemClock.monotonic < end
        { move() }
        #expect(toGuest.next > wanted.0 && fromGuest.next > wanted.1, "packets go on")
    }

    /// Every frame has arrived once, in order.
    func check() {
        let end = SystemClock.monotonic + 20_000_000_000
        while !toGuest.isComplete || !fromGuest.isComplete, SystemClock.monotonic < end {
            take()
            usleep(500)
        }
        for flow in [toGuest, fromGuest] {
            #expect(flow.wrong.isEmpty && flow.repeated == 0)
            #expect(flow.next == flow.sent && flow.sent > 20)
        }
        #expect(guest.tx.fault == .none && guest.rx.fault == .none)
    }
}

/// What the program at a control socket has counted.
private func statistics(_ control: String) throws -> SwitchStatistics {
    try #require(try ControlClient(path: control).ask("stats")["statistics"])
        .decoded(as: SwitchStatistics.self)
}

@Suite(
    "Kernel interfaces that are taken over",
    .enabled(
        if: PrivateNetwork.obstacle == nil,
        "no private network: \(PrivateNetwork.obstacle ?? "")"))
struct KernelTakeoverTests {
    private static let veth = [
        "ip link add v0 type veth peer name v1", "ip link set v0 up", "ip link set v1 up",
    ]

    /// A port's keys, where the test is, and what makes the interface.
    struct Kind: CustomTestStringConvertible {
        var keys: String
        var observed: String
        var isTap: Bool { observed == "t0" }
        var testDescription: String { keys }

        static let all = ["", ",queues=2"].flatMap {
            [
                Kind(keys: "type=tap,interface=t0\($0)", observed: "t0"),
                Kind(keys: "type=af-packet,interface=v0\($0)", observed: "v1"),
            ]
        }
    }

    @Test(
        "Every frame arrives once and in order, both ways, at an interface that stays",
        arguments: Kind.all)
    func upgrades(_ kind: Kind) throws {
        try PrivateNetwork.run(kind.isTap ? [] : Self.veth) {
            let line = try Succession { program in
                program.ports("a") + ["--port", kind.keys + ",name=host"]
            }
            if kind.isTap { try PrivateNetwork.shell("ip link set t0 up") }
            let index = if_nametoindex(kind.observed)
            let pair = try KernelPair(line.first, at: kind.observed)
            for _ in 0..<3 {
                pair.moveOn()
                let said = try line.upgrade { pair.move() }
                #expect(said.contains("2 ports"), "\(said)")
            }
            pair.moveOn()
            pair.check()
            // A TAP device that was made for the port is the same one still.
            #expect(index > 0 && if_nametoindex(kind.observed) == index)
            let counted = try statistics(line.control)
            for port in counted.ports {
                #expect(port.incoming.packets > 0 && port.outgoing.packets > 0)
                #expect(port.droppedIn.merging(port.droppedOut) { $0 + $1 }.allSatisfy { $1 == 0 })
            }
            #expect(line.last.end() == 0)
            // The last one takes its device along.
            if kind.isTap { #expect(if_nametoindex("t0") == 0) }
        }
    }

    @Test("A new program whose interface or queues are others is refused, and frames go on")
    func refused() throws {
        try PrivateNetwork.run(Self.veth) {
            let program = try VhostProcess()
            let control = ["--control", program.path("control")]
            try program.start(
                program.ports("a") + ["--port", "type=tap,interface=t0,name=host,queues=2"]
                    + control)
            try PrivateNetwork.shell("ip link set t0 up")
            let pair = try KernelPair(program, at: "t0")
            pair.moveOn()
            let cases = [
                ("type=tap,interface=t1,queues=2", "interface is t0 there, and t1 here"),
                ("type=tap,interface=t0", "queues is 2 there, and 1 here"),
                ("type=af-packet,interface=v0", "it is a tap port there, and a af-packet port"),
                ("type=vhost-user,path=\(program.path("x"))", "it is a tap port there"),
            ]
            for (keys, words) in cases {
                let new = try VhostProcess()
                try new.launch(
                    program.ports("a") + ["--port", keys + ",name=host"]
                        + ["--takeover", program.path("control")])
                #expect(new.awaitEnd() == 1)
                #expect(new.errors.contains(words), "\(keys): \(new.errors)")
                pair.moveOn()
            }
            pair.check()
            #expect(program.end() == 0)
        }
    }
}

@Suite("Ports of other kinds that are taken over")
struct TakeoverKindTests {
    @Test("A connection that the program made itself goes on, and the next one is made anew")
    func client() throws {
        let listener = Listener()
        let line = try Succession { program in
            listener.open(program.path("a"))
            return program.ports("b") + [
                "--port", "type=vhost-user,path=\(program.path("a")),name=a,mode=client",
            ]
        }
        let guests = [
            try LocalGuest(.split, ringSize: 128), try LocalGuest(.packed, ringSize: 128),
        ]
        try guests[0].connect(over: listener.accept())
        try guests[1].connect(line.first.path("b"))
        var flows = [NumberedFlow(), NumberedFlow()]
        func move() {
            let before = flows.map(\.next)
            for (index, guest) in guests.enumerated() {
                flows[index].noteSent(guest.send(flows[index].frames(24, limit: 100)))
                flows[1 - index].add(guest.receive())
            }
            if before == flows.map(\.next) { usleep(100) }
        }
        func moveOn() {
            let (wanted, end) = (flows.map(\.sent), SystemClock.monotonic + 20_000_000_000)
            while zip(flows, wanted).contains(where: { $0.next <= $1 }),
                SystemClock.monotonic < end
            { move() }
        }
        for _ in 0..<3 {
            moveOn()
            try line.upgrade { move() }
        }
        moveOn()
        let end = SystemClock.monotonic + 20_000_000_000
        while flows.contains(where: { $0.next < $0.sent }), SystemClock.monotonic < end {
            for (index, guest) in guests.enumerated() { flows[1 - index].add(guest.receive()) }
        }
        #expect(flows.allSatisfy { $0.isComplete && $0.sent > 60 })
        #expect(guests.allSatisfy { $0.tx.fault == .none && $0.rx.fault == .none })
        // Nobody has connected meanwhile, and the last program does once its front-end goes.
        #expect(!listener.isAsked)
        let bases = try guests[0].leave()
        try guests[0].connect(over: listener.accept(), bases: bases)
        moveOn()
        #expect(line.last.end() == 0)
        #expect(access(line.first.path("a"), F_OK) == 0, "the file is the front-end's")
    }

    /// A front-end's end of a socket that programs connect to.
    private final class Listener {
        private var descriptor: Int32 = -1

        func open(_ path: String) { descriptor = cleave_unix_listen(path, -1) }

        deinit { if descriptor >= 0 { close(descriptor) } }

        var isAsked: Bool {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            return poll(&waiting, 1, 0) > 0
        }

        func accept() throws -> Int32 {
            #expect(VhostProcess.waitUntil { isAsked })
            let result = cleave_unix_accept(descriptor)
            try #require(result >= 0)
            return result
        }
    }
}
