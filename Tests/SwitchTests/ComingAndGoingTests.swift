import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveSwitch

/// Numbered frames from one station to another: the number is in each, and so are its bytes.
private struct Numbered {
    let to: [UInt8]
    let from: [UInt8]
    private(set) var next = 0

    mutating func make(_ count: Int) -> [[UInt8]] {
        defer { next += count }
        return (next..<next + count).map { frame($0) }
    }

    func frame(_ number: Int) -> [UInt8] {
        let digits = (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
        let size = 60 + number * 37 % 1400
        var bytes = Frame.make(to: to, from: from, digits, byteCount: size)
        for index in 18..<size { bytes[index] = UInt8(truncatingIfNeeded: number &+ index) }
        return bytes
    }

    static func number(_ frame: [UInt8]) -> Int {
        (0..<4).reduce(0) { $0 | Int(frame[14 + $1]) << (8 * $1) }
    }
}

@Suite("Ports that come and go while traffic runs")
struct ComingAndGoingTests {
    private static let left = Frame.mac(1)
    private static let right = Frame.mac(2)
    private static let third = Frame.mac(3)

    private func error(_ body: () throws -> Void) -> String {
        do {
            try body()
            return ""
        } catch { return "\(error)" }
    }

    private func make(
        _ ports: [ScriptedPort], threads: Int = 1, wires: [(String, String)] = [],
        _ change: (inout SwitchConfiguration) -> Void = { _ in }
    ) throws -> Switch {
        var configuration = SwitchConfiguration()
        configuration.threads = [Int?](repeating: nil, count: threads)
        configuration.wires = wires
        change(&configuration)
        let joined = try Switch(configuration, ports: ports) { _ in }
        try joined.open()
        return joined
    }

    /// Waits for what only a fault never brings.
    private func wait(until isDone: () -> Bool) {
        let end = SystemClock.monotonic + 20_000_000_000
        while !isDone() && SystemClock.monotonic < end { usleep(500) }
    }

    /// Frames come in at a port while threads run.
    private func feed(_ joined: Switch, _ port: ScriptedPort, _ frames: [[UInt8]]) {
        joined.whileHeld(by: port) { port.scripted[0].waiting += frames }
    }

    /// What went out of a port so far.
    private func sent(_ joined: Switch, _ port: ScriptedPort) -> [[UInt8]] {
        var sent: [[UInt8]] = []
        joined.whileHeld(by: port) { sent = port.sent }
        return sent
    }

    // MARK: What cannot be

