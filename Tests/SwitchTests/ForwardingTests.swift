import CleaveHost
import CleavePorts
import CleaveVirtioNet
import Testing

@testable import CleaveSwitch

/// A switch's forwarding over scripted ports, polled by the test.
private final class Bench {
    let ports: [ScriptedPort]
    let table: MACTable
    let forwarding: Forwarding
    let blocks: [SwitchCounterBlock]
    let ingresses: [[SwitchQueue]]
    private let arena: MemoryArena

    init(
        _ count: Int, queues: Int = 1, wires: [Int] = [], holdCycles: UInt64 = 0
    ) throws {
        ports = (0..<count).map { ScriptedPort("p\($0)", queues: queues) }
        table = MACTable(bucketCount: 64, portLimit: count)
        let arena = try MemoryArena(byteCount: count * SwitchCounterBlock.byteCount)
        self.arena = arena
        blocks = try (0..<count).map { _ in
            SwitchCounterBlock(try arena.allocate(byteCount: SwitchCounterBlock.byteCount))
        }
        forwarding = Forwarding(table: table, holdCycles: holdCycles)
        for (number, block) in blocks.enumerated() {
            forwarding.add(port: number, counters: block)
            if !wires.isEmpty { forwarding.set(wire: Int32(wires[number]), of: number) }
        }
        ingresses = ports.enumerated().map { number, port in
            port.queues.map { SwitchQueue(port: number, queue: $0) }
        }
        for (number, list) in ingresses.enumerated() { forwarding.set(queues: list, of: number) }
        forwarding.set(polled: Array(ingresses.joined()))
    }

    deinit { table.free() }

    /// Polls every queue once.
    @discardableResult
    func poll() -> Int { forwarding.poll().packets }

    func drops(_ port: Int) -> [SwitchDropReason: UInt64] {
        var counts: [SwitchDropReason: UInt64] = [:]
        for reason in SwitchDropReason.allCases where blocks[port].read(reason) > 0 {
            counts[reason] = blocks[port].read(reason)
        }
        return counts
    }
}

@Suite("Forwarding")
struct ForwardingTests {
    @Test("A packet for an unknown address goes to every other port, an answer only to its place")
    func learning() throws {
        let bench = try Bench(3)
        let hello = Frame.make(to: Frame.mac(2), from: Frame.mac(1), [1])
        bench.ports[0].scripted[0].waiting = [hello]
        #expect(bench.poll() == 1)
        #expect(bench.ports.map(\.sent) == [[], [hello], [hello]])
        let answer = Frame.make(to: Frame.mac(1), from: Frame.mac(2), [2])
        bench.ports[1].scripted[0].waiting = [answer]
        bench.poll()
        #expect(bench.ports.map(\.sent) == [[answer], [hello], [hello]])
        bench.ports[0].scripted[0].waiting = [hello]
        bench.poll()
        #expect(bench.ports.map(\.sent) == [[answer], [hello, hello], [hello]])
        #expect(bench.blocks[0].read(.flooded) == 1)
        #expect(bench.ports.allSatisfy { $0.scripted[0].out.isEmpty })
    }

    @Test("Every number of packets in a burst keeps its order at each port", arguments: 1...40)
    func bursts(count: Int) throws {
        let bench = try Bench(4)
        for port in 1..<4 {
            _ = bench.table.learn(address(Frame.mac(UInt8(port))), at: port, tick: 0)
        }
        let frames = (0..<count).map { index in
            Frame.make(
                to: Frame.mac(UInt8(1 + index * 7 % 3)), from: Frame.mac(9), [UInt8(index)])
        }
        bench.ports[0].scripted[0].waiting = frames
        while bench.poll() > 0 {}
        for port in 1..<4 {
            #expect(bench.ports[port].sent == frames.filter { $0[5] == UInt8(port) })
        }
        #expect(bench.ports[0].scripted[0].completed == count)
    }

    private func address(_ bytes: [UInt8]) -> UInt64 {
        bytes.enumerated().reduce(0) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
    }

