import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveSwitch

/// The forwarding of several threads over scripted ports, each polled by the test as it likes.
private final class CrossingBench {
    let ports: [ScriptedPort]
    let table: MACTable
    let threads: [Forwarding]
    let blocks: [[SwitchCounterBlock]]
    let queues: [[SwitchQueue]]
    private let arena: MemoryArena
    private let mesh: ThreadMesh
    private var links: [ThreadLinks] = []
    /// Packets that each thread has moved.
    private(set) var counted: [Int]

    init(
        threads threadCount: Int, ports count: Int, queues queueCount: Int = 1, wires: [Int] = [],
        holdCycles: UInt64 = .max >> 2
    ) throws {
        ports = (0..<count).map { ScriptedPort("p\($0)", queues: queueCount) }
        table = MACTable(bucketCount: 64, portLimit: count)
        let arena = try MemoryArena(
            byteCount: threadCount * count * SwitchCounterBlock.byteCount)
        self.arena = arena
        blocks = try (0..<threadCount).map { _ in
            try (0..<count).map { _ in
                SwitchCounterBlock(try arena.allocate(byteCount: SwitchCounterBlock.byteCount))
            }
        }
        mesh = try ThreadMesh(
            queueCounts: [Int](repeating: count * queueCount, count: threadCount))
        counted = [Int](repeating: 0, count: threadCount)
        var threads: [Forwarding] = []
        for number in 0..<threadCount {
            let own = mesh.links(of: number, sleeps: true)
            links.append(own)
            let forwarding = Forwarding(table: table, holdCycles: holdCycles, links: own)
            for (port, block) in blocks[number].enumerated() {
                forwarding.add(port: port, counters: block)
                if !wires.isEmpty { forwarding.set(wire: Int32(wires[port]), of: port) }
            }
            threads.append(forwarding)
        }
        self.threads = threads
        queues = ports.enumerated().map { number, port in
            port.queues.enumerated().map { index, queue in
                SwitchQueue(
                    port: number, queue: queue, number: number * queueCount + index,
                    thread: (number + index) % threadCount, threadCount: threadCount)
            }
        }
        for (number, thread) in threads.enumerated() {
            for queue in queues.joined() { thread.crossing.place(queue) }
            thread.set(polled: queues.joined().filter { $0.thread == number })
            for (number, list) in queues.enumerated() { thread.set(queues: list, of: number) }
        }
        for (number, port) in ports.enumerated() where wires.isEmpty {
            _ = table.learn(Self.address(number), at: number, tick: 0)
            _ = port
        }
    }

    deinit { table.free() }

    static func address(_ port: Int) -> UInt64 { 0x5452 | UInt64(port) << 40 }

    /// One poll of a thread.
    /// - Returns: packets that moved, as a thread counts them, or began to wait.
    @discardableResult
    func poll(_ number: Int) -> Int {
        let result = threads[number].pollShared()
        links[number].ring()
        counted[number] += result.packets
        return result.packets + result.waiting
    }

    /// Turns of all threads until nothing moves.
    func settle() { while (0..<threads.count).reduce(0, { $0 + poll($1) }) > 0 {} }

    func drops(_ port: Int) -> [SwitchDropReason: UInt64] {
        var counts: [SwitchDropReason: UInt64] = [:]
        for reason in SwitchDropReason.allCases {
            let count = blocks.reduce(0) { $0 + $1[port].read(reason) }
            if count > 0 { counts[reason] = count }
        }
        return counts
    }

    func dropCount(_ port: Int) -> Int { Int(drops(port).values.reduce(0, +)) }

    /// As a switch does before a port's memory changes.
    func retire(_ port: Int) {
        for thread in threads { thread.settle() }
        for thread in threads { thread.dropWaiting(.init(fromPort: port)) }
        for thread in threads { thread.collect() }
        for queue in queues[port] { threads[queue.thread].abandon(queue) }
    }
}

@Suite("Packets between threads")
struct CrossingTests {
    /// To a port's address, with a number in it.
    private func frame(to: Int, from: Int, _ number: Int) -> [UInt8] {
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
        return Frame.make(
            to: Frame.mac(UInt8(to)), from: Frame.mac(UInt8(from)), bytes + [UInt8(from)])
    }

    private func number(_ frame: [UInt8]) -> Int {
        (0..<4).reduce(0) { $0 | Int(frame[14 + $1]) << (8 * $1) }
    }

