// What a thread of several does beside its own queues: packets to queues of other threads are
// handed over, and packets from other threads are placed.
//
//   hand over   a packet's description goes to the thread that its receiver belongs to
//   arrive      that thread places it straight from the sender's buffers, as it would its own
//   wait        without room it waits in a list of its receiver's, so that others do not: at most
//               `ForwardingLimit.waiting` packets, each until its deadline
//   collect     placed or dropped, it comes back; its window gives it to the sender in order
//
// Order: packets of one flow come in at one queue and go out of one, so they take one ring and one
// list, and neither lets a later packet pass.
//
// What bounds a hold: a packet's deadline is `holdCycles` after its burst first had to wait, or
// after it was handed over, and its receiver's thread drops it then. A packet of a flood never
// waits. Thus no receiver keeps a sender's buffer longer than that, and what its thread is behind.

import CleaveHost
import CleavePorts
import CleaveRings
import CleaveVirtioNet

/// What a thread needs for packets of other threads. Memory, and constants of a final class.
final class CrossingState {
    /// All queues of the switch by number; the switch keeps them.
    var all: QueueList
    /// Numbers of this thread's queues that packets wait for.
    fileprivate let waited: UnsafeMutablePointer<Int>
    fileprivate(set) var waitedCount = 0
    fileprivate let handoffs: UnsafeMutablePointer<Handoff>
    fileprivate let staged: UnsafeMutablePointer<TxPacket>
    fileprivate let tickets: UnsafeMutablePointer<UInt64>
    /// Hand-offs that wait here, by the thread that they came from.
    fileprivate let waitingFrom: UnsafeMutablePointer<Int>

    init(queueLimit: Int) {
        all = QueueList(capacity: queueLimit)
        waited = .allocate(capacity: max(1, queueLimit))
        handoffs = .allocate(capacity: ForwardingLimit.packets)
        staged = .allocate(capacity: ForwardingLimit.packets)
        tickets = .allocate(capacity: ForwardingLimit.packets)
        waitingFrom = .allocate(capacity: ThreadMesh.threadLimit)
        waitingFrom.initialize(repeating: 0, count: ThreadMesh.threadLimit)
    }

    deinit {
        all.free()
        waited.deallocate()
        handoffs.deallocate()
        staged.deallocate()
        tickets.deallocate()
        waitingFrom.deallocate()
    }

    /// The first `count` of those that wait for `target` do so no longer.
    fileprivate func endWait(_ count: Int, _ target: SwitchQueue) {
        for index in 0..<count {
            let source = Int(target.waiting[index].source)
            assert(waitingFrom[source] > 0)
            waitingFrom[source] &-= 1
        }
        target.waiting.removeFirst(count)
    }
}

extension Forwarding {
    /// Whether packets of other threads wait for room here.
    var isWaiting: Bool { crossing.waitedCount > 0 }

    /// Takes back what others have finished, and places what they handed over.
    /// - Returns: packets of others that were placed or dropped here, or began to wait.
    func exchange() -> Int {
        collect()
        return arrive()
    }

    // MARK: The sender's side

    /// Hands packets to the thread of their receiver.
    /// - Returns: those for which there is no room.
    @inline(never)
    func handOver(
        _ ingress: SwitchQueue, _ group: UInt32, to target: SwitchQueue, waits: Bool
    ) -> UInt32 {
        guard let links else { return group }
        let peer = links.peer(of: target.thread)
        let count = min(ThreadMesh.capacity &- peer.pointee.outCount, group.nonzeroBitCount)
        if count == 0 { return group }
        var deadline: UInt64 = 0
        if waits {
            deadline =
                ingress.deadline != 0 ? ingress.deadline : CycleClock.now() &+ holdCycles
        }
        // What is out is at most the ring's capacity, and only what is out lies in it.
        let room = peer.pointee.outgoing.reserve(count)
        assert(room == count)
        var rest = group
        for offset in 0..<room {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            peer.pointee.outgoing[offset] = Handoff(
                packet: ingress.packets[index], deadline: deadline,
                ingress: UInt32(truncatingIfNeeded: ingress.number),
                position: ingress.window.hold(index),
                target: UInt32(truncatingIfNeeded: target.number),
                source: UInt32(truncatingIfNeeded: number))
        }
        peer.pointee.outgoing.commit(room)
        peer.pointee.outCount &+= room
        peer.pointee.hasNews = true
        return rest
    }

