// From a burst that came in at one port to bursts that go out of others.
//
//   receive    up to 32 packets of one queue; they stay where they lie
//   decide     for each: the port it goes to, read off its two addresses once
//   deliver    port by port: references straight into the far side's buffers, the one copy
//   complete   the burst goes back to its sender when all of it is delivered or dropped
//
// A packet's order is kept among those of its burst that go to the same port. A far side without
// room holds a burst for a bounded time (`holdCycles`), then its packets are dropped. A queue that
// has taken nothing for that long is slow: later packets are dropped at once until it takes one
// again. So a dead receiver costs each sender that time once.
//
// Bursts that wait are polled first, oldest first. Otherwise the queue that is polled first would
// take whatever room comes, and others with packets for the same receiver would get none.
//
// On one thread a burst is completed as a whole: a hold is short. With several threads, packets to
// a queue of another one are handed over (`Forwarding+Threads.swift`), and a window restores the
// order in which they finish (`InFlightWindow`). Which of the two it is, is known to the compiler:
// the one thread pays nothing for the others.

import CCleaveHost
import CleaveHost
import CleavePorts
import CleaveVirtioNet

/// Sizes of a burst through the switch.
enum ForwardingLimit {
    /// Packets of one burst: one bit of a mask each.
    static let packets = 32
    /// References of one packet: a context, and its segments.
    static let refsPerPacket = TxQueue.maximumSegments + 1
    /// References of a burst.
    static let refs = packets * refsPerPacket
    /// References of one packet that was finished by software.
    static let finishedRefs = 1024
    /// With several threads: packets of one queue that are out, and hand-offs of one thread that
    /// wait for one receiver. Powers of two.
    static let window = 256
    static let waiting = 64
}

/// How many threads a switch has: the variants of the packet path.
protocol ThreadPolicy {
    static var isShared: Bool { get }
}
enum OneThread: ThreadPolicy {
    @inline(__always) static var isShared: Bool { false }
}
enum SeveralThreads: ThreadPolicy {
    @inline(__always) static var isShared: Bool { true }
}

/// Where a packet goes.
enum Destination {
    /// Below 0: not to one port.
    static let flood: Int32 = -1
    static let nowhere: Int32 = -2
    /// For a wire's other end: there is no wire, addresses say where packets go.
    static let learned: Int32 = -3
}

/// The forwarding of one thread.
final class Forwarding {
    private let table: MACTable
    /// By port number: the port at the other end of its wire, `nowhere` or `learned`. Memory of its
    /// own, so that the loop pays for no exclusivity checks.
    private let wires: UnsafeMutablePointer<Int32>
    let holdCycles: UInt64
    /// By port number, the same.
    let egresses: UnsafeMutablePointer<Egress>
    /// Numbers that ports have, or have had, are below it.
    private var portCount = 0
    /// Queues that packets may come in at, of this thread; whoever sets them keeps them.
    private var polled: QueueList
    let refs: UnsafeMutablePointer<PacketRef>
    private let finished: UnsafeMutablePointer<PacketRef>
    /// After each gathered packet: references so far, and its number in the burst.
    private let ends: UnsafeMutablePointer<Int>
    private let numbers: UnsafeMutablePointer<Int>
    private let scratch: UnsafeMutableRawPointer
    private let hash = ToeplitzHash()
    private let offload: SoftwareOffload
    /// The thread's number, and its ends of the rings to others; nil if there are none.
    let number: Int
    let links: ThreadLinks?
    let crossing: CrossingState
    /// Seconds, for ageing; the control thread moves it on while the thread is held.
    var tick: UInt32 = 0

    /// - Parameters:
    ///   - table: of all threads; it says how many ports there may be.
    ///   - holdCycles: how long a burst waits for room.
    ///   - links: the thread's ends of the rings to others; nil if it is the only one.
    init(table: MACTable, holdCycles: UInt64, links: ThreadLinks? = nil) {
        number = links?.number ?? 0
        self.links = links
        crossing = CrossingState()
        polled = QueueList()
        self.table = table
        self.holdCycles = holdCycles
        offload = SoftwareOffload()
        wires = .allocate(capacity: table.portLimit)
        egresses = .allocate(capacity: table.portLimit)
        refs = .allocate(capacity: ForwardingLimit.refs)
        finished = .allocate(capacity: ForwardingLimit.finishedRefs)
        ends = .allocate(capacity: ForwardingLimit.packets)
        numbers = .allocate(capacity: ForwardingLimit.packets)
        scratch = .allocate(byteCount: Self.headerByteCount, alignment: 64)
    }

