import CCleaveHost
import CleaveEngine
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleavePorts
@testable import CleaveSwitch

/// A switch that runs: its ports' sockets lie in a folder of their own, its control thread serves.
final class RunningSwitch: @unchecked Sendable {
    // SAFETY: after `init` the switch is used by its control thread alone, but for `counters`,
    // which are read when that has ended.

    let folder: String
    private let joined: Switch
    private let stop: SharedFlag
    private let errands: Errands
    let log: Log
    private let thread: PinnedThread

    /// A flag that two threads see.
    final class SharedFlag: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var isSet = false
        func set() { lock.withLock { isSet = true } }
        var value: Bool { lock.withLock { isSet } }
    }

    /// What was said to the operator.
    final class Log: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var said: [String] = []
        func add(_ line: String) { lock.withLock { said.append(line) } }
        var lines: [String] { lock.withLock { said } }
    }

    /// What the control thread shall do.
    final class Errands: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var waiting: [@Sendable (VhostUserPort) -> Void] = []
        private var names: [String] = []
        private var ofSwitch: [@Sendable (Switch) -> Void] = []
        func add(_ name: String, _ body: @escaping @Sendable (VhostUserPort) -> Void) {
            lock.withLock {
                waiting.append(body)
                names.append(name)
            }
        }
        func add(_ body: @escaping @Sendable (Switch) -> Void) {
            lock.withLock { ofSwitch.append(body) }
        }
        func run(_ joined: Switch) {
            for body in lock.withLock({ ofSwitch }) {
                body(joined)
                // Only then whoever waits for it goes on.
                lock.withLock { _ = ofSwitch.removeFirst() }
            }
        }
        func run(_ ports: [VhostUserPort]) {
            let (bodies, names) = lock.withLock {
                defer { (waiting, self.names) = ([], []) }
                return (waiting, self.names)
            }
            for (body, name) in zip(bodies, names) {
                if let port = ports.first(where: { $0.name == name }) { body(port) }
            }
        }
        var isEmpty: Bool { lock.withLock { waiting.isEmpty && ofSwitch.isEmpty } }
    }

    /// Carries the switch to its thread, which is alone with it.
    private struct Carrier: @unchecked Sendable {
        // SAFETY: see above.
        let joined: Switch
        let ports: [VhostUserPort]
    }

    init(
        _ names: [String], wires: [(String, String)] = [], idle: IdlePolicy = .park,
        threads: Int = 1, holdMicroseconds: Int = 1000,
        _ change: (inout VhostUserPortConfiguration) -> Void = { _ in }
    ) throws {
        var template = Array("/tmp/cleave-switch.XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        folder = String(cString: made)
        var configuration = SwitchConfiguration()
        configuration.idle = idle
        configuration.wires = wires
        configuration.holdMicroseconds = holdMicroseconds
        configuration.threads = [Int?](repeating: nil, count: threads)
        var ports: [VhostUserPort] = []
        for name in names {
            var port = VhostUserPortConfiguration(name: name, path: "\(folder)/\(name)")
            change(&port)
            ports.append(try VhostUserPort(port))
        }
        let log = Log()
        self.log = log
        joined = try Switch(configuration, ports: ports) { log.add($0.description) }
        try joined.open()
        stop = SharedFlag()
        errands = Errands()
        let (carrier, flag, errands) = (Carrier(joined: joined, ports: ports), stop, errands)
        thread = try PinnedThread(name: "control", cpu: nil) {
            carrier.joined.serve {
                errands.run(carrier.ports)
                errands.run(carrier.joined)
                return flag.value
            }
        }
    }

    /// Does something with a port on the control thread, and returns when that has begun.
    func with(_ name: String, _ body: @escaping @Sendable (VhostUserPort) -> Void) {
        errands.add(name, body)
        while !errands.isEmpty { usleep(1000) }
    }

    /// Does something with the switch on the control thread.
    func begin(_ body: @escaping @Sendable (Switch) -> Void) { errands.add(body) }

    /// The same, and returns when that is done.
    func change(_ body: @escaping @Sendable (Switch) -> Void) {
        begin(body)
        awaitChange()
    }

    func awaitChange() { while !errands.isEmpty { usleep(1000) } }

    /// A test that throws does not end it.
    deinit { stop.set() }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// Ends it.
    /// - Returns: what each port has done.
    func end() -> [String: PortCounters] {
        stop.set()
        thread.join()
        joined.close()
        rmdir(folder)
        return Dictionary(uniqueKeysWithValues: joined.counters.map { ($0.name, $0.counters) })
    }

    /// What the switch counted at a port. After the end.
    func switched(_ port: String, _ event: SwitchEvent) -> UInt64 {
        joined.statistics.ports.first { $0.name == port }?.switched[event.name] ?? 0
    }
}

