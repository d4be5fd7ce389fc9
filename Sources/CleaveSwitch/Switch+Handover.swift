// A switch whose ports another process takes over while packets flow.
//
//   the process that has them                    the process that takes them over
//
//   beginHandover    ports rest, packets flow
//                                                take      before `open`
//                                                open      with threads held
//   suspend          traffic stops
//                                                start     traffic may go on
//   finishHandover   the other one has them
//   resume           or it cannot
//
// The pause is from `suspend` to the moment at which the other process releases its threads.

import CleaveHost
import CleavePorts
import CleaveRings
import CleaveVhostUser

/// The ports that go to another process, without what changes with each packet.
package struct SwitchHandover: Codable, Equatable, Sendable {
    /// A port, by its name.
    package struct NamedPort: Codable, Equatable, Sendable {
        package var name: String
        package var state: PortHandover
    }

    package var ports: [NamedPort]
}

/// Where a switch stopped.
package struct SwitchPosition: Codable, Equatable, Sendable {
    /// An address, the first byte lowest, and the place of its port among those that go.
    package struct Address: Codable, Equatable, Sendable {
        package var address: UInt64
        package var port: Int
    }

    /// When traffic stopped, in nanoseconds of the monotonic clock, which is the machine's.
    package var stoppedAt: UInt64
    package var ports: [PortPosition]
    package var addresses: [Address]
}

extension Switch {
    // MARK: The process that has them

    /// Has ports rest that another process may take over: packets flow on, and what their
    /// front-ends ask for waits in the sockets.
    /// - Parameters:
    ///   - names: of the ports that the other process wants; those that are not here, or can only
    ///     begin anew, are left out.
    ///   - descriptors: those of the ports are added there.
    package func beginHandover(
        of names: [String], _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> SwitchHandover {
        guard leaving.isEmpty else { throw SetupError("another program takes over already") }
        var state = SwitchHandover(ports: [])
        do throws(SetupError) {
            for attached in ports where names.contains(attached.port.name) {
                guard let port = attached.port as? any HandoverPort else { continue }
                leaving.append(attached)
                state.ports.append(
                    SwitchHandover.NamedPort(
                        name: port.name, state: try port.handover(descriptors)))
            }
        } catch {
            cancelHandover()
            throw error
        }
        return state
    }

    private var leavingPorts: [any HandoverPort] {
        leaving.compactMap { $0.port as? any HandoverPort }
    }

    /// Nobody takes over, and traffic was not stopped.
    package func cancelHandover() {
        for port in leavingPorts { port.endRest() }
        leaving = []
    }

    /// Stops all traffic, once what is on its way has arrived: for at most a hold, after which it
    /// is dropped as at any other time, and no more than 10 ms.
    /// - Returns: where everything stands. Threads are held until `resume` or `finishHandover`.
    package func suspend() throws(SetupError) -> SwitchPosition {
        guard leaving.allSatisfy({ gone in ports.contains { $0 === gone } }) else {
            throw SetupError("a port that another program takes over was removed meanwhile")
        }
        let start = stop()
        let places = Dictionary(
            uniqueKeysWithValues: leaving.enumerated().map { ($1.number, $0) })
        return SwitchPosition(
            stoppedAt: start, ports: leavingPorts.map { $0.suspend() },
            addresses: table.entries.compactMap { entry in
                places[entry.port].map {
                    SwitchPosition.Address(address: entry.address, port: $0)
                }
            })
    }

    /// Holds all threads, and lets what is on its way arrive.
    /// - Returns: when traffic stopped.
    private func stop() -> UInt64 {
        hold()
        let start = SystemClock.monotonic
        let limit = min(UInt64(CycleClock.hertz / 100), threads[0].forwarding.holdCycles)
        settleAll(until: CycleClock.now() &+ limit)
        for attached in ports {
            takeBack(attached.queues, Forwarding.Departure(fromPort: attached.number))
        }
        return start
    }

    /// Lets what is on its way arrive, and nothing more come in. While all threads are held: the
    /// control thread stands for each of them.
    private func settleAll(until end: UInt64) {
        let queues = ports.flatMap(\.queues)
        repeat {
            for thread in threads { thread.forwarding.settle() }
            for thread in threads { thread.forwarding.collect() }
            for queue in queues { threads[queue.thread].forwarding.moveOn(queue) }
        } while queues.contains { !$0.isIdle } && CycleClock.now() < end
    }

    /// The other process cannot take over: traffic goes on where it stopped.
    package func resume() {
        for port in leavingPorts { port.resume() }
        leaving = []
        refresh()
        release()
    }

    /// A process that was too late to take ports over is gone, and may have written to their
    /// guests' memory before: says anew there what the queues say to drivers.
    package func renew(_ names: [String]) {
        let renewed = ports.filter { names.contains($0.port.name) && leaving.isEmpty }
            .compactMap { $0.port as? any HandoverPort }
        if renewed.isEmpty { return }
        _ = stop()
        for port in renewed {
            _ = port.suspend()
            port.resume()
        }
        refresh()
        release()
    }

    /// The other process has the ports.
    package func finishHandover() {
        for port in leavingPorts { port.letGo() }
        leaving = []
        refresh()
        release()
    }

    // MARK: The process that takes them over

    /// Gives ports what another process has said of them. Before `open`.
    /// - Parameter descriptors: those that came with it; each has to belong to something.
    /// - Throws: what is wrong with it.
    package func take(
        _ state: SwitchHandover, _ descriptors: HandoverDescriptors
    ) throws(SetupError) {
        for named in state.ports {
            guard let attached = ports.first(where: { $0.port.name == named.name }),
                let port = attached.port as? any HandoverPort
            else { throw SetupError("port \(named.name): it was not asked for") }
            guard !leaving.contains(where: { $0 === attached }) else {
                throw SetupError("port \(named.name): it comes twice")
            }
            try port.take(named.state, descriptors)
            leaving.append(attached)
        }
        try descriptors.checkAllTaken()
    }

    /// Queues that were taken over and are in use.
    package var takenQueueCount: Int {
        leaving.reduce(0) { $0 + $1.queues.count { $0.queue.isOpen || $0.queue.isReceiving } }
    }

    /// Has the ports go on where another process stopped them, as soon as threads are released. The
    /// switch is open, and they are held.
    /// - Throws: what is wrong with the position, or why a queue cannot be made. The switch is to
    ///   be abandoned then.
    package func start(at position: SwitchPosition) throws(SetupError) {
        guard position.ports.count == leaving.count else {
            throw SetupError("ports: \(position.ports.count), and \(leaving.count) were taken")
        }
        for (port, place) in zip(leavingPorts, position.ports) { try port.start(at: place) }
        for (index, entry) in position.addresses.enumerated() {
            guard leaving.indices.contains(entry.port), entry.address != 0,
                entry.address & ~EthernetAddress.mask == 0,
                !EthernetAddress.isGroup(entry.address)
            else { throw SetupError("addresses[\(index)]: no address of a port") }
            _ = table.learn(
                entry.address, at: leaving[entry.port].number,
                tick: threads[0].forwarding.tick)
        }
        refresh()
    }

    /// The other process goes on: everything is closed, and nothing that waits in a queue taken.
    package func abandon() {
        hold()
        for port in leavingPorts { port.abandon() }
        leaving = []
        close(drains: false)
        release()
    }

    /// The other process has let go: what was both's is this one's.
    package func keep() {
        for port in leavingPorts { port.keep() }
        leaving = []
    }
}