    deinit {
        for port in 0..<portCount { egresses[port].queues.free() }
        egresses.deallocate()
        wires.deallocate()
        polled.free()
        refs.deallocate()
        finished.deallocate()
        ends.deallocate()
        numbers.deallocate()
        scratch.deallocate()
    }

    /// Bytes of a packet that are copied to find its flow: Ethernet with tags, IPv6 with
    /// extensions, ports.
    private static let headerByteCount = 192

    // MARK: What the control thread sets while the thread is held

    /// A port comes; it has no queues yet.
    /// - Parameter port: its number: one that was free, the lowest.
    func add(port: Int, counters: SwitchCounterBlock) {
        assert(port <= portCount && port < table.portLimit)
        if port == portCount {
            (egresses + port).initialize(to: Egress(queues: QueueList(), counters: counters))
            portCount += 1
        }
        assert(egresses[port].queues.count == 0)
        wires[port] = Destination.learned
    }

    /// - Parameter end: the port at the other end of a port's wire, `nowhere` or `learned`.
    func set(wire end: Int32, of port: Int) { wires[port] = end }

    /// - Parameter queues: those that are open.
    func set(queues: [SwitchQueue], of port: Int) {
        egresses[port].queues.set(queues)
        for queue in queues { queue.refusedSince = 0 }
    }

    /// The same for the queues of this thread that packets may come in at.
    func set(polled queues: [SwitchQueue]) { polled.set(queues) }

    // MARK: A poll

    /// One burst of each queue.
    func poll() -> PollResult {
        let polled = polled
        var result = PollResult()
        var isHolding = false
        var since = CycleClock.now()
        for index in 0..<polled.count {
            polled.with(index) {
                let packets = poll($0)
                if packets > 0 { since = $0.noteWork(since) }
                result.packets &+= packets
                if $0.isHolding { isHolding = true }
            }
        }
        if isHolding { polled.putHoldingFirst() }
        return result
    }

    /// The same on one thread of several, and what comes from the others.
    @inline(never)
    func pollShared() -> PollResult {
        var result = exchange()
        let polled = polled
        var isHolding = false
        var since = CycleClock.now()
        for index in 0..<polled.count {
            polled.with(index) {
                let packets = pollShared($0)
                if packets > 0 { since = $0.noteWork(since) }
                result.packets &+= packets
                if $0.isHolding { isHolding = true }
            }
        }
        if isHolding { polled.putHoldingFirst() }
        return result
    }

    /// Moves one burst on, or a new one if none is held.
    /// - Returns: packets that left it, delivered or dropped.
    func poll(_ ingress: SwitchQueue) -> Int { poll(ingress, OneThread.self) }

    /// The same on one thread of several. Packets also leave a burst when they are handed over.
    func pollShared(_ ingress: SwitchQueue) -> Int { poll(ingress, SeveralThreads.self) }

