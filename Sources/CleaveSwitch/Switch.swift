// Ports joined: learning by address, or wired in pairs.
//
//   control thread   sockets, timers, queues that come and go            Switch.serve
//   switch threads   poll the ports' queues, forward burst by burst      SwitchThread, Forwarding
//
// Queue q of port p, both numbered from 0, belongs to thread (p + q) modulo their number: ports of
// one queue are dealt out like cards, and so are the queues of one port.
//
// The control thread changes nothing that the switch threads use but while all are held at the
// boundary between two polls (`whileHeld`).

import CCleaveHost
import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveRings
import Glibc

/// Everything a switch is made from.
public struct SwitchConfiguration: Sendable {
    /// Most ports.
    public var portLimit = 128
    /// Addresses of ports that are wired to each other; what no wire names is switched. Empty for
    /// a learning switch.
    public var wires: [(String, String)] = []
    /// One thread for each, with the CPU that it is kept on; nil for any. 1 to 32.
    public var threads: [Int?] = [nil]
    public var idle: IdlePolicy = .park
    /// How long a burst waits for a far side without room, in microseconds; 0 = not at all.
    public var holdMicroseconds = 1000
    /// Seconds after which an address that was not seen is forgotten.
    public var ageSeconds = 300
    /// Most addresses learned at one port.
    public var addressLimit = 1024

    public init() {}

    /// Checks everything that can be checked without opening a port.
    /// - Parameter names: of the ports.
    public func validate(names: [String]) throws(SetupError) {
        try check()
        for (index, name) in names.enumerated() where names[..<index].contains(name) {
            throw SetupError("two ports are named \"\(name)\"")
        }
        _ = try Switch.wiring(wires, names)
    }

    func check() throws(SetupError) {
        guard (1...1024).contains(portLimit) else {
            throw SetupError("\(portLimit) ports: need 1 to 1024")
        }
        guard (1...ThreadMesh.threadLimit).contains(threads.count) else {
            throw SetupError("\(threads.count) switch threads: need 1 to 32")
        }
        let cpus = threads.compactMap { $0 }
        if let twice = cpus.indices.first(where: { cpus[..<$0].contains(cpus[$0]) }) {
            throw SetupError("CPU \(cpus[twice]) is given to two switch threads")
        }
        guard (0...1_000_000).contains(holdMicroseconds) else {
            throw SetupError("hold of \(holdMicroseconds) microseconds: need 0 to 1000000")
        }
        guard (1...1_000_000).contains(ageSeconds) else {
            throw SetupError("addresses age after \(ageSeconds) seconds: need 1 to 1000000")
        }
        guard (1...16384).contains(addressLimit) else {
            throw SetupError("\(addressLimit) addresses for each port: need 1 to 16384")
        }
    }
}

/// Ports, joined. One control thread calls everything but where it says otherwise.
public final class Switch: PortHost {
    private let configuration: SwitchConfiguration
    private let output: (String) -> Void
    private let table: MACTable
    private let counterMemory: MemoryArena
    /// By thread and port.
    private let blocks: [[SwitchCounterBlock]]
    private let threads: [SwitchThread]
    private var ports: [any Port] = []
    private var queues: [[SwitchQueue]] = []
    private var holdDepth = 0
    private var openQueues: [[Bool]] = []
    private var connected: [Bool] = []
    private var isStarted = false
    private let start = SystemClock.monotonic