    @Test("A packet to another thread's port stays out until that has placed it")
    func one() throws {
        let bench = try CrossingBench(threads: 2, ports: 2)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        let sent = frame(to: 1, from: 0, 7)
        sender.waiting = [sent]
        #expect(bench.poll(0) == 1)
        #expect(sender.out.count == 1 && receiver.sent.isEmpty)
        #expect(bench.poll(0) == 0)
        #expect(bench.poll(1) == 1)
        #expect(receiver.sent == [sent])
        #expect(sender.out.count == 1 && sender.completed == 0)
        bench.poll(0)
        #expect(sender.out.isEmpty && sender.completed == 1)
        #expect(bench.drops(1).isEmpty)
    }

    @Test(
        "Whatever turns threads take, whatever room there is, nothing is lost, doubled or passed",
        arguments: 2...4, [1, 3])
    func random(threads: Int, queues: Int) throws {
        var random = SeededRandom(seed: UInt64(threads * 10 + queues))
        let portCount = 5
        let bench = try CrossingBench(threads: threads, ports: portCount, queues: queues)
        var numbers = 0
        // By number: the sender's queue, and whom it is for; -1 for all.
        var sent: [(queue: Int, target: Int)] = []
        for _ in 0..<3000 {
            let port = random.int(0...portCount - 1)
            let queue = random.int(0...queues - 1)
            if random.chance(40) {
                for _ in 0..<random.int(1...70) {
                    var target = random.int(0...portCount - 1)
                    if target == port || random.chance(5) { target = portCount + 3 }
                    bench.ports[port].scripted[queue].waiting.append(
                        frame(to: target, from: port, numbers))
                    sent.append((port * queues + queue, target < portCount ? target : -1))
                    numbers += 1
                }
            }
            for receiver in bench.ports.flatMap(\.scripted) where random.chance(20) {
                receiver.room = random.pick([0, 1, 2, 10, 40, 200, nil])
                // Room that comes in the middle of a turn.
                receiver.refusals = random.pick([0, 0, 1, 1, 2, 3])
            }
            bench.poll(random.int(0...threads - 1))
        }
        for receiver in bench.ports.flatMap(\.scripted) {
            (receiver.room, receiver.refusals) = (nil, 0)
        }
        bench.settle()
        var delivered = [Int](repeating: 0, count: numbers)
        for (number, port) in bench.ports.enumerated() {
            for queue in port.scripted {
                let arrived = queue.sent.map(self.number)
                #expect(queue.sent.allSatisfy { $0.count == 60 && $0[5] < 16 })
                // In order among those of one sender's queue, and among its floods.
                for of in Dictionary(
                    grouping: arrived,
                    by: { 2 * sent[$0].queue + (sent[$0].target < 0 ? 1 : 0) }
                ).values {
                    #expect(zip(of, of.dropFirst()).allSatisfy { $0 < $1 })
                }
                for packet in arrived {
                    delivered[packet] += 1
                    #expect(sent[packet].target == number || sent[packet].target == -1)
                }
            }
        }
        for port in 0..<portCount {
            let floods = sent.count { $0.target == -1 && $0.queue / queues != port }
            let own = sent.count { $0.target == port }
            let arrived = bench.ports[port].sent.count
            // Only a full list of those that wait, and a flood, drop here: nothing expires.
            #expect(Set(bench.drops(port).keys).isSubset(of: [.noRoom, .waitingFull]))
            #expect(arrived + bench.dropCount(port) == floods + own)
        }
        #expect(delivered.enumerated().allSatisfy { sent[$0].target == -1 || $1 <= 1 })
        #expect(delivered.reduce(0, +) > numbers / 2)
        for queue in bench.ports.flatMap(\.scripted) {
            #expect(queue.out.isEmpty && queue.waiting.isEmpty)
        }
        #expect(bench.queues.joined().allSatisfy { $0.window.count == 0 && $0.waiting.count == 0 })
    }

    @Test("A receiver without room holds up no other of its thread, and no more than its list")
    func fullReceiver() throws {
        let bench = try CrossingBench(threads: 2, ports: 4)
        // 0 on thread 0 sends to 1 and 3, both on thread 1.
        let sender = bench.ports[0].scripted[0]
        bench.ports[1].scripted[0].room = 0
        var expected: [[UInt8]] = []
        for round in 0..<100 {
            sender.waiting.append(frame(to: 1, from: 0, round))
            sender.waiting.append(frame(to: 3, from: 0, round))
            expected.append(frame(to: 3, from: 0, round))
        }
        bench.settle()
        #expect(bench.ports[3].sent == expected)
        // 64 wait, the others found the list full.
        #expect(bench.drops(1) == [.waitingFull: 36])
        bench.ports[1].scripted[0].room = nil
        bench.settle()
        #expect(bench.ports[1].sent == (0..<64).map { frame(to: 1, from: 0, $0) })
        #expect(sender.out.isEmpty && bench.drops(3).isEmpty)
    }