    @inline(__always)
    private func poll<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ threads: Threads.Type
    ) -> Int {
        if Threads.isShared {
            giveBack(ingress)
            if ingress.window.room < ForwardingLimit.packets && ingress.left == 0 { return 0 }
        }
        if ingress.left == 0 {
            let count = ingress.queue.receive(ingress.packets, count: ForwardingLimit.packets)
            if count == 0 { return 0 }
            assert(count <= ForwardingLimit.packets)
            ingress.count = count
            ingress.bursts.addSingleWriter(1)
            ingress.left = UInt32.max &>> UInt32(truncatingIfNeeded: 32 &- count)
            ingress.deadline = 0
            ingress.hashed = 0
            if Threads.isShared { ingress.window.begin(count) }
            if let tap = ingress.txTap { capture(burstOf: ingress, tap) }
            decide(ingress)
            if let limiter = ingress.limiter { police(ingress, limiter) }
        }
        let before = ingress.left
        deliver(ingress, threads)
        if Threads.isShared {
            ingress.window.finish(ofBurst: before ^ ingress.left)
            giveBack(ingress)
        }
        if ingress.left == 0 {
            if !Threads.isShared { ingress.queue.complete(ingress.count) }
        } else if ingress.deadline == 0 {
            ingress.deadline = CycleClock.now() &+ holdCycles
        }
        return (before ^ ingress.left).nonzeroBitCount
    }

    /// Drops what is left of a burst, and gives it back. While all threads are held.
    func abandon(_ ingress: SwitchQueue) {
        let left = ingress.left
        for index in 0..<ingress.count where left &>> UInt32(index) & 1 != 0 {
            // Only a packet that goes to one port is held.
            egresses[Int(ingress.destinations[index])].counters.add(.noRoom)
        }
        ingress.left = 0
        if links != nil {
            ingress.window.finish(ofBurst: left)
            giveBack(ingress)
        } else if left != 0 {
            ingress.queue.complete(ingress.count)
        }
    }

    /// Drops what is left of a burst for a port that goes away. While all threads are held.
    func drop(_ ingress: SwitchQueue, for port: Int) {
        let group = ingress.group(of: Int32(truncatingIfNeeded: port), ingress.left)
        if group == 0 { return }
        egresses[port].counters.add(.portClosed, group.nonzeroBitCount)
        ingress.left &= ~group
        if links != nil {
            ingress.window.finish(ofBurst: group)
            giveBack(ingress)
        } else if ingress.left == 0 {
            ingress.queue.complete(ingress.count)
        }
    }

    /// Moves on what is out of a queue, and lets nothing more in. While all threads are held.
    func moveOn(_ ingress: SwitchQueue) {
        if links == nil {
            if ingress.left != 0 { _ = poll(ingress) }
            return
        }
        if ingress.left != 0 { _ = pollShared(ingress) } else { giveBack(ingress) }
    }

    // MARK: Deciding

    private func decide(_ ingress: SwitchQueue) {
        let target = wires[ingress.port]
        if target != Destination.learned {
            for index in 0..<ingress.count { ingress.destinations[index] = target }
            ingress.isUniform = true
            if target < 0 { egresses[ingress.port].counters.add(.nowhere, ingress.count) }
            return
        }
        ingress.isUniform = true
        for index in 0..<ingress.count {
            let (destination, source) = addresses(ingress.packets + index)
            if destination == ingress.lastDestination && source == ingress.lastSource {
                ingress.destinations[index] = ingress.lastPort
                continue
            }
            let target = lookUp(destination, source, ingress)
            ingress.destinations[index] = target
            if target != ingress.destinations[0] { ingress.isUniform = false }
        }
    }

    /// Drops those packets of a burst that its port's limit leaves no place for.
    @inline(never)
    private func police(_ ingress: SwitchQueue, _ limiter: RateLimiter) {
        let now = limiter.now
        var dropped = 0
        for index in 0..<ingress.count where ingress.destinations[index] != Destination.nowhere {
            if limiter.admits(byteCount(ingress.packets + index), at: now) { continue }
            ingress.destinations[index] = Destination.nowhere
            dropped &+= 1
        }
        if dropped == 0 { return }
        ingress.isUniform = false
        egresses[ingress.port].counters.add(.rateLimited, dropped)
    }

    /// Bytes of a packet in all its segments.
    private func byteCount(_ packet: UnsafePointer<TxPacket>) -> Int {
        var byteCount = Int(packet.pointee.byteCount)
        for index in 0..<Int(packet.pointee.moreCount) {
            byteCount &+= packet.pointee.segment(index).byteCount
        }
        return byteCount
    }

    @inline(never)
    private func lookUp(
        _ destination: UInt64, _ source: UInt64, _ ingress: SwitchQueue
    ) -> Int32 {
        let counters = egresses[ingress.port].counters
        ingress.lastDestination = .max
        if EthernetAddress.isGroup(source) {
            counters.add(.groupSource)
            return Destination.nowhere
        }
        if !table.learn(source, at: ingress.port, tick: tick) { counters.add(.unlearned, 1) }
        if EthernetAddress.isReserved(destination) {
            counters.add(.reservedAddress)
            return Destination.nowhere
        }
        if EthernetAddress.isGroup(destination) { return Destination.flood }
        let port = table.port(of: destination)
        if port < 0 { return Destination.flood }
        if port == ingress.port {
            counters.add(.samePort)
            return Destination.nowhere
        }
        // Only what needs no count is remembered.
        ingress.lastDestination = destination
        ingress.lastSource = source
        ingress.lastPort = Int32(truncatingIfNeeded: port)
        return ingress.lastPort
    }

    /// Destination and source, each byte read once.
    @inline(__always)
    private func addresses(
        _ packet: UnsafePointer<TxPacket>
    ) -> (destination: UInt64, source: UInt64) {
        var bytes: (UInt64, UInt64) = (0, 0)
        if packet.pointee.byteCount >= 14 {
            let first = packet.pointee.pointer
            bytes.0 = first.loadUnaligned(as: UInt64.self)
            bytes.1 = first.loadUnaligned(fromByteOffset: 6, as: UInt64.self)
        } else {
            // A packet has 14 bytes, but a guest may cut it as it likes.
            withUnsafeMutableBytes(of: &bytes) { target in
                // SAFETY: 16 bytes of storage have an address.
                let base = target.baseAddress.unsafelyUnwrapped
                _ = copyHead(packet, to: base, limit: 14)
                let source = base.loadUnaligned(fromByteOffset: 6, as: UInt64.self)
                base.storeBytes(of: source, toByteOffset: 8, as: UInt64.self)
            }
        }
        return (
            UInt64(littleEndian: bytes.0) & EthernetAddress.mask,
            UInt64(littleEndian: bytes.1) & EthernetAddress.mask
        )
    }

    /// Copies the first bytes of a packet, at most `limit`.
    /// - Returns: how many.
    private func copyHead(
        _ packet: UnsafePointer<TxPacket>, to target: UnsafeMutableRawPointer, limit: Int
    ) -> Int {
        var done = min(limit, Int(packet.pointee.byteCount))
        target.copyMemory(from: packet.pointee.pointer, byteCount: done)
        var index = 0
        while done < limit && index < Int(packet.pointee.moreCount) {
            let segment = packet.pointee.segment(index)
            let part = min(limit &- done, segment.byteCount)
            (target + done).copyMemory(from: segment.pointer, byteCount: part)
            done &+= part
            index &+= 1
        }
        return done
    }

    // MARK: Delivering

    /// Delivers what is left of a burst, port by port.
    private func deliver<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ threads: Threads.Type
    ) {
        var waiting = ingress.left
        while waiting != 0 {
            let first = waiting.trailingZeroBitCount
            let destination = ingress.destinations[first]
            let group = ingress.isUniform ? waiting : ingress.group(of: destination, waiting)
            waiting &= ~group
            switch destination {
            case Destination.nowhere: ingress.left &= ~group
            case Destination.flood:
                flood(ingress, group, threads)
                ingress.left &= ~group
            default:
                let port = Int(destination)
                let held = send(ingress, group, to: port, waits: true, threads)
                ingress.left &= ~group | held
            }
        }
    }

    /// Sends packets to one port, and drops what has waited too long.
    /// - Parameter waits: without room they may wait.
    /// - Returns: those that wait for room.
    private func send<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ group: UInt32, to port: Int, waits: Bool,
        _ threads: Threads.Type
    ) -> UInt32 {
        let egress = egresses + port
        switch egress.pointee.queues.count {
        case 0:
            egress.pointee.counters.add(.portClosed, group.nonzeroBitCount)
            return 0
        case 1: return send(ingress, group, egress, queue: 0, waits: waits, threads)
        default: return spread(ingress, group, egress, waits: waits, threads)
        }
    }

    /// The same to a port with several queues: all packets of a flow go to the same.
    @inline(never)
    private func spread<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ group: UInt32, _ egress: UnsafeMutablePointer<Egress>,
        waits: Bool, _ threads: Threads.Type
    ) -> UInt32 {
        let queueCount = UInt32(truncatingIfNeeded: egress.pointee.queues.count)
        hashFlows(ingress, group)
        var left: UInt32 = 0
        var waiting = group
        while waiting != 0 {
            let chosen = ingress.flows[waiting.trailingZeroBitCount] % queueCount
            var part: UInt32 = 0
            var rest = waiting
            while rest != 0 {
                let index = rest.trailingZeroBitCount
                rest &= rest &- 1
                if ingress.flows[index] % queueCount == chosen { part |= 1 &<< UInt32(index) }
            }
            waiting &= ~part
            left |= send(ingress, part, egress, queue: Int(chosen), waits: waits, threads)
        }
        return left
    }

    /// Hashes the flows of packets, each once: the sender may rewrite its headers while the packet
    /// waits, and all that is decided about it is decided by one reading.
    private func hashFlows(_ ingress: SwitchQueue, _ packets: UInt32) {
        var rest = packets & ~ingress.hashed
        ingress.hashed |= packets
        while rest != 0 {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            ingress.flows[index] = flow(ingress.packets + index)
        }
    }

    /// Sends packets out of one queue of a port, by its thread.
    /// - Returns: those that wait for room.
    @inline(__always)
    private func send<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ group: UInt32, _ egress: UnsafeMutablePointer<Egress>,
        queue: Int, waits: Bool, _ threads: Threads.Type
    ) -> UInt32 {
        egress.pointee.queues.with(queue) { target in
            let left: UInt32
            if !Threads.isShared {
                left = deliver(ingress, group, egress, target)
            } else if target.thread != number {
                left = handOver(ingress, group, to: target, waits: waits)
            } else if waits && yields(ingress, to: target) {
                left = group
            } else {
                left = deliver(ingress, group, egress, target)
            }
            if left == 0 { return 0 }
            return refused(ingress, left, egress, target, waits: waits)
        }
    }

    /// Lets packets that found no room wait, or drops them, counted.
    /// - Returns: those that wait.
    @inline(never)
    private func refused(
        _ ingress: SwitchQueue, _ packets: UInt32, _ egress: UnsafeMutablePointer<Egress>,
        _ target: SwitchQueue, waits: Bool
    ) -> UInt32 {
        if waits && holdCycles > 0 {
            let now = CycleClock.now()
            var isLost = ingress.deadline != 0 && now >= ingress.deadline
            // Another thread's queue has refused nothing: the packets could not be handed over.
            if target.thread == number {
                target.noteRefusal(now)
                if target.isSlow(now, holdCycles) { isLost = true }
                let deadline = ingress.deadline == 0 ? now &+ holdCycles : ingress.deadline
                if !isLost { crossing.note(ownDeadline: deadline, target) }
            }
            if !isLost {
                if ingress.deadline == 0 {
                    egress.pointee.counters.add(.held, packets.nonzeroBitCount)
                }
                return packets
            }
        }
        egress.pointee.counters.add(.noRoom, packets.nonzeroBitCount)
        return 0
    }

    /// Sends packets to every other port, waiting for none.
    @inline(never)
    private func flood<Threads: ThreadPolicy>(
        _ ingress: SwitchQueue, _ group: UInt32, _ threads: Threads.Type
    ) {
        var targets = 0
        for port in 0..<portCount where port != ingress.port {
            if egresses[port].queues.count == 0 { continue }
            targets &+= 1
            _ = send(ingress, group, to: port, waits: false, threads)
        }
        let counters = egresses[ingress.port].counters
        if targets == 0 { return counters.add(.nowhere, group.nonzeroBitCount) }
        counters.add(.flooded, group.nonzeroBitCount)
    }

    /// The hash of a packet's flow; 0 for what is not IP. Taken over a copy of its headers.
    private func flow(_ packet: UnsafePointer<TxPacket>) -> UInt32 {
        let window = copyHead(packet, to: scratch, limit: Self.headerByteCount)
        // Of the whole frame, or the copy would look like one that was cut short, has no ports, and
        // all flows between two addresses would meet in one queue.
        let byteCount = byteCount(packet)
        return hash.hash(frame: scratch, windowByteCount: window, byteCount: byteCount)?.value ?? 0
    }

    /// Sends packets of a burst out of a queue of this thread, but for those too long for it.
    private func deliver(
        _ ingress: SwitchQueue, _ group: UInt32, _ egress: UnsafeMutablePointer<Egress>,
        _ target: SwitchQueue
    ) -> UInt32 {
        let group =
            target.frameLimit == .max
            ? group : fitting(ingress.packets, group, egress, target.frameLimit)
        return transmit(ingress.packets, group, egress, target)
    }

    /// Sends those of `packets` that are in `group` out of a queue of this thread; none is too long
    /// for it.
    /// - Returns: those for which there was no room: none, or the last ones.
    func transmit(
        _ packets: UnsafeMutablePointer<TxPacket>, _ group: UInt32,
        _ egress: UnsafeMutablePointer<Egress>, _ target: SwitchQueue
    ) -> UInt32 {
        let offloads = target.offloads
        var refCount = 0
        var packetCount = 0
        var left: UInt32 = 0
        var rest = group
        while rest != 0 {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            let packet = packets + index
            if !Offload.isTaken(packet, by: offloads) {
                // What is gathered goes first: order.
                left |= flush(target, egress, packetCount, refCount)
                (packetCount, refCount) = (0, 0)
                if left != 0 || !finish(packet, target, egress, offloads) {
                    left |= 1 &<< UInt32(index) | rest
                    return left
                }
                continue
            }
            refCount &+= gather(packet, refs + refCount)
            ends[packetCount] = refCount
            numbers[packetCount] = index
            packetCount &+= 1
        }
        return left | flush(target, egress, packetCount, refCount)
    }

    /// Sends what is gathered.
    /// - Returns: packets for which there was no room.
    @inline(__always)
    private func flush(
        _ target: SwitchQueue, _ egress: UnsafeMutablePointer<Egress>, _ packetCount: Int,
        _ refCount: Int
    ) -> UInt32 {
        if packetCount == 0 { return 0 }
        let consumed = target.queue.transmit(refs, count: refCount)
        if let tap = target.rxTap { capture(refs, count: consumed, tap) }
        if consumed > 0 { target.refusedSince = 0 }
        if consumed == refCount { return 0 }
        var left: UInt32 = 0
        for index in 0..<packetCount where ends[index] > consumed {
            left |= 1 &<< UInt32(truncatingIfNeeded: numbers[index])
        }
        return left
    }

    // MARK: The receiver's MTU

    /// Those of `group` that are no longer than the receiver's MTU; drops the others, counted.
    @inline(never)
    private func fitting(
        _ packets: UnsafeMutablePointer<TxPacket>, _ group: UInt32,
        _ egress: UnsafeMutablePointer<Egress>, _ limit: Int
    ) -> UInt32 {
        var fitting = group
        var rest = group
        while rest != 0 {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            let packet = packets + index
            if packet.pointee.moreCount == 0 && Int(packet.pointee.byteCount) <= limit { continue }
            if exceeds(packet, limit) { fitting &= ~(1 &<< UInt32(index)) }
        }
        if fitting != group {
            egress.pointee.counters.add(.exceedsMTU, (group ^ fitting).nonzeroBitCount)
        }
        return fitting
    }

    /// Whether a packet that is not to be segmented is longer than `limit` and its tags.
    func exceeds(_ packet: UnsafePointer<TxPacket>, _ limit: Int) -> Bool {
        if packet.pointee.gsoType & ~SegmentationType.ecn != SegmentationType.none { return false }
        let byteCount = byteCount(packet)
        return byteCount > limit && byteCount > limit &+ tagBytes(packet)
    }

    /// Bytes of a packet's VLAN tags, two at most (802.1Q, 802.1ad).
    private func tagBytes(_ packet: UnsafePointer<TxPacket>) -> Int {
        guard copyHead(packet, to: scratch, limit: 18) == 18 else { return 0 }
        var byteCount = 0
        for offset in [12, 16] {
            let type = UInt16(
                bigEndian: scratch.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            if type != 0x8100 && type != 0x88a8 { break }
            byteCount &+= 4
        }
        return byteCount
    }

    /// Whether each of the packets in `finished` is no longer than `limit`.
    private func isEachFinished(_ count: Int, within limit: Int) -> Bool {
        var byteCount = 0
        for index in 0..<count {
            // A context has no bytes of the packet.
            if !finished[index].flags.contains(.context) {
                byteCount &+= Int(finished[index].byteCount)
            }
            if finished[index].flags.contains(.more) { continue }
            if byteCount > limit { return false }
            byteCount = 0
        }
        return true
    }

    /// References to a packet, with its offloads in front if it has any.
    @inline(__always)
    func gather(
        _ packet: UnsafePointer<TxPacket>, _ target: UnsafeMutablePointer<PacketRef>
    ) -> Int {
        if UInt16(packet.pointee.netFlags) | UInt16(packet.pointee.gsoType)
            | packet.pointee.moreCount == 0
        {
            target.pointee = PacketRef(
                address: packet.pointee.address, byteCount: packet.pointee.byteCount)
            return 1
        }
        return gatherRun(packet, target)
    }

    @inline(never)
    private func gatherRun(
        _ packet: UnsafePointer<TxPacket>, _ target: UnsafeMutablePointer<PacketRef>
    ) -> Int {
        var count = 0
        if packet.pointee.netFlags | packet.pointee.gsoType != 0 {
            target[0] = PacketRef(context: Offload.of(packet))
            count = 1
        }
        let moreCount = Int(packet.pointee.moreCount)
        target[count] = PacketRef(
            address: packet.pointee.address, byteCount: packet.pointee.byteCount,
            flags: moreCount > 0 ? .more : [])
        count &+= 1
        for index in 0..<moreCount {
            let segment = packet.pointee.segment(index)
            target[count] = PacketRef(
                segment.pointer, byteCount: segment.byteCount,
                flags: index &+ 1 < moreCount ? .more : [])
            count &+= 1
        }
        return count
    }

    /// Makes a packet's checksum or segments for a far side that takes it finished only, and sends
    /// them; or drops it, counted.
    /// - Returns: false if there is no room, not even for the first of them.
    @inline(never)
    private func finish(
        _ packet: UnsafePointer<TxPacket>, _ target: SwitchQueue,
        _ egress: UnsafeMutablePointer<Egress>, _ offloads: VirtioFeatures
    ) -> Bool {
        let count = gatherRun(packet, refs)
        switch offload.finish(
            refs, count: count, for: offloads, into: finished,
            capacity: ForwardingLimit.finishedRefs)
        {
        case .refused(let reason):
            switch reason {
            case .badOffload, .badHeaders: egress.pointee.counters.add(.unfinishable)
            case .tooLong, .noRoom: egress.pointee.counters.add(.tooManySegments)
            }
            return true
        case .finished(let finishedCount):
            if target.frameLimit != .max
                && !isEachFinished(finishedCount, within: target.frameLimit &+ tagBytes(packet))
            {
                egress.pointee.counters.add(.exceedsMTU)
                return true
            }
            let consumed = target.queue.transmit(finished, count: finishedCount)
            if let tap = target.rxTap { capture(finished, count: consumed, tap) }
            if consumed == 0 { return false }
            target.refusedSince = 0
            egress.pointee.counters.add(.finished, 1)
            // The rest of a packet that is half out cannot wait: later ones would overtake it.
            if consumed < finishedCount { egress.pointee.counters.add(.noRoom) }
            return true
        }
    }
}