    @Test("What cannot be added, removed or moved is refused by name, and nothing has changed")
    func refusals() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b", queues: 2)]
        let joined = try make(ports, threads: 2) { $0.portLimit = 3 }
        defer { joined.close() }
        #expect(error { try joined.add(ScriptedPort("a")) }.contains("port a: there is a port of"))
        let broken = ScriptedPort("c")
        broken.failure = SetupError("port c: no such thing")
        #expect(error { try joined.add(broken) } == "port c: no such thing")
        #expect(
            error { try joined.add(ScriptedPort("c"), rateLimit: RateLimit(bitsPerSecond: 1)) }
                == "port c: limit of 1 bits per second: need 1000 to 10^12")
        #expect(joined.portNames == ["a", "b"])
        try joined.add(ScriptedPort("c"))
        #expect(error { try joined.add(ScriptedPort("d")) }.contains("there are 3 ports already"))
        #expect(
            error { try joined.remove("x") } == "there is no port \"x\" among a, b, c")
        #expect(
            error { try joined.move("x", queue: 0, toThread: 0) }.contains("no port \"x\""))
        #expect(
            error { try joined.move("b", queue: 2, toThread: 0) }
                == "port b: there is no queue 2; it has 0 to 1")
        #expect(
            error { try joined.move("b", queue: 1, toThread: 2) }
                == "there is no switch thread 2; there are 0 to 1")
        #expect(joined.threadNumbers == [[0], [1, 0], [0]])
        try joined.move("b", queue: 1, toThread: 1)
        #expect(joined.threadNumbers == [[0], [1, 1], [0]])
        #expect(joined.removed == RemovedPorts())
    }

    // MARK: Numbers that are used again

    @Test(
        "What waits for a port that goes is dropped and counted, and its successor gets none",
        arguments: 1...3)
    func successor(threads: Int) throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b"), ScriptedPort("c")]
        let joined = try make(ports, threads: threads) { $0.holdMicroseconds = 1_000_000 }
        feed(joined, ports[1], [Frame.make(to: Self.left, from: Self.right)])
        wait { sent(joined, ports[0]).count == 1 }
        #expect(joined.addresses.map(\.port) == ["b"])
        // b has no room, and what is for c goes out behind.
        joined.whileHeld(by: ports[1]) { ports[1].scripted[0].room = 0 }
        var numbered = Numbered(to: Self.right, from: Self.left)
        feed(joined, ports[0], numbered.make(20))
        wait { joined.statistics.ports[1].switched["held"] == 20 }
        let counters = try joined.remove("b")
        #expect(counters.droppedOut == ["portClosed": 20])
        #expect(!ports[1].isOpen && joined.portNames == ["a", "c"])
        #expect(joined.addresses.map(\.port) == ["a"])
        #expect(joined.removed.count == 1 && joined.removed.out.dropped == ["portClosed": 20])
        #expect(joined.removed.in.packets == counters.packetsIn)
        #expect(joined.statistics.removed == joined.removed)
        // All of it came back to its sender.
        joined.whileHeld(by: ports[0]) { #expect(ports[0].scripted[0].out.isEmpty) }
        let successor = ScriptedPort("b")
        try joined.add(successor)
        #expect(joined.threadNumbers.last == [1 % threads])
        feed(joined, ports[0], numbered.make(3))
        wait { sent(joined, successor).count == 3 }
        // To an address that nobody has now: to all.
        #expect(sent(joined, successor) == (20..<23).map { numbered.frame($0) })
        joined.close()
        #expect(successor.sent.count == 3)
        #expect(joined.counters.last?.counters.droppedOut == [:])
    }

    @Test(
        "A wire whose other end is gone loses what comes in, counted, until it is back",
        arguments: 1...2)
    func wires(threads: Int) throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try make(ports, threads: threads, wires: [("a", "b")])
        var numbered = Numbered(to: Self.right, from: Self.left)
        feed(joined, ports[0], numbered.make(2))
        wait { sent(joined, ports[1]).count == 2 }
        try joined.remove("b")
        feed(joined, ports[0], numbered.make(3))
        wait { joined.counters[0].counters.droppedIn["nowhere"] == 3 }
        #expect(joined.counters[0].counters.droppedIn == ["nowhere": 3])
        #expect(error { try joined.add(ScriptedPort("c")) }.contains("port c: it is in no wire"))
        let back = ScriptedPort("b")
        try joined.add(back)
        feed(joined, ports[0], numbered.make(4))
        wait { sent(joined, back).count == 4 }
        #expect(error { try joined.setWires([("a", "c")]) }.contains("\"b\" is in no wire"))
        try joined.setWires([])
        let other = ScriptedPort("c")
        try joined.add(other)
        feed(joined, ports[0], numbered.make(1))
        wait { sent(joined, other).count == 1 && sent(joined, back).count == 5 }
        joined.close()
        #expect(other.sent == [numbered.frame(9)] && back.sent.count == 5)
    }

    @Test("More queues than there was room for at first: rings grow while packets cross")
    func growth() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try make(ports, threads: 3) { $0.holdMicroseconds = 1_000_000 }
        var numbered = Numbered(to: Self.right, from: Self.left)
        for round in 0..<6 {
            try joined.add(ScriptedPort("many\(round)", queues: 32))
            feed(joined, ports[0], numbered.make(50))
        }
        wait { sent(joined, ports[1]).count == 300 }
        #expect(joined.mesh.links(of: 0, sleeps: false).peer(of: 1).pointee.credit == 8192)
        #expect(joined.links[0].peer(of: 1).pointee.credit == 8192)
        for round in 0..<6 { try joined.remove("many\(round)") }
        feed(joined, ports[0], numbered.make(50))
        wait { sent(joined, ports[1]).count == 350 }
        joined.close()
        #expect(ports[1].sent == (0..<350).map { numbered.frame($0) })
        #expect(ports[0].scripted[0].out.isEmpty)
    }

    // MARK: With guests

    @Test("Two guests lose nothing while a third port comes and goes 100 times", arguments: 1...3)
    func others(threads: Int) throws {
        let running = try RunningSwitch(["a", "b"], threads: threads, holdMicroseconds: 1_000_000)
        let guests = try [LocalGuest(.split), LocalGuest(.packed)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        let rounds = 100
        let done = RunningSwitch.SharedFlag()
        let sum = Sums()
        running.begin { joined in
            for round in 0..<rounds {
                let port = ScriptedPort("c", queues: 1 + round % 3)
                // It sends to both, to itself and to all, and takes what comes.
                for queue in port.scripted {
                    queue.waiting = (0..<40).map { index in
                        Frame.make(
                            to: [Self.left, Self.right, Self.third, Frame.mac(9)][index % 4],
                            from: Self.third)
                    }
                }
                do {
                    try joined.add(port)
                    usleep(300)
                    sum.add(try joined.remove("c"), port)
                } catch { sum.fail("\(error)") }
            }
            done.set()
        }
        var there = Numbered(to: Self.right, from: Self.left)
        var back = Numbered(to: Self.left, from: Self.right)
        var arrived: [[[UInt8]]] = [[], []]
        var turns = 0
        func take(_ guest: Int, _ from: [UInt8]) {
            arrived[guest] += guests[guest].receive().filter { Array($0[6..<12]) == from }
        }
        // No more are out than a ring holds beside what the third sends: nobody waits for room.
        while !done.value || turns < 50 {
            turns += 1
            let counts = (arrived[1].count + 8, arrived[0].count + 8)
            #expect(guests[0].sendAll(there.make(8)) == 8)
            #expect(guests[1].sendAll(back.make(8)) == 8)
            wait {
                take(0, Self.right)
                take(1, Self.left)
                return arrived[1].count >= counts.0 && arrived[0].count >= counts.1
            }
            guard arrived[1].count == counts.0, arrived[0].count == counts.1 else { break }
        }
        running.awaitChange()
        #expect(arrived[1] == (0..<there.next).map { there.frame($0) })
        #expect(arrived[0] == (0..<back.next).map { back.frame($0) })
        #expect(sum.failures.isEmpty && sum.isWhole, "\(sum.failures)")
        let counters = running.end()
        #expect(counters["c"] == nil)
        #expect(counters["a"]?.droppedIn == [:] && counters["b"]?.droppedIn == [:])
    }

    /// What ports that came and went have done.
    private final class Sums: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var said: [String] = []
        private var isRight = true

        func fail(_ text: String) { lock.withLock { said.append(text) } }
        func add(_ counters: PortCounters, _ port: ScriptedPort) {
            lock.withLock {
                // What was taken in has come back, and nobody uses its memory.
                if !port.scripted.allSatisfy({ $0.out.isEmpty }) { isRight = false }
                let known: Set = ["samePort", "nowhere"]
                if !Set(counters.droppedIn.keys).isSubset(of: known) { isRight = false }
            }
        }
        var failures: [String] { lock.withLock { said } }
        var isWhole: Bool { lock.withLock { isRight } }
    }

    @Test("A guest's port that is removed leaves no memory and no descriptor", arguments: 1...3)
    func leaks(threads: Int) throws {
        let running = try RunningSwitch(["a"], threads: threads)
        let stays = try LocalGuest(.split)
        try stays.connect(running.path("a"))
        let path = running.path("c")
        for round in 0..<8 {
            let comes = try LocalGuest(round % 2 == 0 ? .split : .packed)
            let idle = try #require(comes.memoryUse())
            running.change { joined in
                do {
                    try joined.add(
                        try VhostUserPort(VhostUserPortConfiguration(name: "c", path: path)))
                } catch { Issue.record("\(error)") }
            }
            try comes.connect(path)
            #expect(try #require(comes.memoryUse())[1] > idle[1])
            var numbered = Numbered(to: Self.left, from: Self.third)
            #expect(comes.sendAll(numbered.make(5)) == 5)
            #expect(stays.receive(atLeast: 5).count == 5)
            running.change { joined in
                do { try joined.remove("c") } catch { Issue.record("\(error)") }
            }
            comes.vanish()
            #expect(comes.memoryUse() == idle)
            #expect(access(path, F_OK) != 0)
        }
        _ = running.end()
    }

    @Test(
        "Queues that go from thread to thread lose nothing uncounted, and keep the order",
        arguments: 2...3, [true, false])
    func moves(threads: Int, _ isHurried: Bool) throws {
        let running = try RunningSwitch(["a", "b"], threads: threads, holdMicroseconds: 1000)
        let guests = try [LocalGuest(.packed), LocalGuest(.split)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        // Each knows where the other is.
        #expect(guests[0].send([Frame.make(to: Self.right, from: Self.left)]) == 1)
        #expect(guests[1].receive(atLeast: 1).count == 1)
        #expect(guests[1].send([Frame.make(to: Self.left, from: Self.right)]) == 1)
        #expect(guests[0].receive(atLeast: 1).count == 1)
        let done = RunningSwitch.SharedFlag()
        running.begin { joined in
            var random = SeededRandom(seed: UInt64(threads))
            for _ in 0..<300 {
                do {
                    try joined.move(
                        random.chance(50) ? "a" : "b", queue: 0,
                        toThread: random.int(0...threads - 1))
                } catch { Issue.record("\(error)") }
                usleep(100)
            }
            done.set()
        }
        var numbered = Numbered(to: Self.right, from: Self.left)
        var arrived: [[UInt8]] = []
        while !done.value || numbered.next < 1000 {
            // In a hurry the receiver's ring is full again and again.
            let count = isHurried ? 64 : 16
            #expect(guests[0].sendAll(numbered.make(count)) == count)
            if isHurried {
                arrived += guests[1].receive()
            } else {
                arrived += guests[1].receive(atLeast: numbered.next - arrived.count)
            }
        }
        running.awaitChange()
        // What is on its way arrives, or is dropped within a hold.
        let (sent, before) = (numbered.next, arrived.count)
        let last = Shared()
        wait {
            arrived += guests[1].receive()
            running.change { last.set($0.counters[1].counters) }
            return arrived.count + last.dropped >= sent
        }
        let numbers = arrived.map(Numbered.number)
        #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
        #expect(arrived.allSatisfy { $0 == numbered.frame(Numbered.number($0)) })
        #expect(before <= arrived.count)
        let counters = running.end()
        let dropped = counters["b"]?.droppedOut.values.reduce(0, +) ?? 0
        #expect(arrived.count + Int(dropped) == sent)
        if !isHurried { #expect(dropped == 0) }
        #expect(counters["a"]?.droppedIn == [:])
    }

    /// Drops, from the control thread to the test.
    private final class Shared: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var count = 0
        func set(_ counters: PortCounters) {
            lock.withLock { count = Int(counters.droppedOut.values.reduce(0, +)) }
        }
        var dropped: Int { lock.withLock { count } }
    }
}