    @Test("Flows go to all queues of a port, whichever threads they belong to, each to one")
    func flows() throws {
        let bench = try CrossingBench(threads: 3, ports: 2, queues: 4, wires: [1, 0])
        var frames: [[UInt8]] = []
        for port in 0..<64 {
            // IPv4, UDP; the source port is the flow.
            var ip: [UInt8] = [0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
            ip += [0x10, UInt8(port), 0, 53, 0, 16, 0, 0]
            for number in 0..<3 {
                frames.append(
                    Frame.mac(2) + Frame.mac(1) + [8, 0] + ip + [UInt8(number)]
                        + [UInt8](repeating: 0, count: 7))
            }
        }
        bench.ports[0].scripted[2].waiting = frames
        bench.settle()
        let queues = bench.ports[1].scripted
        #expect(queues.reduce(0) { $0 + $1.sent.count } == frames.count)
        #expect(queues.allSatisfy { !$0.sent.isEmpty })
        for queue in queues {
            let byFlow = Dictionary(grouping: queue.sent) { $0[35] }
            #expect(byFlow.values.allSatisfy { $0.map { $0[42] } == [0, 1, 2] })
        }
        #expect(bench.ports[0].scripted[2].completed == frames.count)
    }

    @Test("A dead receiver of another thread costs one hold; a flood does not wait for it")
    func deadReceiver() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try CrossingBench(threads: 3, ports: 3, holdCycles: hold)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        receiver.room = 0
        sender.waiting = [Frame.make(to: [255, 255, 255, 255, 255, 255], from: Frame.mac(0))]
        bench.settle()
        #expect(bench.drops(1) == [.noRoom: 1] && bench.ports[2].sent.count == 1)
        #expect(sender.out.isEmpty)
        sender.waiting = [frame(to: 1, from: 0, 1), frame(to: 1, from: 0, 2)]
        let start = CycleClock.now()
        bench.poll(0)
        #expect(sender.out.count == 2)
        while !sender.out.isEmpty { for thread in 0..<3 { bench.poll(thread) } }
        #expect(CycleClock.now() &- start >= hold)
        #expect(bench.drops(1) == [.noRoom: 3])
        // A hold after it was asked first, which was a little later: at once now, and others' too.
        let refused = CycleClock.now()
        while CycleClock.now() &- refused < hold {}
        for port in [0, 2] {
            bench.ports[port].scripted[0].waiting = [frame(to: 1, from: port, 3)]
        }
        bench.poll(0)
        bench.poll(2)
        bench.poll(1)
        #expect(bench.drops(1) == [.noRoom: 5])
        receiver.room = 1
        sender.waiting = [frame(to: 1, from: 0, 4)]
        bench.settle()
        #expect(receiver.sent.map(number) == [4])
        bench.settle()
        #expect(bench.ports.allSatisfy { $0.scripted[0].out.isEmpty })
    }