    @Test("What goes nowhere is counted by its reason, where it came in")
    func refusals() throws {
        let bench = try Bench(2)
        let queue = bench.ports[0].scripted[0]
        _ = bench.table.learn(address(Frame.mac(7)), at: 0, tick: 0)
        queue.waiting = [
            Frame.make(to: Frame.mac(7), from: Frame.mac(1)),
            Frame.make(to: Frame.mac(7), from: Frame.mac(1)),
            Frame.make(to: [1, 0x80, 0xc2, 0, 0, 14], from: Frame.mac(1)),
            Frame.make(to: Frame.mac(2), from: [1, 2, 3, 4, 5, 6]),
        ]
        #expect(bench.poll() == 4)
        #expect(bench.drops(0) == [.samePort: 2, .reservedAddress: 1, .groupSource: 1])
        #expect(bench.drops(1).isEmpty)
        #expect(bench.ports[1].sent.isEmpty)
        #expect(queue.completed == 4)
        // Alone in the world.
        bench.forwarding.set(queues: [], of: 1)
        queue.waiting = [Frame.make(to: [255, 255, 255, 255, 255, 255], from: Frame.mac(1))]
        bench.poll()
        #expect(bench.drops(0)[.nowhere] == 1)
        // Known, but gone.
        _ = bench.table.learn(address(Frame.mac(8)), at: 1, tick: 0)
        queue.waiting = [Frame.make(to: Frame.mac(8), from: Frame.mac(1))]
        bench.poll()
        #expect(bench.drops(1) == [.portClosed: 1])
    }

    @Test("A wire carries everything, whatever its address, and learns nothing")
    func wires() throws {
        let bench = try Bench(4, wires: [1, 0, 3, 2])
        let frames = [
            Frame.make(to: [1, 0x80, 0xc2, 0, 0, 0], from: Frame.mac(1)),
            Frame.make(to: [255, 255, 255, 255, 255, 255], from: [1, 1, 1, 1, 1, 1]),
        ]
        bench.ports[2].scripted[0].waiting = frames
        bench.poll()
        #expect(bench.ports.map { $0.sent.count } == [0, 0, 0, 2])
        #expect(bench.ports[3].sent == frames)
        #expect(bench.table.entries.isEmpty)
    }

    @Test("A receiver without room is waited for, and nothing is lost or reordered")
    func holding() throws {
        let bench = try Bench(2, wires: [1, 0], holdCycles: .max >> 1)
        let frames = (0..<32).map { Frame.make(to: Frame.mac(2), from: Frame.mac(1), [UInt8($0)]) }
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        sender.waiting = frames
        receiver.room = 0
        #expect(bench.poll() == 0)
        #expect(bench.ingresses[0][0].isHolding)
        for part in [1, 5, 0, 20, 6] {
            receiver.room = part
            #expect(bench.poll() == part)
        }
        #expect(receiver.sent == frames)
        #expect(!bench.ingresses[0][0].isHolding)
        #expect(sender.completed == 32)
        #expect(bench.drops(1).isEmpty)
        #expect(bench.blocks[1].read(.held) == 32)
    }

