// Ports that come and go, and queues that go from thread to thread, while traffic runs.
//
//   add      a place, blocks of counters, queues dealt out to threads; then the port opens
//   remove   what is on its way from or to the port arrives or is dropped, counted; its addresses
//            are forgotten; then its place is free, and the port closes
//   move     what is on its way from or to the queue arrives, for at most some milliseconds
//
// Numbers of ports and of queues are used again at once: while all threads are held, the rings
// between them are emptied, so that whatever still names a number is in a list that is looked
// through.

import CleaveEngine
import CleaveHost
import CleavePorts

extension Switch {
    /// Names of the ports, in the order in which they came.
    public var portNames: [String] { ports.map(\.port.name) }

    // MARK: Add

    /// Adds a port, and opens it if the switch is open. Traffic between others goes on. Where ports
    /// are wired, a wire must name it (`setWires`), and what comes in at it waits for nobody: while
    /// the other end is not there, it is dropped as `nowhere`.
    /// - Throws: why it cannot be had, with the port's name; nothing has changed then.
    public func add(_ port: any Port, rateLimit: RateLimit? = nil) throws(SetupError) {
        if ports.contains(where: { $0.port.name == port.name }) {
            throw SetupError("port \(port.name): there is a port of that name")
        }
        if !wires.isEmpty && !wires.contains(where: { $0.0 == port.name || $0.1 == port.name }) {
            throw SetupError("port \(port.name): it is in no wire, and all others are")
        }
        hold()
        defer { release() }
        let attached = try attach(port, rateLimit)
        connectWires()
        refresh()
        if !isStarted { return }
        do throws(SetupError) {
            // It may read a file, or make packets: no reason for others to wait.
            release()
            defer { hold() }
            try port.open(for: self)
        } catch {
            detach(attached)
            throw error
        }
        refresh()
        log(LogEntry("added", port: port.name))
    }

    /// Gives a port its place. While all threads are held, or before they run.
    @discardableResult
    func attach(_ port: any Port, _ rateLimit: RateLimit?) throws(SetupError) -> AttachedPort {
        try rateLimit?.check(port: port.name)
        let numbers = Set(ports.map(\.number))
        guard let number = (0..<configuration.portLimit).first(where: { !numbers.contains($0) })
        else {
            throw SetupError(
                "port \(port.name): there are \(ports.count) ports already, the most that may be")
        }
        let threadCount = threads.count
        if number == counterBlocks.count {
            counterBlocks.append(PortCounterBlocks(threadCount: threadCount))
        }
        let blocks = counterBlocks[number]
        blocks.clear()
        portSerial += 1
        let attached = AttachedPort(
            number: number, serial: portSerial, port, blocks: blocks,
            limiter: rateLimit.flatMap(RateLimiter.init))
        var taken = Set(ports.flatMap { $0.queues.map(\.number) })
        var free = 0
        for (index, queue) in port.queues.enumerated() {
            while !taken.insert(free).inserted { free += 1 }
            attached.queues.append(
                SwitchQueue(
                    port: number, queue: queue, number: free,
                    thread: (number + index) % threadCount, threadCount: threadCount,
                    limiter: attached.limiter))
        }
        try growRings(for: ports.flatMap(\.queues) + attached.queues)
        for (thread, block) in zip(threads, blocks.blocks) {
            thread.forwarding.add(port: number, counters: block)
            for queue in attached.queues { thread.forwarding.crossing.place(queue) }
        }
        ports.append(attached)
        return attached
    }

    /// Makes room for positions of packets for `queues` in the rings between threads.
    private func growRings(for queues: [SwitchQueue]) throws(SetupError) {
        if threads.count == 1 { return }
        for thread in threads { thread.forwarding.collect() }
        try mesh.grow(
            links,
            queueCounts: threads.indices.map { number in queues.count { $0.thread == number } })
    }

    // MARK: Remove

    /// Removes a port, and closes it. What came in at it and is on its way is delivered, or dropped
    /// and counted at its receiver; what is to go out of it is dropped and counted as `portClosed`.
    /// Traffic between others goes on. Its counts are added to `removed`.
    /// - Returns: what the port has done.
    /// - Throws: if there is no port of that name.
    @discardableResult
    public func remove(_ name: String) throws(SetupError) -> PortCounters {
        let attached = try port(name)
        hold()
        detach(attached)
        release()
        // It may hold the switch again, for its own queues, which nobody uses any more.
        attached.port.close()
        let counters = attached.counters
        removed.add(counters)
        log(
            LogEntry(
                "removed; \(counters.packetsIn) packets came in at it, "
                    + "\(counters.packetsOut) went out, "
                    + "\(counters.droppedIn.values.reduce(0, +)) and "
                    + "\(counters.droppedOut.values.reduce(0, +)) were dropped", port: name))
        return counters
    }