    @Test("A thread that does not come to its packets holds a sender's for a hold, not longer")
    func stoppedThread() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try CrossingBench(threads: 2, ports: 3, holdCycles: hold)
        let sender = bench.ports[0].scripted[0]
        // More than may be handed over: 256 of this queue, its window.
        sender.waiting = (0..<1000).map { frame(to: 1, from: 0, $0) }
        for _ in 0..<100 { bench.poll(0) }
        #expect(sender.out.count == 256)
        let start = CycleClock.now()
        while CycleClock.now() &- start < 2 * hold {}
        // Those that are late and find no room are dropped, those that find room are placed.
        bench.ports[1].scripted[0].room = 100
        bench.poll(1)
        let arrived = bench.ports[1].sent.map(number)
        #expect(arrived == Array(0..<32))
        while !sender.out.isEmpty || !sender.waiting.isEmpty {
            for thread in 0..<2 { bench.poll(thread) }
        }
        #expect(bench.ports[1].sent.map(number) == Array(0..<100))
        #expect(bench.drops(1)[.noRoom] ?? 0 >= 156)
        #expect(bench.dropCount(1) == 900)
    }

    @Test("Before a port's memory changes, what came in at it is placed or dropped, and given back")
    func retiring() throws {
        let bench = try CrossingBench(threads: 3, ports: 4)
        let frames = (0..<20).map { frame(to: 1, from: 0, $0) }
        let other = (0..<5).map { frame(to: 1, from: 2, $0) }
        bench.ports[0].scripted[0].waiting = frames
        bench.ports[2].scripted[0].waiting = other
        bench.ports[1].scripted[0].room = 15
        bench.poll(0)
        bench.poll(2)
        #expect(bench.ports[0].scripted[0].out.count == 20)
        bench.retire(0)
        #expect(bench.ports[0].scripted[0].out.isEmpty)
        #expect(bench.ports[1].sent == Array(frames.prefix(15)))
        #expect(bench.drops(1) == [.noRoom: 5])
        // Another port's packets wait on.
        #expect(bench.ports[2].scripted[0].out.count == 5)
        bench.ports[1].scripted[0].room = nil
        bench.settle()
        #expect(bench.ports[1].sent.suffix(5) == other[...])
        #expect(bench.ports[2].scripted[0].out.isEmpty)
        // A receiver that goes: what waits for it is dropped for that reason.
        bench.ports[1].scripted[0].room = 0
        bench.ports[2].scripted[0].waiting = other
        bench.poll(2)
        bench.poll(1)
        bench.retire(1)
        bench.ports[1].scripted[0].isOpen = false
        for thread in bench.threads {
            thread.set(queues: [], of: 1)
            thread.dropWaiting()
        }
        bench.settle()
        #expect(bench.drops(1) == [.noRoom: 5, .portClosed: 5])
        #expect(bench.ports[2].scripted[0].out.isEmpty)
    }

    @Test("The receiver's MTU holds for packets of other threads, each counted once")
    func frameLimit() throws {
        let bench = try CrossingBench(threads: 2, ports: 2)
        bench.ports[1].scripted[0].frameLimit = 100
        for queue in bench.queues.joined() { queue.forget() }
        let frames = (0..<30).map { index in
            Frame.make(
                to: Frame.mac(1), from: Frame.mac(0), [UInt8(index)],
                byteCount: index % 3 == 1 ? 101 : 100)
        }
        bench.ports[0].scripted[0].waiting = frames
        bench.ports[1].scripted[0].room = 3
        bench.settle()
        bench.ports[1].scripted[0].room = nil
        bench.settle()
        #expect(bench.ports[1].sent == frames.filter { $0.count == 100 })
        #expect(bench.drops(1) == [.exceedsMTU: 10])
        #expect(bench.ports[0].scripted[0].out.isEmpty)
    }

    @Test("An MTU that is lowered while packets wait holds for those, too")
    func frameLimitWhileWaiting() throws {
        let bench = try CrossingBench(threads: 2, ports: 2)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        let frames = (0..<10).map { index in
            Frame.make(
                to: Frame.mac(1), from: Frame.mac(0), [UInt8(index)],
                byteCount: index % 3 == 1 ? 101 : 100)
        }
        receiver.room = 0
        sender.waiting = frames
        bench.settle()
        // As a switch does while its threads are held.
        receiver.frameLimit = 100
        for queue in bench.queues.joined() { queue.forget() }
        for thread in bench.threads { thread.dropWaiting() }
        receiver.room = nil
        bench.settle()
        #expect(receiver.sent == frames.filter { $0.count == 100 })
        #expect(bench.drops(1) == [.exceedsMTU: 3])
        #expect(sender.out.isEmpty)
    }

    @Test("A packet that is handed over counts at both threads, however often it is tried")
    func counting() throws {
        let bench = try CrossingBench(threads: 2, ports: 2)
        bench.ports[1].scripted[0].room = 0
        bench.ports[0].scripted[0].waiting = (0..<10).map { frame(to: 1, from: 0, $0) }
        bench.settle()
        #expect(bench.counted == [10, 0] && bench.queues[1][0].waiting.count == 10)
        bench.ports[1].scripted[0].room = 4
        bench.settle()
        #expect(bench.counted == [10, 4])
        bench.ports[1].scripted[0].room = nil
        bench.settle()
        #expect(bench.counted == [10, 10])
        #expect(bench.ports[0].scripted[0].out.isEmpty)
    }

    @Test("Each thread has room of its own at each slow receiver, and none takes another's")
    func waitingLimit() throws {
        // Thread 1 has the receivers 1, 4, 7, 10, 13 and 16; thread 0 three senders, thread 2 one.
        let bench = try CrossingBench(threads: 3, ports: 17)
        let slow = [1, 4, 7, 10, 13]
        for port in slow { bench.ports[port].scripted[0].room = 0 }
        for (sender, targets) in [(0, [1, 4]), (3, [7, 10]), (6, [13])] {
            for target in targets {
                bench.ports[sender].scripted[0].waiting += (0..<70).map {
                    frame(to: target, from: sender, $0)
                }
            }
        }
        bench.settle()
        #expect(slow.allSatisfy { bench.queues[$0][0].waiting.count == 64 })
        #expect(slow.allSatisfy { bench.drops($0) == [.waitingFull: 6] })
        // Another thread's packets wait as well, and those for others go on.
        bench.ports[2].scripted[0].waiting = (0..<5).map { frame(to: 13, from: 2, $0) }
        bench.ports[6].scripted[0].waiting = (0..<10).map { frame(to: 16, from: 6, $0) }
        bench.settle()
        #expect(bench.queues[13][0].waiting.count == 69)
        #expect(bench.ports[16].sent == (0..<10).map { frame(to: 16, from: 6, $0) })
        // What no longer waits makes room, for its own thread.
        bench.ports[13].scripted[0].room = 1
        bench.settle()
        bench.ports[6].scripted[0].waiting = [
            frame(to: 13, from: 6, 98), frame(to: 13, from: 6, 99),
        ]
        bench.settle()
        #expect(bench.queues[13][0].waiting.count == 69)
        #expect(bench.drops(13) == [.waitingFull: 7])
        for port in slow { bench.ports[port].scripted[0].room = nil }
        bench.settle()
        #expect(bench.ports[13].sent.count == 70)
        #expect(bench.ports.allSatisfy { $0.scripted[0].out.isEmpty })
    }

    /// Runs threads in turn for 600 rounds while `senders` have more for port 1 than it takes.
    /// - Parameter room: that port 1 gets in each round; nil for any.
    /// - Returns: of each sender, the part of what arrived.
    private func shares(
        _ bench: CrossingBench, senders: [Int], room: Int?
    ) -> [Double] {
        let receiver = bench.ports[1].scripted[0]
        for round in 0..<600 {
            for sender in senders {
                let queue = bench.ports[sender].scripted[0]
                while queue.waiting.count < 64 {
                    queue.waiting.append(frame(to: 1, from: sender, round))
                }
            }
            // Room comes before any thread's turn, and not with the same one's each time.
            receiver.room = room
            for turn in 0..<bench.threads.count {
                bench.poll((turn + round / 3) % bench.threads.count)
            }
        }
        let counts = senders.map { sender in receiver.sent.count { $0[18] == UInt8(sender) } }
        return counts.map { Double($0) / Double(receiver.sent.count) }
    }

    @Test("Senders that overload one receiver of another thread get like parts", arguments: 2...4)
    func overload(senders: Int) throws {
        let bench = try CrossingBench(threads: 2, ports: 8)
        // The thread takes 32 in a turn: what may be handed over is what they share.
        for part in shares(bench, senders: Array([0, 2, 4, 6].prefix(senders)), room: nil) {
            #expect(abs(part * Double(senders) - 1) < 0.2)
        }
        #expect(bench.dropCount(1) == 0)
    }

    @Test("Senders of other threads, and of the receiver's own, all get a part of its room")
    func overloadOfThreads() throws {
        for room in [1, 8, 20] {
            // One of each of three threads; 1 is the receiver's.
            let bench = try CrossingBench(threads: 3, ports: 8)
            for part in shares(bench, senders: [0, 2, 4], room: room) { #expect(part > 0.15) }
            let two = try CrossingBench(threads: 3, ports: 8)
            for part in shares(two, senders: [0, 2], room: room) {
                #expect(abs(part - 0.5) < 0.1)
            }
            let own = try CrossingBench(threads: 3, ports: 8)
            for part in shares(own, senders: [4, 7], room: room) {
                #expect(abs(part - 0.5) < 0.1)
            }
        }
    }

    @Test("A receiver that takes few packets is not slow: later packets wait")
    func trickle() throws {
        let hold = UInt64(CycleClock.hertz / 5)
        let bench = try CrossingBench(threads: 2, ports: 3, holdCycles: hold)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        receiver.room = 0
        sender.waiting = [frame(to: 1, from: 0, 1), frame(to: 1, from: 0, 2)]
        let start = CycleClock.now()
        bench.settle()
        while CycleClock.now() &- start < hold / 10 * 9 { bench.settle() }
        // One is taken late, the other one too late.
        receiver.room = 1
        while bench.dropCount(1) == 0 { bench.settle() }
        #expect(receiver.sent.map(number) == [1])
        sender.waiting = [frame(to: 1, from: 0, 3)]
        bench.settle()
        #expect(bench.queues[1][0].waiting.count == 1)
        receiver.room = nil
        bench.settle()
        #expect(receiver.sent.map(number) == [1, 3])
        #expect(bench.drops(1) == [.noRoom: 1])
    }

    @Test("A packet that waits for its thread and then for room counts as held once")
    func heldOnce() throws {
        let bench = try CrossingBench(threads: 2, ports: 6)
        for sender in [0, 2] {
            bench.ports[sender].scripted[0].waiting = (0..<256).map {
                frame(to: 1, from: sender, $0)
            }
        }
        for _ in 0..<20 { bench.poll(0) }
        bench.ports[3].scripted[0].room = 0
        bench.ports[4].scripted[0].waiting = [frame(to: 3, from: 4, 1)]
        bench.poll(0)
        bench.settle()
        #expect(bench.queues[3][0].waiting.count == 1)
        #expect(bench.blocks.reduce(0) { $0 + $1[3].read(.held) } == 1)
        bench.ports[3].scripted[0].room = nil
        bench.settle()
        #expect(bench.ports[3].sent.map(number) == [1])
    }

    @Test("A port is not slow because its thread has got nothing back for a hold")
    func credit() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try CrossingBench(threads: 2, ports: 6, holdCycles: hold)
        // Thread 1 takes nothing: two senders use up what may be handed to it, a third one waits.
        for sender in [0, 2] {
            bench.ports[sender].scripted[0].waiting = (0..<256).map {
                frame(to: 1, from: sender, $0)
            }
        }
        for _ in 0..<20 { bench.poll(0) }
        let third = bench.ports[4].scripted[0]
        third.waiting = [frame(to: 3, from: 4, 1)]
        let start = CycleClock.now()
        bench.poll(0)
        while !third.out.isEmpty { bench.poll(0) }
        #expect(CycleClock.now() &- start >= hold)
        #expect(bench.drops(3) == [.noRoom: 1])
        // The next one waits as well, and what comes back lets it through.
        third.waiting = [frame(to: 3, from: 4, 2)]
        bench.poll(0)
        #expect(third.out.count == 1)
        bench.settle()
        #expect(bench.ports[3].sent.map(number) == [2])
    }

    @Test("A receiver without room stays slow although packets for it cannot be finished")
    func unfinishable() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try CrossingBench(threads: 2, ports: 3, holdCycles: hold)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        receiver.room = 0
        sender.waiting = [frame(to: 1, from: 0, 1)]
        while bench.dropCount(1) == 0 { for thread in 0..<2 { bench.poll(thread) } }
        // Its offloads lie outside its headers.
        sender.incomingOffloads = PacketOffloads(flags: 1, csumStart: 59, csumOffset: 16)
        sender.waiting = [frame(to: 1, from: 0, 2)]
        bench.settle()
        #expect(bench.drops(1) == [.noRoom: 1, .unfinishable: 1])
        bench.ports[2].scripted[0].waiting = [frame(to: 1, from: 2, 3)]
        bench.settle()
        #expect(bench.drops(1) == [.noRoom: 2, .unfinishable: 1])
        #expect(bench.ports[2].scripted[0].out.isEmpty)
    }

    @Test("A thread that is going to sleep hears of a packet, and wakes for one that comes later")
    func bells() throws {
        let mesh = try ThreadMesh(queueCounts: [1, 1, 1])
        let links = (0..<3).map { mesh.links(of: $0, sleeps: true) }
        #expect(!links[1].wasRung())
        links[0].peer(of: 1).pointee.hasNews = true
        links[0].ring()
        #expect(links[1].wasRung() && !links[1].wasRung() && !links[2].wasRung())
        var isWoken = links[1].waker.event.drain()
        #expect(!isWoken)
        links[1].beginSleep()
        links[2].peer(of: 1).pointee.hasNews = true
        links[2].ring()
        isWoken = links[1].waker.event.drain()
        #expect(isWoken)
        #expect(links[1].wasRung())
        links[1].endSleep()
        links[2].ring()
        #expect(!links[1].wasRung())
    }
}