/// Offloads of a packet that came in.
enum Offload {
    static func of(_ packet: UnsafePointer<TxPacket>) -> PacketOffloads {
        PacketOffloads(
            flags: packet.pointee.netFlags, gsoType: packet.pointee.gsoType,
            gsoSize: packet.pointee.gsoSize, csumStart: packet.pointee.csumStart,
            csumOffset: packet.pointee.csumOffset)
    }

    /// Whether a far side that negotiated `features` takes the packet as it is.
    @inline(__always)
    static func isTaken(
        _ packet: UnsafePointer<TxPacket>, by features: VirtioFeatures
    ) -> Bool {
        if packet.pointee.netFlags | packet.pointee.gsoType == 0 { return true }
        return features.isSuperset(of: needs(packet))
    }

    @inline(never)
    private static func needs(_ packet: UnsafePointer<TxPacket>) -> VirtioFeatures {
        var needs: VirtioFeatures = .guestChecksum
        switch packet.pointee.gsoType & ~SegmentationType.ecn {
        case SegmentationType.tcp4: needs.insert(.guestTSO4)
        case SegmentationType.tcp6: needs.insert(.guestTSO6)
        case SegmentationType.udpFragments: needs.insert(.guestUFO)
        // The type does not say which IP it is.
        case SegmentationType.udpDatagrams: needs.insert([.guestUSO4, .guestUSO6])
        default: break
        }
        if packet.pointee.gsoType & SegmentationType.ecn != 0 { needs.insert(.guestECN) }
        return needs
    }
}