@Suite("From guest to guest, over sockets")
struct GuestToGuestTests {
    private static let left = Frame.mac(1)
    private static let right = Frame.mac(2)

    private func frames(_ count: Int, to: [UInt8], from: [UInt8], first: Int = 0) -> [[UInt8]] {
        (first..<first + count).map { number in
            let bytes = [UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)]
            return Frame.make(to: to, from: from, bytes, byteCount: 60 + number * 37 % 1440)
        }
    }

    @Test(
        "Every byte arrives in order, whatever the rings and however the thread waits",
        arguments: RingFormat.allCases, RingFormat.allCases)
    func bytes(_ one: RingFormat, _ other: RingFormat) throws {
        for (idle, features, threads) in [
            (IdlePolicy.park, VirtioFeatures.eventIndex, 1), (.pause, [], 1),
            (.park, .inOrder, 1), (.park, .eventIndex, 2), (.pause, .inOrder, 3),
        ] {
            let running = try RunningSwitch(
                ["a", "b"], wires: [("a", "b")], idle: idle, threads: threads)
            let guests = [
                try LocalGuest(one, features: features), try LocalGuest(other, features: features),
            ]
            try guests[0].connect(running.path("a"))
            try guests[1].connect(running.path("b"))
            // More than the ring, past its end several times.
            for round in 0..<10 {
                let sent = frames(40, to: Self.right, from: Self.left, first: round * 40)
                let back = frames(24, to: Self.left, from: Self.right, first: round * 24)
                #expect(guests[0].sendAll(sent) == 40)
                #expect(guests[1].sendAll(back) == 24)
                #expect(guests[1].receive(atLeast: 40) == sent)
                #expect(guests[0].receive(atLeast: 24) == back)
            }
            #expect(guests.allSatisfy { $0.rx.fault == .none && $0.tx.fault == .none })
            for guest in guests { guest.vanish() }
            let counters = running.end()
            #expect(counters["a"]?.packetsIn == 400 && counters["a"]?.packetsOut == 240)
            #expect(counters["b"]?.packetsIn == 240 && counters["b"]?.packetsOut == 400)
            #expect(counters.values.allSatisfy { $0.droppedIn.isEmpty && $0.droppedOut.isEmpty })
        }
    }

    @Test(
        "A guest that leaves in order, and one that vanishes, come back to the same switch",
        arguments: 1...2)
    func reconnect(threads: Int) throws {
        let running = try RunningSwitch(["a", "b"], threads: threads)
        let guests = [try LocalGuest(.split), try LocalGuest(.packed)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        for round in 0..<5 {
            let sent = frames(10, to: Self.right, from: Self.left, first: round * 10)
            #expect(guests[0].send(sent) == 10)
            #expect(guests[1].receive(atLeast: 10) == sent)
            // Both rings go on where they stood.
            let bases = try guests[0].leave()
            try guests[0].connectPatiently(running.path("a"), bases: bases)
            let others = try guests[1].leave()
            try guests[1].connectPatiently(running.path("b"), bases: others)
        }
        // Another guest at the same socket, from nothing.
        guests[1].vanish()
        let fresh = try LocalGuest(.split)
        try fresh.connectPatiently(running.path("b"))
        let sent = frames(10, to: Self.right, from: Self.left)
        #expect(guests[0].send(sent) == 10)
        #expect(fresh.receive(atLeast: 10) == sent)
        guests[0].vanish()
        fresh.vanish()
        let counters = running.end()
        #expect(counters["b"]?.packetsOut == 60)
    }

    @Test(
        "A guest's new memory table shows its traffic to nobody else, and loses none of it",
        arguments: 1...3)
    func memoryChange(threads: Int) throws {
        let running = try RunningSwitch(["a", "b", "c"], threads: threads)
        let guests = try ["a", "b", "c"].map { name in
            let guest = try LocalGuest(.split)
            try guest.connect(running.path(name))
            return guest
        }
        // Where b is, all know now.
        #expect(guests[1].send(frames(1, to: Self.left, from: Self.right)) == 1)
        #expect(guests[0].receive(atLeast: 1).count == 1)
        #expect(guests[2].receive(atLeast: 1).count == 1)
        for round in 0..<20 {
            try guests[1].sendMemory()
            let sent = frames(20, to: Self.right, from: Self.left, first: round * 20)
            #expect(guests[0].sendAll(sent) == 20)
            try guests[2].sendMemory()
            #expect(guests[1].receive(atLeast: 20) == sent)
        }
        #expect(guests[2].receive().isEmpty)
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters.values.allSatisfy { $0.droppedOut.isEmpty && $0.droppedIn.isEmpty })
    }

    @Test("A49 Hundreds of connections leave descriptors and mappings where they were")
    func manyConnections() throws {
        let running = try RunningSwitch(["a"])
        let guest = try LocalGuest(.split)
        let idle = try #require(guest.memoryUse())
        // Its own descriptor and mapping, at least: the count sees them.
        #expect(idle[0] >= 1 && idle[1] >= 1)
        try guest.connect(running.path("a"))
        var bases = try guest.leave()
        // Tests run beside others, so only what is of this guest's memory file is counted.
        for _ in 0..<300 {
            try guest.connectPatiently(running.path("a"), bases: bases)
            bases = try guest.leave()
        }
        var after = try #require(guest.memoryUse())
        // The port sees the end of the last connection a moment later.
        for _ in 0..<1000 where after != idle {
            usleep(10_000)
            after = try #require(guest.memoryUse())
        }
        #expect(after == idle)
        #expect(running.end()["a"]?.events[.connects] ?? 0 >= 301)
    }

    @Test("F09 A guest that connects without end does not fill the log, and the log says so")
    func logLimit() throws {
        let running = try RunningSwitch(["a"])
        let start = SystemClock.monotonic
        for _ in 0..<500 {
            let socket = cleave_unix_connect(running.path("a"))
            if socket >= 0 { Glibc.close(socket) }
            usleep(100)
        }
        // When a line may come again, one tells of those that did not.
        for _ in 0..<100 where !running.log.lines.contains(where: { $0.contains("left out") }) {
            usleep(50_000)
        }
        let events = try #require(running.end()["a"]).events
        let seconds = Int((SystemClock.monotonic - start) / LogLimit.interval) + 1
        let told = running.log.lines.filter { $0.contains("left out") }
        #expect(!told.isEmpty)
        #expect(running.log.lines.count <= Int(LogLimit.burst) + 2 * seconds)
        let caused = [PortEvent.connects, .disconnects, .refusedConnections].reduce(0) {
            $0 + (events[$1] ?? 0)
        }
        let said = UInt64(running.log.lines.count - told.count)
        #expect(said + (events[.logLinesLeftOut] ?? 0) == caused)
    }

    @Test("A49 A second front-end is refused while one is there, which goes on")
    func secondFrontEnd() throws {
        let running = try RunningSwitch(["a", "b"], wires: [("a", "b")])
        let guests = [try LocalGuest(.split), try LocalGuest(.split)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        let intruder = try LocalGuest(.split)
        #expect(throws: SetupError.self) { try intruder.connect(running.path("a")) }
        let sent = frames(5, to: Self.right, from: Self.left)
        #expect(guests[0].send(sent) == 5)
        #expect(guests[1].receive(atLeast: 5) == sent)
        for guest in guests { guest.vanish() }
        #expect(running.end()["a"]?.events[.refusedConnections] == 1)
    }

    @Test(
        "Receivers that are slow, stopped and killed take nothing from others, on several threads",
        arguments: 2...3, RingFormat.allCases)
    func badReceivers(threads: Int, _ ring: RingFormat) throws {
        let names = ["sender", "well", "slow", "stopped", "killed"]
        let running = try RunningSwitch(names, threads: threads)
        let guests = try names.map { name in
            let guest = try LocalGuest(ring, ringSize: 128)
            try guest.connect(running.path(name))
            return guest
        }
        let addresses = (1...5).map { Frame.mac(UInt8($0)) }
        // Where each is, all know: one flood, and the answers.
        #expect(guests[0].send([Frame.make(to: Frame.mac(9), from: addresses[0])]) == 1)
        for (index, guest) in guests.enumerated().dropFirst() {
            #expect(guest.receive(atLeast: 1).count == 1)
            #expect(guest.send([Frame.make(to: addresses[0], from: addresses[index])]) == 1)
            #expect(guests[0].receive(atLeast: 1).count == 1)
        }
        var arrived: [[[UInt8]]] = [[], []]
        var sent = 0
        for round in 0..<120 {
            // Half way one of them is gone for good, with packets on their way to it.
            if round == 60 { guests[4].vanish() }
            var frames: [[UInt8]] = []
            for target in 1...4 {
                frames += self.frames(6, to: addresses[target], from: addresses[0], first: sent)
            }
            #expect(guests[0].sendAll(frames) == 24, "the sender is held up")
            sent += 6
            arrived[0] += guests[1].receive()
            if round % 3 == 2 { arrived[1] += guests[2].receive() }
        }
        // Packets to one that is gone come to all: these are of other flows.
        func own(_ target: Int) -> [[UInt8]] {
            arrived[target - 1].filter { $0.starts(with: addresses[target]) }
        }
        let end = SystemClock.monotonic + 20_000_000_000
        while own(1).count < sent && SystemClock.monotonic < end {
            usleep(200)
            arrived[0] += guests[1].receive()
        }
        #expect(own(1) == frames(sent, to: addresses[1], from: addresses[0]))
        // What the slow one has got is in order.
        usleep(20_000)
        arrived[1] += guests[2].receive()
        let slow = frames(sent, to: addresses[2], from: addresses[0])
        var next = slow.startIndex
        for frame in own(2) {
            guard let found = slow[next...].firstIndex(of: frame) else {
                Issue.record("out of order, or not sent")
                break
            }
            next = found + 1
        }
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters["sender"]?.packetsIn == UInt64(4 * sent + 1))
        // But for the first, since its port forgot the one that was killed.
        let flooded = (running.switched("sender", .flooded)) - 1
        #expect(flooded > 0)
        for name in names[1...] {
            let port = try #require(counters[name])
            let out = port.packetsOut + port.droppedOut.values.reduce(0, +) - 1
            let isKilled = name == "killed"
            #expect(out == (isKilled ? UInt64(sent) - flooded : UInt64(sent) + flooded), "\(port)")
            let reasons: Set = ["noRoom", "waitingFull", isKilled ? "portClosed" : "noRoom"]
            #expect(Set(port.droppedOut.keys).isSubset(of: reasons))
            if name == "stopped" || isKilled { #expect(port.packetsOut <= 129) }
        }
    }

    @Test(
        "Four guests send to one, on three threads: each one's packets in order, nothing lost",
        arguments: [IdlePolicy.park, .pause])
    func manyToOne(idle: IdlePolicy) throws {
        let names = (0..<5).map { "p\($0)" }
        let running = try RunningSwitch(names, idle: idle, threads: 3)
        let guests = try names.map { name in
            let guest = try LocalGuest(.split, ringSize: 256)
            try guest.connect(running.path(name))
            return guest
        }
        // All send to the last, which takes what comes.
        let target = Frame.mac(5)
        #expect(guests[4].send([Frame.make(to: Frame.mac(9), from: target)]) == 1)
        for guest in guests[..<4] { #expect(guest.receive(atLeast: 1).count == 1) }
        var sent = [0, 0, 0, 0]
        var arrived: [[UInt8]] = []
        let end = SystemClock.monotonic + 60_000_000_000
        while arrived.count < 4 * 2000 && SystemClock.monotonic < end {
            for sender in 0..<4 where sent[sender] < 2000 && sent.reduce(0, +) - arrived.count < 150
            {
                let frames = (0..<min(8, 2000 - sent[sender])).map { index in
                    let number = sent[sender] + index
                    let bytes = [UInt8(sender), UInt8(number & 255), UInt8(number >> 8)]
                    return Frame.make(
                        to: target, from: Frame.mac(UInt8(sender)), bytes,
                        byteCount: 60 + number % 1400)
                }
                sent[sender] += guests[sender].send(frames)
            }
            arrived += guests[4].receive()
        }
        #expect(arrived.count == 4 * 2000)
        for sender in 0..<4 {
            let numbers = arrived.filter { $0[14] == UInt8(sender) }
                .map { Int($0[15]) | Int($0[16]) << 8 }
            #expect(numbers == Array(0..<2000))
        }
        #expect(
            arrived.allSatisfy { $0.count == 60 + (Int($0[15]) | Int($0[16]) << 8) % 1400 })
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters["p4"]?.packetsOut == 8000)
        #expect(counters.values.allSatisfy { $0.droppedOut.isEmpty && $0.droppedIn.isEmpty })
    }

    @Test(
        "A sender that dies while its packets wait elsewhere takes them along, and nothing more",
        arguments: 1...3)
    func deadSender(threads: Int) throws {
        // Longer than the test: what waits goes by its sender's end alone.
        let running = try RunningSwitch(
            ["a", "b", "c"], threads: threads, holdMicroseconds: 1_000_000)
        var guests = [try LocalGuest(.split), try LocalGuest(.packed), try LocalGuest(.split)]
        for (guest, name) in zip(guests[1...], ["b", "c"]) {
            try guest.connect(running.path(name))
        }
        // Where b is. It takes 64 packets and then no more; c takes all it gets.
        #expect(guests[1].send([Frame.make(to: Frame.mac(9), from: Self.right)]) == 1)
        #expect(guests[2].receive(atLeast: 1).count == 1)
        #expect(guests[2].send([Frame.make(to: Frame.mac(9), from: Frame.mac(3))]) == 1)
        #expect(guests[1].receive(atLeast: 1).count == 1)
        var bases: [UInt16]?
        for round in 0..<20 {
            try guests[0].connectPatiently(running.path("a"), bases: bases)
            bases = nil
            let sent = frames(12, to: Self.right, from: Self.left, first: round * 12)
            #expect(guests[0].send(sent) == 12)
            usleep(UInt32(round % 5) * 1000)
            if round % 2 == 0 {
                // In order: the rings stop while packets wait, and go on where they stood.
                bases = try guests[0].leave()
            } else {
                guests[0].vanish()
                guests[0] = try LocalGuest(.split)
            }
            let others = frames(5, to: Frame.mac(3), from: Self.right, first: round * 5)
            #expect(guests[1].sendAll(others) == 5)
            #expect(guests[2].receive(atLeast: 5) == others)
        }
        guests[0].vanish()
        // `receive` posts buffers: not before what waits is gone with its sender, for whom a port
        // whose requests cost much looks only now and then.
        let isGone = RunningSwitch.SharedFlag()
        for _ in 0..<10_000 where !isGone.value {
            running.with("a") { if !$0.isConnected { isGone.set() } }
        }
        #expect(isGone.value)
        let arrived = guests[1].receive()
        let numbers = arrived.map { Int($0[14]) | Int($0[15]) << 8 }
        #expect(arrived.count <= 64 && zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
        let expected = numbers.flatMap {
            frames(1, to: Self.right, from: Self.left, first: $0)
        }
        #expect(arrived == expected)
        for guest in guests[1...] { guest.vanish() }
        let counters = running.end()
        let port = try #require(counters["b"])
        #expect(port.droppedOut.values.reduce(0, +) > 100)
        // The answer of c, and what a's rings gave up.
        #expect(
            counters["a"]?.packetsIn
                == port.packetsOut + port.droppedOut.values.reduce(0, +) - 1)
    }

    @Test(
        "A guest that moved is announced amid its traffic, which goes on whole", arguments: 1...2)
    func announcements(threads: Int) throws {
        let running = try RunningSwitch(["a", "b"], wires: [("a", "b")], threads: threads)
        let guests = [try LocalGuest(.split), try LocalGuest(.split)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        let mac: [UInt8] = [0x52, 0x54, 0, 0, 0, 7]
        var arrived: [[UInt8]] = []
        for round in 0..<40 {
            let sent = frames(20, to: Self.right, from: Self.left, first: round * 20)
            #expect(guests[0].sendAll(sent) == 20)
            if round % 8 == 4 { running.with("a") { $0.announce(mac: mac) } }
            arrived += guests[1].receive(atLeast: 20 * (round + 1) - arrived.count)
        }
        arrived += guests[1].receive(atLeast: 805 - arrived.count)
        let announced = arrived.filter { $0[12] == 0x80 && $0[13] == 0x35 }
        #expect(announced.count == 5)
        #expect(announced.allSatisfy { $0.count == 60 && Array($0[6..<12]) == mac })
        #expect(
            arrived.filter { $0[12] != 0x80 }
                == frames(800, to: Self.right, from: Self.left))
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters["b"]?.packetsOut == 805 && counters["b"]?.droppedOut == [:])
        #expect(counters["a"]?.packetsIn == 800)
    }

    @Test("A large frame that one side leaves unsegmented reaches the other as segments")
    func offloads() throws {
        let running = try RunningSwitch(["a", "b"], wires: [("a", "b")], threads: 2)
        let sender = try LocalGuest(.split, features: [.checksum, .hostTSO4])
        let receiver = try LocalGuest(.split)
        try sender.connect(running.path("a"))
        try receiver.connect(running.path("b"))
        // IPv4, TCP: 20 + 20 bytes of headers, 1600 of payload, segments of 500.
        var ip: [UInt8] = [0x45, 0, 0x06, 0x68, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        ip += [0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]
        let payload = (0..<1600).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let frame = Self.right + Self.left + [8, 0] + ip + payload
        let header = NetHeader(
            flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 500, csumStart: 34, csumOffset: 16,
            numBuffers: 0)
        #expect(sender.send([frame], offloads: header) == 1)
        let arrived = receiver.receive(atLeast: 4)
        #expect(arrived.map(\.count) == [554, 554, 554, 154])
        #expect(arrived.flatMap { $0.dropFirst(54) } == payload)
        for guest in [sender, receiver] { guest.vanish() }
        _ = running.end()
        #expect(running.switched("b", .finished) == 1)
    }

    @Test(
        "A driver that agreed on an MTU gets no longer frames, tags apart; one that did not, does",
        arguments: RingFormat.allCases)
    func mtu(_ ring: RingFormat) throws {
        let running = try RunningSwitch(["a", "b"], wires: [("a", "b")]) { $0.mtu = 1000 }
        let agreed: UInt64 = 1 << 3
        let guests = [try LocalGuest(ring), try LocalGuest(ring, wanted: agreed)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        func frame(_ byteCount: Int, tags: [UInt8] = [], to: [UInt8]) -> [UInt8] {
            let head = to + Frame.mac(9) + tags + [0x88, 0xb5]
            return head + (head.count..<byteCount).map { UInt8(truncatingIfNeeded: $0) }
        }
        let tag: [UInt8] = [0x81, 0, 0, 5]
        let frames = [
            frame(1014, to: Self.right), frame(1015, to: Self.right),
            frame(1018, tags: tag, to: Self.right), frame(1019, tags: tag, to: Self.right),
            frame(1022, tags: [0x88, 0xa8, 0, 5] + tag, to: Self.right),
            frame(1500, to: Self.right), frame(60, to: Self.right),
        ]
        #expect(guests[0].send(frames) == frames.count)
        let kept = [0, 2, 4, 6].map { frames[$0] }
        #expect(guests[1].receive(atLeast: kept.count) == kept)
        // The other way nothing was agreed.
        #expect(guests[1].send(frames) == frames.count)
        #expect(guests[0].receive(atLeast: frames.count) == frames)
        // The VMM says another.
        try #require(guests[1].front).setMTU(1001)
        #expect(guests[0].send([frames[1], frames[5], frames[0]]) == 3)
        #expect(guests[1].receive(atLeast: 2) == [frames[1], frames[0]])
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters["b"]?.droppedOut == ["exceedsMTU": 4])
        #expect(counters["b"]?.packetsOut == 6 && counters["a"]?.droppedOut == [:])
    }

    @Test(
        "Requests that stop traffic again and again wait, and no other guest does",
        arguments: 1...2)
    func heldBack(threads: Int) throws {
        let running = try RunningSwitch(["a", "b", "c"], threads: threads)
        let guests = try ["a", "b", "c"].map { name in
            let guest = try LocalGuest(.split)
            try guest.connect(running.path(name))
            return guest
        }
        // Where b is, all know.
        #expect(guests[1].send(frames(1, to: Self.left, from: Self.right)) == 1)
        for index in [0, 2] { #expect(guests[index].receive(atLeast: 1).count == 1) }
        running.with("a") { $0.holdBudget = HoldBudget(allowance: 20 * HoldBudget.price) }
        let front = try #require(guests[0].front)
        let start = SystemClock.monotonic
        for round in 0..<100 {
            try front.setEnabled(0, false)
            try front.setEnabled(0, true)
            if round % 10 != 0 { continue }
            let sent = frames(10, to: Self.right, from: Frame.mac(3), first: round)
            #expect(guests[2].sendAll(sent) == 10)
            #expect(guests[1].receive(atLeast: 10) == sent)
        }
        // The last of 200 holds came when all but 20 of the 199 before it had been paid for.
        #expect(SystemClock.monotonic - start >= 179 * HoldBudget.price * HoldBudget.recovery)
        #expect(guests[1].send(frames(3, to: Self.left, from: Self.right)) == 3)
        #expect(guests[0].receive(atLeast: 3) == frames(3, to: Self.left, from: Self.right))
        for guest in guests { guest.vanish() }
        let counters = running.end()
        #expect(counters["a"]?.events[.requestsHeldBack] ?? 0 > 50)
        #expect(counters["b"]?.events[.requestsHeldBack] == nil)
        #expect(counters.values.allSatisfy { $0.droppedOut.isEmpty && $0.droppedIn.isEmpty })
    }

    @Test("A packet too large for the receiver's buffers is dropped there, and no other")
    func bufferTooSmall() throws {
        let running = try RunningSwitch(["a", "b"], wires: [("a", "b")])
        let guests = [
            try LocalGuest(.split),
            try LocalGuest(
                .split, shape: .chained(bufferByteCount: 640, packetByteCount: 600)),
        ]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        let frames = [60, 628, 629, 1500, 61].map { byteCount in
            Frame.make(to: Self.right, from: Self.left, [3], byteCount: byteCount)
        }
        #expect(guests[0].send(frames) == 5)
        #expect(guests[1].receive(atLeast: 3) == [frames[0], frames[1], frames[4]])
        for guest in guests { guest.vanish() }
        #expect(running.end()["b"]?.droppedOut == ["bufferTooSmall": 2])
    }

    @Test("A50 Sockets' paths that cannot be used are refused by their reason")
    func paths() throws {
        func failure(_ path: String) -> String {
            do {
                let port = try VhostUserPort(VhostUserPortConfiguration(name: "a", path: path))
                let joined = try Switch(SwitchConfiguration(), ports: [port]) { _ in }
                try joined.open()
                joined.close()
                return ""
            } catch { return "\(error)" }
        }
        var template = Array("/tmp/cleave-paths.XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        defer { rmdir(folder) }
        let path = folder + "/socket"
        // Nothing there, twice: the first removes its own.
        #expect(failure(path) == "")
        #expect(failure(path) == "")
        // A stale one: whoever made it is gone.
        let stale = cleave_unix_listen(path, -1)
        close(stale)
        #expect(failure(path) == "")
        // Somebody listens.
        let listener = cleave_unix_listen(path, -1)
        #expect(failure(path) == "port a: another process listens at \(path)")
        close(listener)
        unlink(path)
        // A file, a folder, no folder, too long.
        close(open(path, O_CREAT | O_WRONLY, 0o600))
        #expect(failure(path) == "port a: \(path) exists and is not a socket")
        unlink(path)
        #expect(failure(folder) == "port a: \(folder) exists and is not a socket")
        #expect(failure("\(folder)/none/socket").contains("No such file or directory"))
        let long = folder + "/" + String(repeating: "x", count: 108)
        #expect(failure(long).contains("need 1 to 107"))
    }
}