    /// Takes back the positions of packets that other threads have placed or dropped.
    func collect() {
        guard let links else { return }
        for index in 0..<links.peerCount {
            let peer = links.peers + index
            // Bounded: no more come than are out.
            while peer.pointee.outCount > 0 {
                let count = peer.pointee.returned.pop(
                    into: crossing.tickets, count: ForwardingLimit.packets)
                for ticket in UnsafeBufferPointer(start: crossing.tickets, count: count) {
                    crossing.all.with(Int(truncatingIfNeeded: ticket &>> 32)) { ingress in
                        ingress.window.finish(position: UInt32(truncatingIfNeeded: ticket))
                    }
                }
                peer.pointee.outCount &-= count
                if count < ForwardingLimit.packets { break }
            }
        }
    }

    /// Gives a queue those packets back that came in first and are finished.
    @inline(__always)
    func giveBack(_ ingress: SwitchQueue) {
        let count = ingress.window.take()
        if count > 0 { ingress.queue.complete(count) }
    }

    // MARK: The receiver's side

    /// Places what waits and what was handed over, one burst of each thread.
    func arrive() -> Int {
        guard let links else { return 0 }
        var moved = retry()
        for index in 0..<links.peerCount {
            let count = links.peers[index].incoming.pop(
                into: crossing.handoffs, count: ForwardingLimit.packets)
            var first = 0
            while first < count {
                let target = crossing.handoffs[first].target
                var end = first &+ 1
                while end < count && crossing.handoffs[end].target == target { end &+= 1 }
                crossing.all.with(Int(target)) {
                    place(crossing.handoffs + first, end &- first, $0)
                }
                first = end
            }
            moved &+= count
        }
        return moved
    }

    /// Places packets that go out of one queue; those without room wait, or are dropped.
    private func place(
        _ handoffs: UnsafeMutablePointer<Handoff>, _ count: Int, _ target: SwitchQueue
    ) {
        assert(target.thread == number)
        let egress = egresses + target.port
        let count =
            target.frameLimit == .max ? count : dropLong(handoffs, count, target.frameLimit, egress)
        // Behind those that wait already: order.
        let done = target.waiting.count > 0 || count == 0 ? 0 : send(handoffs, count, target)
        for index in done..<count {
            let handoff = handoffs[index]
            if handoff.deadline == 0 || holdCycles == 0 || egress.pointee.isSlow
                || target.waiting.isFull
                // Slow receivers leave half of a sender's credit to all others.
                || crossing.waitingFrom[Int(handoff.source)] >= ThreadMesh.capacity / 2
            {
                drop(handoffs + index, .noRoom, egress)
                continue
            }
            if target.waiting.count == 0 {
                crossing.waited[crossing.waitedCount] = target.number
                crossing.waitedCount &+= 1
            }
            egress.pointee.counters.add(.held, 1)
            crossing.waitingFrom[Int(handoff.source)] &+= 1
            target.waiting.append(handoff)
        }
    }

    /// Drops those that are longer than their receiver's MTU.
    /// - Returns: how many are left, moved together.
    @inline(never)
    private func dropLong(
        _ handoffs: UnsafeMutablePointer<Handoff>, _ count: Int, _ limit: Int,
        _ egress: UnsafeMutablePointer<Egress>
    ) -> Int {
        var kept = 0
        for index in 0..<count {
            let isTooLong = withUnsafePointer(to: handoffs[index].packet) { exceeds($0, limit) }
            if isTooLong {
                drop(handoffs + index, .exceedsMTU, egress)
            } else {
                handoffs[kept] = handoffs[index]
                kept &+= 1
            }
        }
        return kept
    }