@Suite("Rate limits")
struct RateLimitTests {
    @Test("A bucket lets its rate through, and a tenth of a second at once")
    func bucket() {
        // A cycle is a microsecond, a token a packet.
        let bucket = TokenBucket(perSecond: 1000, most: 1, hertz: 1e6)
        defer { bucket.free() }
        func take(_ count: Int, at cycle: UInt64) -> Int {
            (0..<count).count { _ in bucket.take(1, at: cycle << TokenBucket.fractionBits) }
        }
        #expect(take(1000, at: 0) == 101)
        #expect(take(1000, at: 1000) == 1)
        #expect(take(1000, at: 51_000) == 50)
        #expect(take(1000, at: 10_000_000) == 101)
        // Time begins anew.
        #expect(take(1000, at: (1 << 56) - 500) == 101)
        #expect(take(1000, at: (1 << 56) + 500) == 1)
        bucket.giveBack(1)
        #expect(take(1000, at: (1 << 56) + 500) == 1)
    }

    @Test("Bytes count by their number, and one that is larger than all may pass an empty bucket")
    func bytes() {
        let bucket = TokenBucket(perSecond: 1000, most: 1 << 17, hertz: 1e9)
        defer { bucket.free() }
        #expect(bucket.take(60_000, at: 0))
        #expect(!bucket.take(1, at: 59_000_000_000 << TokenBucket.fractionBits))
        #expect(bucket.take(1, at: 60_000_000_000 << TokenBucket.fractionBits))
    }