    /// Makes a switch of ports; nothing is opened yet.
    /// - Parameters:
    ///   - ports: their numbers are their places.
    ///   - log: takes one line at a time, on the control thread.
    public init(
        _ configuration: SwitchConfiguration, ports: [any Port],
        log: @escaping (String) -> Void
    ) throws(SetupError) {
        try configuration.validate(names: ports.map(\.name))
        guard ports.count <= configuration.portLimit else {
            throw SetupError("\(ports.count) ports: at most \(configuration.portLimit)")
        }
        self.configuration = configuration
        output = log
        let limit = max(1, ports.count)
        let threadCount = configuration.threads.count
        table = MACTable(portLimit: limit, addressLimit: configuration.addressLimit)
        do {
            counterMemory = try MemoryArena(
                byteCount: threadCount * limit * SwitchCounterBlock.byteCount, pages: .small)
            var blocks: [[SwitchCounterBlock]] = []
            for _ in 0..<threadCount {
                var ofThread: [SwitchCounterBlock] = []
                for _ in 0..<limit {
                    ofThread.append(
                        SwitchCounterBlock(
                            try counterMemory.allocate(byteCount: SwitchCounterBlock.byteCount)))
                }
                blocks.append(ofThread)
            }
            self.blocks = blocks
        } catch { throw SetupError("switch counters: ", error) }
        let wires = try Self.wiring(configuration.wires, ports.map(\.name))
        let mesh = try ThreadMesh(threadCount: threadCount)
        let holdCycles = UInt64(Double(configuration.holdMicroseconds) * CycleClock.hertz / 1e6)
        var threads: [SwitchThread] = []
        for (number, cpu) in configuration.threads.enumerated() {
            let links = mesh.links(of: number, sleeps: configuration.idle.kind == .park)
            let forwarding = Forwarding(
                table: table, wires: wires, holdCycles: holdCycles,
                ports: zip(blocks[number], ports).map { ($0, $1.queues.count) },
                links: threadCount > 1 ? links : nil)
            threads.append(
                try SwitchThread(
                    forwarding, cpu: cpu, idle: configuration.idle,
                    queueLimit: ports.reduce(0) { $0 + $1.queues.count }, links: links))
        }
        self.threads = threads
        self.ports = ports
        var queueCount = 0
        for (port, list) in ports.map(\.queues).enumerated() {
            queues.append(
                list.enumerated().map { index, queue in
                    SwitchQueue(
                        port: port, queue: queue, number: queueCount + index,
                        thread: (port + index) % threadCount, isShared: threadCount > 1)
                })
            queueCount += list.count
        }
        for thread in threads { thread.forwarding.crossing.all.set(Array(queues.joined())) }
    }

    deinit {
        close()
        table.free()
    }

    /// For each port the number of the one at the other end of its wire.
    fileprivate static func wiring(
        _ wires: [(String, String)], _ names: [String]
    ) throws(SetupError) -> [Int] {
        if wires.isEmpty { return [] }
        var ends = [Int](repeating: -1, count: names.count)
        for (left, right) in wires {
            var pair: [Int] = []
            for name in [left, right] {
                guard let number = names.firstIndex(of: name) else {
                    throw SetupError(
                        "wire \(left),\(right): there is no port \"\(name)\" among "
                            + names.joined(separator: ", "))
                }
                guard !pair.contains(number) else {
                    throw SetupError("wire \(left),\(right): both ends are port \"\(name)\"")
                }
                guard ends[number] < 0 else {
                    throw SetupError("wire \(left),\(right): port \"\(name)\" is wired already")
                }
                pair.append(number)
            }
            (ends[pair[0]], ends[pair[1]]) = (pair[1], pair[0])
        }
        if let number = ends.firstIndex(of: -1) {
            throw SetupError("port \"\(names[number])\" is in no wire: either all are, or none")
        }
        return ends
    }

    /// For each port the threads of its queues.
    var threadNumbers: [[Int]] { queues.map { $0.map(\.thread) } }

    // MARK: Life

    /// Opens all ports, then starts the switch threads.
    /// - Throws: why a port cannot be opened; those that were are closed again.
    public func open() throws(SetupError) {
        do throws(SetupError) {
            for port in ports { try port.open(for: self) }
            refresh()
            isStarted = true
            for (number, thread) in threads.enumerated() {
                try thread.start(name: threads.count > 1 ? "switch-\(number)" : "cleave-switch")
            }
        } catch {
            close()
            throw error
        }
    }

    /// Serves the ports' control side until `until` says so; returns at most 100 ms after.
    public func serve(until isOver: () -> Bool) {
        var lastAging = SystemClock.monotonic
        while !isOver() {
            wait()
            for port in ports { port.service() }
            let now = SystemClock.monotonic
            if now &- lastAging >= 1_000_000_000 {
                lastAging = now
                age(now)
            }
        }
    }

    /// Waits for a control descriptor or deadline, at most 100 ms.
    private func wait() {
        var waits: [pollfd] = []
        var deadline = SystemClock.monotonic &+ 100_000_000
        for port in ports {
            for descriptor in port.controlDescriptors {
                waits.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
            }
            if let other = port.controlDeadline { deadline = min(deadline, other) }
        }
        let now = SystemClock.monotonic
        let left = deadline > now ? deadline - now : 0
        _ = poll(&waits, nfds_t(waits.count), Int32((left + 999_999) / 1_000_000))
    }

    private func age(_ now: UInt64) {
        let tick = UInt32(truncatingIfNeeded: (now - start) / 1_000_000_000)
        hold()
        for thread in threads { thread.forwarding.tick = tick }
        if tick % 8 == 0 { table.sweep(now: tick, age: UInt32(configuration.ageSeconds)) }
        // What a flow's packets repeat is looked up, and so refreshed, once a second.
        for queue in queues.joined() { queue.forget() }
        release()
    }