    private func port(_ name: String) throws(SetupError) -> AttachedPort {
        if let port = ports.first(where: { $0.port.name == name }) { return port }
        throw SetupError(
            "there is no port \"\(name)\" among "
                + (ports.isEmpty ? "none" : portNames.joined(separator: ", ")))
    }

    /// Lets go of a port: from now on nothing names its number, nor those of its queues. While all
    /// threads are held.
    private func detach(_ attached: AttachedPort) {
        let number = attached.number
        takeBack(
            attached.queues, Forwarding.Departure(fromPort: number, toPort: number))
        for other in ports {
            for queue in other.queues { threads[queue.thread].forwarding.drop(queue, for: number) }
        }
        for thread in threads { thread.forwarding.set(queues: [], of: number) }
        ports.removeAll { $0 === attached }
        table.sweep(now: threads[0].forwarding.tick, age: .max, port: number)
        connectWires()
        refresh()
    }

    // MARK: Wires

    /// Says anew which ports are wired to each other; none makes it a learning switch. An end may
    /// be a port that is not there: the wire is plugged in when it comes.
    /// - Throws: if a port would be in two wires, or in none although there are some; nothing has
    ///   changed then.
    public func setWires(_ new: [(String, String)]) throws(SetupError) {
        let ends = new.flatMap { [$0.0, $0.1] }
        let names = portNames
        _ = try Self.wiring(
            new, names + Set(ends).subtracting(names).sorted())
        hold()
        wires = new
        connectWires()
        refresh()
        release()
    }

    /// Tells the threads where wires end. While they are held.
    func connectWires() {
        let numbers = Dictionary(uniqueKeysWithValues: ports.map { ($0.port.name, $0.number) })
        var ends: [String: String] = [:]
        for (left, right) in wires {
            ends[left] = right
            ends[right] = left
        }
        for port in ports {
            let other = ends[port.port.name].flatMap { numbers[$0] }
            let end =
                wires.isEmpty
                ? Destination.learned : other.map { Int32($0) } ?? Destination.nowhere
            for thread in threads { thread.forwarding.set(wire: end, of: port.number) }
        }
    }

    // MARK: Move

    /// Gives a queue of a port to another thread, both directions of it. All traffic waits until
    /// what is on its way from or to the queue has arrived, a hold at most and no more than
    /// 2 ms; what has no room until then is dropped and counted as `noRoom`.
    /// - Parameter queue: its number at the port, from 0.
    /// - Throws: if there is no such port, queue or thread.
    public func move(_ name: String, queue index: Int, toThread thread: Int) throws(SetupError) {
        let attached = try port(name)
        guard attached.queues.indices.contains(index) else {
            throw SetupError(
                "port \(name): there is no queue \(index); it has 0 to \(attached.queues.count - 1)"
            )
        }
        guard threads.indices.contains(thread) else {
            throw SetupError(
                "there is no switch thread \(thread); there are 0 to \(threads.count - 1)")
        }
        let old = attached.queues[index]
        if old.thread == thread { return }
        hold()
        defer { release() }
        settle(old)
        takeBack([old], Forwarding.Departure(queue: old.number))
        assert(old.isIdle)
        let new = SwitchQueue(
            port: old.port, queue: old.queue, number: old.number, thread: thread,
            threadCount: threads.count, limiter: attached.limiter)
        new.busyCycles.store(old.busyCycles.load())
        new.bursts.store(old.bursts.load())
        var queues = ports.flatMap(\.queues).filter { $0 !== old }
        queues.append(new)
        try growRings(for: queues)
        attached.queues[index] = new
        for thread in threads { thread.forwarding.crossing.place(new) }
        attached.openQueues = []
        refresh()
        log(LogEntry("queue \(index) is switch thread \(thread)'s now", port: name))
    }

    /// Lets what is on its way from or to a queue arrive, as long as that takes no longer than a
    /// hold. While all threads are held: the control thread stands for each of them.
    private func settle(_ queue: SwitchQueue) {
        let limit = min(UInt64(CycleClock.hertz / 500), threads[0].forwarding.holdCycles)
        let end = CycleClock.now() &+ limit
        repeat {
            for thread in threads { thread.forwarding.settle() }
            for thread in threads { thread.forwarding.collect() }
            threads[queue.thread].forwarding.moveOn(queue)
        } while !queue.isIdle && CycleClock.now() < end
    }
}