    @Test("A dead receiver costs its sender one hold; later packets are dropped at once")
    func deadReceiver() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try Bench(2, wires: [1, 0], holdCycles: hold)
        let frame = Frame.make(to: Frame.mac(2), from: Frame.mac(1))
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        receiver.room = 0
        sender.waiting = [frame, frame]
        bench.poll()
        let start = CycleClock.now()
        while bench.ingresses[0][0].isHolding { bench.poll() }
        #expect(CycleClock.now() &- start < 1000 * hold)
        #expect(bench.drops(1) == [.noRoom: 2])
        sender.waiting = [frame]
        #expect(bench.poll() == 1)
        #expect(bench.drops(1) == [.noRoom: 3])
        // It lives again.
        receiver.room = 1
        sender.waiting = [frame]
        bench.poll()
        #expect(receiver.sent == [frame])
        receiver.room = 0
        sender.waiting = [frame]
        bench.poll()
        #expect(bench.ingresses[0][0].isHolding)
        bench.forwarding.abandon(bench.ingresses[0][0])
        #expect(bench.drops(1) == [.noRoom: 4])
        #expect(sender.out.isEmpty)
    }

    @Test("Senders that overload one receiver get like parts of its room", arguments: 2...4)
    func overload(senders: Int) throws {
        for room in [1, 8, 16, 40] {
            // Others lie between them, which changes nothing.
            let bench = try Bench(9, holdCycles: .max >> 2)
            _ = bench.table.learn(address(Frame.mac(8)), at: 8, tick: 0)
            for _ in 0..<1000 {
                for sender in 0..<senders {
                    let queue = bench.ports[2 * sender].scripted[0]
                    while queue.waiting.count < 32 {
                        queue.waiting.append(
                            Frame.make(to: Frame.mac(8), from: Frame.mac(UInt8(2 * sender))))
                    }
                }
                bench.ports[8].scripted[0].room = room
                bench.poll()
            }
            let sent = bench.ports[8].sent
            #expect(sent.count == 1000 * room)
            for sender in 0..<senders {
                let count = sent.count { $0[11] == UInt8(2 * sender) }
                #expect(abs(Double(count * senders) / Double(sent.count) - 1) < 0.15)
            }
        }
    }

    @Test("A receiver that takes few packets is not slow: later packets wait")
    func trickle() throws {
        let hold = UInt64(CycleClock.hertz / 5)
        let bench = try Bench(2, wires: [1, 0], holdCycles: hold)
        let (sender, receiver) = (bench.ports[0].scripted[0], bench.ports[1].scripted[0])
        let frames = (0..<3).map { Frame.make(to: Frame.mac(2), from: Frame.mac(1), [UInt8($0)]) }
        receiver.room = 0
        sender.waiting = [frames[0], frames[1]]
        let start = CycleClock.now()
        while CycleClock.now() &- start < hold / 10 * 9 { bench.poll() }
        // One is taken late, the other one too late.
        receiver.room = 1
        while bench.ingresses[0][0].isHolding { bench.poll() }
        #expect(receiver.sent == [frames[0]] && bench.drops(1) == [.noRoom: 1])
        sender.waiting = [frames[2]]
        bench.poll()
        #expect(bench.ingresses[0][0].isHolding)
        receiver.room = nil
        bench.poll()
        #expect(receiver.sent == [frames[0], frames[2]])
    }

    /// IPv4, UDP; the source port is the flow.
    private func datagram(_ port: Int) -> [UInt8] {
        var ip: [UInt8] = [0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        ip += [0x10, UInt8(port), 0, 53, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        return Frame.mac(2) + Frame.mac(1) + [8, 0] + ip
    }

    /// For each of a port's queues one flow that goes to it.
    private func flow(toEachOf count: Int) throws -> [[UInt8]] {
        let bench = try Bench(2, queues: count, wires: [1, 0])
        var flows = [[UInt8]](repeating: [], count: count)
        for port in 0..<64 {
            bench.ports[0].scripted[0].waiting = [datagram(port)]
            bench.poll()
        }
        for (index, queue) in bench.ports[1].scripted.enumerated() {
            flows[index] = try #require(queue.sent.first)
        }
        return flows
    }

    @Test("A dead queue does not make its port's other queues dead")
    func deadQueue() throws {
        let flows = try flow(toEachOf: 2)
        let bench = try Bench(
            2, queues: 2, wires: [1, 0], holdCycles: UInt64(CycleClock.hertz / 5))
        let (sender, queues) = (bench.ports[0].scripted[0], bench.ports[1].scripted)
        for queue in queues { queue.room = 0 }
        sender.waiting = [flows[0]]
        while bench.drops(1).isEmpty { bench.poll() }
        // The dead one's are dropped at once, the other one's wait.
        sender.waiting = [flows[0], flows[1]]
        bench.poll()
        #expect(bench.drops(1) == [.noRoom: 2])
        #expect(bench.ingresses[0][0].isHolding)
        queues[1].room = 1
        bench.poll()
        #expect(queues[1].sent == [flows[1]] && sender.out.isEmpty)
    }

    @Test("A packet that waits goes to the queue of its flow, whatever its sender writes meanwhile")
    func rewrittenFlow() throws {
        let flows = try flow(toEachOf: 2)
        let bench = try Bench(2, queues: 2, wires: [1, 0], holdCycles: .max >> 2)
        let (sender, queues) = (bench.ports[0].scripted[0], bench.ports[1].scripted)
        for queue in queues { queue.room = 0 }
        sender.waiting = [flows[0]]
        bench.poll()
        sender.out[0].copyMemory(from: flows[1], byteCount: flows[1].count)
        for queue in queues { queue.room = nil }
        bench.poll()
        #expect(queues[0].sent == [flows[1]] && queues[1].sent.isEmpty)
    }

    @Test("A dead receiver stays dead although packets for it cannot be finished")
    func unfinishable() throws {
        let hold = UInt64(CycleClock.hertz / 1000)
        let bench = try Bench(2, wires: [1, 0], holdCycles: hold)
        let frame = Frame.make(to: Frame.mac(2), from: Frame.mac(1))
        let sender = bench.ports[0].scripted[0]
        bench.ports[1].scripted[0].room = 0
        sender.waiting = [frame]
        while bench.drops(1).isEmpty { bench.poll() }
        // Its offloads lie outside its headers.
        sender.incomingOffloads = PacketOffloads(flags: 1, csumStart: 59, csumOffset: 16)
        sender.waiting = [frame]
        bench.poll()
        #expect(bench.drops(1) == [.noRoom: 1, .unfinishable: 1])
        sender.incomingOffloads = PacketOffloads.none
        sender.waiting = [frame]
        #expect(bench.poll() == 1)
        #expect(bench.drops(1) == [.noRoom: 2, .unfinishable: 1])
    }

    @Test("A slow receiver does not stop packets to others, nor a flood")
    func slowAmongOthers() throws {
        let bench = try Bench(3, holdCycles: .max >> 1)
        for port in 1..<3 {
            _ = bench.table.learn(address(Frame.mac(UInt8(port))), at: port, tick: 0)
        }
        let sender = bench.ports[0].scripted[0]
        bench.ports[1].scripted[0].room = 0
        sender.waiting = [
            Frame.make(to: Frame.mac(1), from: Frame.mac(9), [1]),
            Frame.make(to: Frame.mac(2), from: Frame.mac(9), [2]),
            Frame.make(to: [255, 255, 255, 255, 255, 255], from: Frame.mac(9), [3]),
        ]
        #expect(bench.poll() == 2)
        #expect(bench.ports[2].sent.map { $0[14] } == [2, 3])
        #expect(bench.drops(1) == [.noRoom: 1])
        bench.ports[1].scripted[0].room = nil
        #expect(bench.poll() == 1)
        #expect(bench.ports[1].sent.map { $0[14] } == [1])
    }

    @Test("Packets of a flow go to one queue, and flows to all", arguments: [8, 1400])
    func flows(payload: Int) throws {
        let bench = try Bench(2, queues: 4, wires: [1, 0])
        var frames: [[UInt8]] = []
        for port in 0..<64 {
            // IPv4, UDP; the source port is the flow.
            let (udp, total) = (8 + payload, 28 + payload)
            var ip: [UInt8] = [0x45, 0, UInt8(total >> 8), UInt8(total & 255), 0, 0, 0, 0, 64, 17]
            ip += [0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
            ip += [0x10, UInt8(port), 0, 53, UInt8(udp >> 8), UInt8(udp & 255), 0, 0]
            for number in 0..<3 {
                frames.append(
                    Frame.mac(2) + Frame.mac(1) + [8, 0] + ip + [UInt8(number)]
                        + [UInt8](repeating: 0, count: payload - 1))
            }
        }
        bench.ports[0].scripted[0].waiting = frames
        while bench.poll() > 0 {}
        let queues = bench.ports[1].scripted
        #expect(queues.reduce(0) { $0 + $1.sent.count } == frames.count)
        #expect(queues.allSatisfy { !$0.sent.isEmpty })
        for queue in queues {
            let byFlow = Dictionary(grouping: queue.sent) { $0[35] }
            #expect(byFlow.values.allSatisfy { $0.map { $0[42] } == [0, 1, 2] })
        }
    }

    @Test("Offloads that the receiver takes are passed on with the packet")
    func offloads() throws {
        let bench = try Bench(2, wires: [1, 0])
        let offloads = PacketOffloads(flags: 1, csumStart: 34, csumOffset: 16)
        bench.ports[0].scripted[0].incomingOffloads = offloads
        bench.ports[1].scripted[0].offloads = .guestChecksum
        bench.ingresses[1][0].forget()
        let frame = Frame.make(to: Frame.mac(2), from: Frame.mac(1), byteCount: 100)
        bench.ports[0].scripted[0].waiting = [frame, frame]
        bench.poll()
        #expect(bench.ports[1].scripted[0].sentOffloads == [offloads, offloads])
        #expect(bench.ports[1].sent == [frame, frame])
    }

    @Test("The receiver's MTU holds for whole frames, and for segments that are made for it")
    func frameLimit() throws {
        let bench = try Bench(3, wires: [])
        for port in 1..<3 { bench.ports[port].scripted[0].frameLimit = 500 }
        bench.ports[2].scripted[0].offloads = [.guestChecksum, .guestTSO4]
        for list in bench.ingresses { list[0].forget() }
        _ = bench.table.learn(address(Frame.mac(1)), at: 1, tick: 0)
        _ = bench.table.learn(address(Frame.mac(2)), at: 2, tick: 0)
        // IPv4, TCP: 54 bytes of headers.
        func large(to: UInt8) -> [UInt8] {
            var ip: [UInt8] = [0x45, 0, 3, 0xe0, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
            ip += [0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]
            return Frame.mac(to) + Frame.mac(9) + [8, 0] + ip + [UInt8](repeating: 1, count: 952)
        }
        let sender = bench.ports[0].scripted[0]
        func send(gsoSize: UInt16, to: UInt8) {
            sender.incomingOffloads =
                gsoSize == 0
                ? PacketOffloads.none
                : PacketOffloads(
                    flags: 1, gsoType: 1, gsoSize: gsoSize, csumStart: 34, csumOffset: 16)
            sender.waiting = [large(to: to)]
            bench.poll()
        }
        // Passed on as it is, whatever its length.
        send(gsoSize: 1400, to: 2)
        #expect(bench.ports[2].sent.map(\.count) == [1006])
        send(gsoSize: 0, to: 2)
        #expect(bench.drops(2) == [.exceedsMTU: 1])
        // Made into segments: 446 + 54 bytes fit, one more does not.
        send(gsoSize: 446, to: 1)
        #expect(bench.ports[1].sent.map(\.count) == [500, 500, 114])
        send(gsoSize: 447, to: 1)
        #expect(bench.drops(1) == [.exceedsMTU: 1])
        #expect(bench.ports[1].sent.count == 3)
        // A flood is judged at each port.
        sender.incomingOffloads = PacketOffloads.none
        sender.waiting = [
            Frame.make(to: Frame.mac(99), from: Frame.mac(9), byteCount: 501),
            Frame.make(to: Frame.mac(99), from: Frame.mac(9), byteCount: 500),
        ]
        bench.poll()
        #expect(bench.drops(1) == [.exceedsMTU: 2] && bench.drops(2) == [.exceedsMTU: 2])
        #expect(bench.ports[1].sent.last?.count == 500 && bench.ports[2].sent.last?.count == 500)
        #expect(sender.out.isEmpty)
    }

    @Test("Frames of 14 bytes and the largest are carried", arguments: [14, 15, 60, 1514, 65589])
    func sizes(byteCount: Int) throws {
        let bench = try Bench(2)
        var frame = Frame.make(to: Frame.mac(2), from: Frame.mac(1), byteCount: byteCount)
        frame[byteCount - 1] = byteCount > 14 ? 0xa5 : frame[byteCount - 1]
        bench.ports[0].scripted[0].waiting = [frame]
        bench.poll()
        #expect(bench.ports[1].sent == [frame])
    }
}