    /// Sends packets out of a queue of this thread, in order.
    /// - Returns: how many were sent, or dropped and counted.
    private func send(
        _ handoffs: UnsafeMutablePointer<Handoff>, _ count: Int, _ target: SwitchQueue
    ) -> Int {
        for index in 0..<count {
            (crossing.staged + index).initialize(to: handoffs[index].packet)
        }
        let egress = egresses + target.port
        let group = UInt32.max &>> UInt32(truncatingIfNeeded: 32 &- count)
        let left = transmit(crossing.staged, group, egress, target)
        let done = left == 0 ? count : left.trailingZeroBitCount
        assert(left == group & (UInt32.max &<< UInt32(truncatingIfNeeded: done)) || left == 0)
        if done > 0 {
            egress.pointee.isSlow = false
            sendBack(handoffs, done)
        }
        return done
    }

    /// Tries again what waits.
    /// - Returns: packets that wait no longer.
    private func retry() -> Int {
        var moved = 0
        var kept = 0
        for index in 0..<crossing.waitedCount {
            let number = crossing.waited[index]
            let isDone = crossing.all.with(number) { target in
                moved &+= retry(target)
                return target.waiting.count == 0
            }
            if !isDone {
                crossing.waited[kept] = number
                kept &+= 1
            }
        }
        crossing.waitedCount = kept
        return moved
    }

    private func retry(_ target: SwitchQueue) -> Int {
        let egress = egresses + target.port
        var moved = 0
        while target.waiting.count > 0 {
            let count = min(target.waiting.count, ForwardingLimit.packets)
            for index in 0..<count { crossing.handoffs[index] = target.waiting[index] }
            let done = send(crossing.handoffs, count, target)
            crossing.endWait(done, target)
            moved &+= done
            if done < count { break }
        }
        if target.waiting.count == 0 { return moved }
        let now = CycleClock.now()
        // Nothing was taken for the length of a hold: later ones do not wait at all.
        if now >= target.waiting[0].deadline && moved == 0 { egress.pointee.isSlow = true }
        while target.waiting.count > 0
            && (egress.pointee.isSlow || now >= target.waiting[0].deadline)
        {
            crossing.handoffs[0] = target.waiting[0]
            drop(crossing.handoffs, .noRoom, egress)
            crossing.endWait(1, target)
            moved &+= 1
        }
        return moved
    }

    private func drop(
        _ handoff: UnsafeMutablePointer<Handoff>, _ reason: SwitchDropReason,
        _ egress: UnsafeMutablePointer<Egress>
    ) {
        egress.pointee.counters.add(reason)
        sendBack(handoff, 1)
    }

    /// Tells the threads that packets came from that they are placed or dropped.
    private func sendBack(_ handoffs: UnsafeMutablePointer<Handoff>, _ count: Int) {
        guard let links else { return }
        var first = 0
        while first < count {
            let source = handoffs[first].source
            var end = first
            while end < count && handoffs[end].source == source {
                crossing.tickets[end &- first] = handoffs[end].ticket
                end &+= 1
            }
            let peer = links.peer(of: Int(source))
            // As many as are out fit.
            let taken = peer.pointee.finished.push(crossing.tickets, count: end &- first)
            assert(taken == end &- first)
            peer.pointee.hasNews = true
            first = end
        }
    }

    // MARK: While all threads are held

    /// Places what is in the rings to this thread; what has no room waits.
    func settle() {
        // Bounded: nobody hands anything over meanwhile.
        while arrive() > 0 {}
    }

    /// Drops what waits here and is in the memory of `port`, or was for a queue that is closed.
    func dropWaiting(from port: Int?) {
        for index in 0..<crossing.waitedCount {
            crossing.all.with(crossing.waited[index]) { target in
                let isOpen = target.queue.isOpen
                for _ in 0..<target.waiting.count {
                    let handoff = target.waiting[0]
                    target.waiting.removeFirst(1)
                    let isOurs = crossing.all.with(Int(handoff.ingress)) { $0.port == port }
                    if isOpen && !isOurs {
                        target.waiting.append(handoff)
                        continue
                    }
                    crossing.waitingFrom[Int(handoff.source)] &-= 1
                    crossing.handoffs[0] = handoff
                    drop(crossing.handoffs, isOpen ? .noRoom : .portClosed, egresses + target.port)
                }
            }
        }
        // Those without a packet leave the list at the next poll.
    }
}