    /// From the return of this no thread uses a queue, until `release`. May be nested.
    private func hold() {
        for thread in threads { thread.beginHold() }
        for thread in threads { thread.awaitHold() }
    }

    private func release() { for thread in threads { thread.release() } }

    /// Takes what waits in the queues, for at most 200 ms, then closes all ports. A guest's VMM may
    /// mark what is left as sent although it was not (QEMU does).
    public func close() {
        hold()
        if isStarted {
            let deadline = CycleClock.now() &+ UInt64(CycleClock.hertz / 5)
            while threads.reduce(0, { $0 + $1.poll() }) > 0 && CycleClock.now() < deadline {}
        }
        for number in ports.indices { retire(number) }
        for port in ports { port.close() }
        for thread in threads { thread.stop() }
        release()
        isStarted = false
    }

    // MARK: PortHost

    public func whileHeld(by port: any Port, _ body: () -> Void) {
        holdDepth += 1
        hold()
        // What came in at it lies in memory that `body` may let go of.
        if let number = ports.firstIndex(where: { $0 === port }) { retire(number) }
        body()
        holdDepth -= 1
        if holdDepth == 0 { refresh() }
        release()
    }

    /// Takes back all packets that came in at a port. What was handed from thread to thread, by any
    /// port, is placed first where there is room. While all threads are held: the control thread
    /// stands for each of them.
    private func retire(_ port: Int) {
        for thread in threads { thread.forwarding.settle() }
        for thread in threads { thread.forwarding.dropWaiting(from: port) }
        for thread in threads { thread.forwarding.collect() }
        for queue in queues[port] {
            threads[queue.thread].forwarding.abandon(queue)
            assert(queue.window.count == 0, "all that was handed over has come back")
        }
    }

    public func log(_ line: String) { output(line) }

    /// Gives the thread what is open now. While it is held.
    private func refresh() {
        var open: [[Bool]] = []
        for (number, port) in ports.enumerated() {
            let isOpen = port.queues.map(\.isOpen)
            open.append(isOpen)
            let before = openQueues.indices.contains(number) ? openQueues[number] : []
            if isOpen != before {
                let list = queues[number].filter(\.queue.isOpen)
                for thread in threads { thread.forwarding.set(queues: list, of: number) }
            }
            let wasConnected = connected.indices.contains(number) && connected[number]
            if wasConnected && !port.isConnected {
                // Nobody is there: its addresses may appear elsewhere.
                table.sweep(now: threads[0].forwarding.tick, age: .max, port: number)
            }
        }
        connected = ports.map(\.isConnected)
        openQueues = open
        for queue in queues.joined() { queue.forget() }
        for (number, thread) in threads.enumerated() {
            // What waited for a queue that is closed now waits in vain.
            thread.forwarding.dropWaiting(from: nil)
            thread.set(
                queues: queues.joined().filter { $0.thread == number && $0.queue.isReceiving })
        }
    }

    // MARK: Counters

    /// What each port has done, by name, with what the switch counted at it. Any thread may be
    /// writing meanwhile.
    public var counters: [(name: String, counters: PortCounters)] {
        ports.enumerated().map { number, port in
            var counters = port.counters
            for reason in SwitchDropReason.allCases {
                let count = blocks.reduce(0) { $0 + $1[number].read(reason) }
                if count == 0 { continue }
                if reason.isInbound {
                    counters.droppedIn[reason.name, default: 0] += count
                } else {
                    counters.droppedOut[reason.name, default: 0] += count
                }
            }
            for (name, word) in Self.words {
                let count = blocks.reduce(0) { $0 + $1[number].read(word) }
                if count > 0 { counters.events[name] = count }
            }
            return (port.name, counters)
        }
    }

    private static let words: [(String, SwitchCounterBlock.Word)] = [
        ("flooded", .flooded), ("finished", .finished), ("held", .held),
        ("unlearned", .unlearned),
    ]

    /// What one switch thread has done.
    public struct Work: Sendable {
        /// The CPU that it is kept on; nil for any.
        public let cpu: Int?
        /// Cycles of polls that moved packets, and of all else.
        public let busyCycles: UInt64
        public let idleCycles: UInt64
        /// Packets that it moved; one that is handed from thread to thread counts at both.
        public let packets: UInt64
        /// How often it slept.
        public let parks: UInt64
    }

    /// What the switch threads have done, in their order.
    public var work: [Work] { threads.map(\.work) }

    /// Addresses that are known now, as text, and the names of their ports.
    public var addresses: [(address: String, port: String)] {
        table.entries.map { (EthernetAddress.text($0.address), ports[$0.port].name) }
    }
}