    @Test("What threads take together is no more than there is", arguments: 2...4)
    func shared(threads: Int) throws {
        let bucket = TokenBucket(perSecond: 100_000, most: 1, hertz: 1e6)
        defer { bucket.free() }
        let counts = SharedCount()
        let running = try (0..<threads).map { _ in
            try PinnedThread(name: "taker", cpu: nil) {
                counts.add((0..<20_000).count { _ in bucket.take(1, at: 0) })
            }
        }
        for thread in running { thread.join() }
        #expect(counts.value == 10_001)
    }

    private final class SharedCount: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var sum = 0
        func add(_ count: Int) { lock.withLock { sum += count } }
        var value: Int { lock.withLock { sum } }
    }

    @Test("What is beyond a port's limit is dropped and counted there", arguments: 1...2)
    func port(threads: Int) throws {
        var configuration = SwitchConfiguration()
        configuration.threads = [Int?](repeating: nil, count: threads)
        configuration.rateLimits = ["a": RateLimit(packetsPerSecond: 1)]
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        for port in ports {
            port.scripted[0].waiting = (0..<100).map {
                Frame.make(to: Frame.mac(9), from: Frame.mac(1), [UInt8($0)])
            }
        }
        let joined = try Switch(configuration, ports: ports) { _ in }
        try joined.open()
        joined.close()
        let counters = joined.counters.map(\.counters)
        // How long it takes is anybody's guess, so a few more may pass than the first.
        let passed = ports[1].sent.count
        #expect((1...20).contains(passed))
        #expect(counters[0].droppedIn == ["rateLimited": UInt64(100 - passed)])
        #expect(ports[1].sent.first == Frame.make(to: Frame.mac(9), from: Frame.mac(1), [0]))
        #expect(ports[0].sent.count == 100 && counters[1].droppedIn == [:])
        configuration.rateLimits = ["x": RateLimit(packetsPerSecond: 1)]
        #expect(throws: SetupError("rate limit of \"x\": there is no such port")) {
            try configuration.validate(names: ["a"])
        }
    }
}
