// Ports joined: learning by address, or wired in pairs.
//
//   control thread   sockets, timers, queues that come and go            Switch.serve
//   switch threads   poll the ports' queues, forward burst by burst      SwitchThread, Forwarding
//
// Queue q of port p, both numbered from 0, belongs to thread (p + q) modulo their number: ports of
// one queue are dealt out like cards, and so are the queues of one port.
//
// The control thread changes nothing that the switch threads use but while all are held at the
// boundary between two polls (`whileHeld`). So ports come and go, and queues go from thread to
// thread, while traffic runs (`Switch+Ports.swift`).

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
    /// How long a burst waits for a far side without room, in microseconds; 0 = not at all. Of the
    /// packets of another thread 64 wait for one queue.
    public var holdMicroseconds = 1000
    /// Seconds after which an address that was not seen is forgotten.
    public var ageSeconds = 300
    /// Most addresses learned at one port.
    public var addressLimit = 1024
    /// How much may come in at ports, by their names.
    public var rateLimits: [String: RateLimit] = [:]

    public init() {}

    /// Checks everything that can be checked without opening a port.
    /// - Parameter names: of the ports.
    public func validate(names: [String]) throws(SetupError) {
        try check()
        guard names.count <= portLimit else {
            throw SetupError("\(names.count) ports: at most \(portLimit)")
        }
        for (index, name) in names.enumerated() where names[..<index].contains(name) {
            throw SetupError("two ports are named \"\(name)\"")
        }
        _ = try Switch.wiring(wires, names)
        for (name, limit) in rateLimits.sorted(by: { $0.key < $1.key }) {
            guard names.contains(name) else {
                throw SetupError("rate limit of \"\(name)\": there is no such port")
            }
            try limit.check(port: name)
        }
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
    let configuration: SwitchConfiguration
    private let output: (LogEntry) -> Void
    let table: MACTable
    let threads: [SwitchThread]
    let mesh: ThreadMesh
    let links: [ThreadLinks]
    /// In the order in which they came.
    var ports: [AttachedPort] = []
    /// By the numbers of ports; those of a port that is gone wait for the next one.
    var counterBlocks: [PortCounterBlocks] = []
    /// Of the port that came last.
    var portSerial: UInt64 = 0
    /// The ends of wires, by names; some may be of ports that are not there now.
    var wires: [(String, String)]
    /// Ports that go to another process, or come from one.
    var leaving: [AttachedPort] = []
    /// What ports that were removed have done.
    public internal(set) var removed = RemovedPorts()
    private var holdDepth = 0
    private(set) var isStarted = false
    private let start = SystemClock.monotonic
    private let captures = CaptureList()
    /// When all switch threads were seen last at the boundary between two polls.
    private var lastAnswer: UInt64 = 0

    /// What other threads ask the control thread for.
    public let requests: SwitchRequests
    /// What the program around it has counted, by name, for `statistics`.
    public var programCounters: [() -> [String: UInt64]] = []

    /// Makes a switch of ports; nothing is opened yet.
    /// - Parameters:
    ///   - ports: their numbers are their places.
    ///   - log: takes one entry at a time, on the control thread.
    public init(
        _ configuration: SwitchConfiguration, ports: [any Port],
        log: @escaping (LogEntry) -> Void
    ) throws(SetupError) {
        try configuration.validate(names: ports.map(\.name))
        self.configuration = configuration
        output = log
        wires = configuration.wires
        do { requests = try SwitchRequests() } catch { throw SetupError("switch: ", error) }
        let threadCount = configuration.threads.count
        let mesh = try ThreadMesh(queueCounts: [Int](repeating: 1, count: threadCount))
        let links = (0..<threadCount).map {
            mesh.links(of: $0, sleeps: configuration.idle.kind == .park)
        }
        (self.mesh, self.links) = (mesh, links)
        table = MACTable(
            portLimit: configuration.portLimit, addressLimit: configuration.addressLimit)
        let holdCycles = UInt64(Double(configuration.holdMicroseconds) * CycleClock.hertz / 1e6)
        var threads: [SwitchThread] = []
        for (links, cpu) in zip(links, configuration.threads) {
            let forwarding = Forwarding(
                table: table, holdCycles: holdCycles, links: threadCount > 1 ? links : nil)
            threads.append(
                try SwitchThread(forwarding, cpu: cpu, idle: configuration.idle, links: links))
        }
        self.threads = threads
        for port in ports { try attach(port, configuration.rateLimits[port.name]) }
        connectWires()
    }

    deinit {
        close()
        table.free()
    }

    /// For each port the number of the one at the other end of its wire.
    static func wiring(
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
    var threadNumbers: [[Int]] { ports.map { $0.queues.map(\.thread) } }

    // MARK: Life

    /// Opens all ports, then starts the switch threads.
    /// - Throws: why a port cannot be opened; those that were are closed again.
    public func open() throws(SetupError) { try open(held: false) }

    /// The same.
    /// - Parameter held: the threads do nothing before `release`.
    package func open(held: Bool) throws(SetupError) {
        if held { hold() }
        do throws(SetupError) {
            for port in ports { try port.port.open(for: self) }
            refresh()
            isStarted = true
            for (number, thread) in threads.enumerated() {
                try thread.start(name: threads.count > 1 ? "switch-\(number)" : "cleave-switch")
            }
        } catch {
            close(drains: !held)
            throw error
        }
    }

    /// Serves the ports' control side until `until` says so; returns at most 100 ms after.
    public func serve(until isOver: () -> Bool) {
        var lastAging = SystemClock.monotonic
        while !isOver() {
            wait()
            requests.perform(self)
            for port in ports { port.port.service() }
            serviceCaptures()
            let now = SystemClock.monotonic
            if now &- lastAging >= 1_000_000_000 {
                lastAging = now
                age(now)
            }
        }
    }

    /// Waits for a control descriptor or deadline, at most 100 ms.
    private func wait() {
        var waits = [pollfd(fd: requests.fileDescriptor, events: Int16(POLLIN), revents: 0)]
        var deadline = SystemClock.monotonic &+ 100_000_000
        for port in ports.map(\.port) {
            for descriptor in port.controlDescriptors {
                waits.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
            }
            if let other = port.controlDeadline { deadline = min(deadline, other) }
        }
        for descriptor in captures.descriptors {
            waits.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
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
        for port in ports { for queue in port.queues { queue.forget() } }
        release()
    }

    /// From the return of this no thread uses a queue, until `release`. May be nested.
    func hold() {
        for thread in threads { thread.beginHold() }
        for (number, thread) in threads.enumerated() {
            thread.awaitHold { seconds in
                let place = thread.cpu.map { " on CPU \($0)" } ?? ""
                log(
                    LogEntry(
                        "switch thread \(number)\(place) has not answered for \(seconds) s",
                        level: .error))
            }
        }
        lastAnswer = SystemClock.monotonic
    }

    /// Returns once all switch threads have been at the boundary between two polls since a time of
    /// the monotonic clock, in nanoseconds: then they live. A thread that hangs keeps this from
    /// returning, as it keeps every request of a guest from being served.
    public func awaitThreads(since time: UInt64) {
        if lastAnswer >= time { return }
        hold()
        release()
    }

    package func release() { for thread in threads { thread.release() } }

    /// Takes what waits in the queues, for at most 200 ms, then closes all ports. A guest's VMM may
    /// mark what is left as sent although it was not (QEMU does).
    public func close() { close(drains: true) }

    /// The same.
    /// - Parameter drains: whether what waits is taken; not if another process has the queues.
    package func close(drains: Bool) {
        requests.close()
        hold()
        if isStarted && drains {
            let deadline = CycleClock.now() &+ UInt64(CycleClock.hertz / 5)
            while threads.map({ $0.poll() }).contains(where: { !$0.isEmpty })
                && CycleClock.now() < deadline
            {}
        }
        for port in ports { retire(port) }
        captures.endAll(because: "the switch ended", tappable)
        for port in ports { port.port.close() }
        for thread in threads { thread.stop() }
        release()
        isStarted = false
    }

    // MARK: PortHost

    @discardableResult
    public func whileHeld(by port: any Port, _ body: () -> Void) -> UInt64 {
        holdDepth += 1
        hold()
        let start = SystemClock.monotonic
        // What came in at it lies in memory that `body` may let go of.
        if let attached = ports.first(where: { $0.port === port }) { retire(attached) }
        body()
        holdDepth -= 1
        if holdDepth == 0 { refresh() }
        release()
        return start
    }

    /// Takes back all packets that came in at a port. What was handed from thread to thread, by any
    /// port, is placed first where there is room. While all threads are held: the control thread
    /// stands for each of them.
    private func retire(_ port: AttachedPort) {
        takeBack(port.queues, Forwarding.Departure(fromPort: port.number))
    }

    /// The same for what is to be dropped if it waits.
    func takeBack(_ queues: [SwitchQueue], _ departure: Forwarding.Departure) {
        for thread in threads { thread.forwarding.settle() }
        for thread in threads { thread.forwarding.dropWaiting(departure) }
        for thread in threads { thread.forwarding.collect() }
        for queue in queues {
            threads[queue.thread].forwarding.abandon(queue)
            assert(queue.window.count == 0, "all that was handed over has come back")
        }
    }

    public func log(_ entry: LogEntry) { output(entry) }

    public let holdShares = HoldShares()

    /// Gives the threads what is open now. While they are held.
    func refresh() {
        for port in ports {
            let isOpen = port.queues.map(\.queue.isOpen)
            if isOpen != port.openQueues {
                port.openQueues = isOpen
                let list = port.queues.filter(\.queue.isOpen)
                for thread in threads { thread.forwarding.set(queues: list, of: port.number) }
            }
            if port.wasConnected && !port.port.isConnected {
                // Nobody is there: its addresses may appear elsewhere.
                table.sweep(now: threads[0].forwarding.tick, age: .max, port: port.number)
            }
            port.wasConnected = port.port.isConnected
        }
        captures.link(tappable)
        let queues = ports.flatMap(\.queues)
        for queue in queues { queue.forget() }
        for (number, thread) in threads.enumerated() {
            // What waited for a queue that is closed now waits in vain.
            thread.forwarding.dropWaiting()
            thread.set(queues: queues.filter { $0.thread == number && $0.queue.isReceiving })
        }
    }

    // MARK: Captures

    /// Copies packets of ports, as they pass, into a pcapng stream, until whoever reads that ends
    /// or closes its side, `packetLimit` is reached, the port is removed or the switch closed. The
    /// stream ends with statistics. Traffic never waits for it: packets that the reader is too slow
    /// for are missing in the stream, and counted there.
    /// - Parameters:
    ///   - request: which packets.
    ///   - socket: a connected stream socket; it stays the caller's, and may be closed at once.
    /// - Throws: what is wrong with the request, or that there are too many captures.
    public func startCapture(_ request: CaptureRequest, to socket: Int32) throws(SetupError) {
        try request.check(ports.map { ($0.port.name, $0.queues.count) })
        try captures.start(
            request, to: socket, threadCount: threads.count,
            avoiding: threads.compactMap(\.cpu))
        linkCaptures()
    }

    /// What captures may be taken of.
    private var tappable: [(name: String, queues: [SwitchQueue])] {
        ports.map { ($0.port.name, $0.queues) }
    }

    private func linkCaptures() {
        hold()
        captures.link(tappable)
        release()
    }

    private func serviceCaptures() {
        if captures.isEmpty { return }
        captures.drainNews()
        if captures.needsLink { linkCaptures() }
        captures.reap { output(LogEntry($0)) }
    }

    // MARK: Counters

    /// What each port has done, by name, with what the switch dropped at it. Only what occurred has
    /// an entry. A port that was removed is not among them: see `removed`.
    public var counters: [(name: String, counters: PortCounters)] {
        ports.map { ($0.port.name, $0.counters) }
    }

    /// Everything that was counted until now.
    public var statistics: SwitchStatistics {
        var result = SwitchStatistics(
            nanoseconds: SystemClock.monotonic, cycles: CycleClock.now(),
            cyclesPerSecond: CycleClock.hertz,
            ports: ports.map { statistics(of: $0) },
            threads: threads.enumerated().map { $1.statistics(number: $0) },
            addresses: ports.reduce(0) { $0 + table.addressCount(at: $1.number) },
            removed: removed)
        for counters in programCounters {
            result.program.merge(counters(), uniquingKeysWith: &+)
        }
        return result
    }

    private func statistics(of attached: AttachedPort) -> PortStatistics {
        let port = attached.port
        let (type, own) = (port.type, port.ownCounters)
        func whole(_ names: [String], _ counts: [String: UInt64]) -> [String: UInt64] {
            counts.merging(names.map { ($0, 0) }) { count, _ in count }
        }
        var result = PortStatistics(name: port.name, serial: attached.serial, type: type)
        result.isConnected = port.isConnected
        result.headerQueue = port.headerQueue
        result.claimedSlots = own.claimedSlots
        result.droppedIn = attached.blocks.drops(inbound: true, withZeros: true)
        result.droppedIn.merge(own.droppedIn, uniquingKeysWith: +)
        result.droppedOut = attached.blocks.drops(inbound: false, withZeros: true)
        result.droppedOut.merge(own.droppedOut, uniquingKeysWith: +)
        for event in SwitchEvent.allCases {
            result.switched[event.name] = attached.blocks.read(event)
        }
        for event in type.events { result.events[event.rawValue] = own.events[event] ?? 0 }
        result.headerQueueRefusals = whole(type.headerQueueRefusals, own.headerQueueRefusals)
        result.vhostUser = whole(type.vhostUserEvents, own.vhostUser)
        result.addresses = table.addressCount(at: attached.number)
        for (index, queue) in attached.queues.enumerated() {
            let counters = queue.queue.counters
            var one = QueueStatistics(
                number: index, thread: queue.thread, cpu: threads[queue.thread].cpu)
            one.isOpen = queue.queue.isOpen
            one.isReceiving = queue.queue.isReceiving
            one.busyCycles = queue.busyCycles.load()
            one.in = counters.incoming
            one.in.bursts = queue.bursts.load()
            one.in.dropped = whole(type.inboundDrops, one.in.dropped)
            one.out = counters.outgoing
            one.out.dropped = whole(type.outboundDrops, one.out.dropped)
            one.out.whole = whole(type.fallbacks, one.out.whole)
            result.queues.append(one)
        }
        return result
    }

    /// How each port is made and where its queues are.
    public var portStates: [PortState] {
        ports.map { attached in
            let port = attached.port
            return PortState(
                name: port.name, type: port.type, isConnected: port.isConnected,
                offeredFeatures: port.offeredFeatures,
                negotiatedFeatures: port.negotiatedFeatures,
                residences: attached.queues.map { $0.queue.residence })
        }
    }

    /// Addresses that are known now, as text, and the names of their ports.
    public var addresses: [(address: String, port: String)] {
        let names = Dictionary(uniqueKeysWithValues: ports.map { ($0.number, $0.port.name) })
        return table.entries.compactMap { entry in
            names[entry.port].map { (EthernetAddress.text(entry.address), $0) }
        }
    }
}
