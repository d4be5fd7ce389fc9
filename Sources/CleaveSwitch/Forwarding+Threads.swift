// What a thread of several does beside its own queues: packets to queues of other threads are
// handed over, and packets from other threads are placed.
//
//   hand over   a packet's description goes to the thread that its receiver belongs to
//   arrive      that thread places it straight from the sender's buffers, as it would its own
//   wait        without room it waits in a list of its receiver's, so that others do not: at most
//               `ForwardingLimit.waiting` packets of each thread, each until its deadline
//   collect     placed or dropped, it comes back; its window gives it to the sender in order
//
// Order: packets of one flow come in at one queue and go out of one, so they take one ring and one
// list, and neither lets a later packet pass.
//
// Fairness: room goes to what has waited longest, whether that came from another thread or waits at
// a queue of this one.
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
    fileprivate var waited: UnsafeMutablePointer<Int>
    private var waitedLimit = 1
    fileprivate(set) var waitedCount = 0
    fileprivate let handoffs: UnsafeMutablePointer<Handoff>
    fileprivate let staged: UnsafeMutablePointer<TxPacket>
    fileprivate let tickets: UnsafeMutablePointer<UInt64>
    fileprivate var pollNumber: UInt32 = 1

    init() {
        all = QueueList()
        waited = .allocate(capacity: waitedLimit)
        handoffs = .allocate(capacity: ForwardingLimit.packets)
        staged = .allocate(capacity: ForwardingLimit.packets)
        tickets = .allocate(capacity: ForwardingLimit.packets)
    }

    deinit {
        all.free()
        waited.deallocate()
        handoffs.deallocate()
        staged.deallocate()
        tickets.deallocate()
    }

    /// A queue of the switch comes, or takes the place of another one. While all threads are held.
    func place(_ queue: SwitchQueue) {
        all.place(queue)
        if all.count <= waitedLimit { return }
        waitedLimit = 2 * all.count
        let room = UnsafeMutablePointer<Int>.allocate(capacity: waitedLimit)
        room.initialize(from: waited, count: waitedCount)
        waited.deallocate()
        waited = room
    }

    /// A burst of this thread waits for a queue of this thread.
    func note(ownDeadline deadline: UInt64, _ target: SwitchQueue) {
        if target.ownPoll != pollNumber || deadline < target.ownDeadline {
            target.ownDeadline = deadline
        }
        target.ownPoll = pollNumber
    }

    /// Whether a burst of this thread waits for `target` that is older than a packet with that
    /// deadline. It found no room in the last poll, and tries again in this one.
    fileprivate func isOwnOlder(_ target: SwitchQueue, than deadline: UInt64) -> Bool {
        target.ownPoll == pollNumber &- 1 && target.ownDeadline < deadline
    }
}

/// What a thread's poll came to.
struct PollResult {
    /// Packets that were delivered or dropped; with several threads also those that were handed
    /// over, which count again where they arrive.
    var packets = 0
    /// Packets of other threads that began to wait for room. They count when they are placed or
    /// dropped.
    var waiting = 0

    var isEmpty: Bool { packets | waiting == 0 }
}

extension Forwarding {
    /// Whether a burst is to wait although its receiver, of this thread, was not asked for room:
    /// packets of other threads have waited longer.
    @inline(__always)
    func yields(_ ingress: SwitchQueue, to target: SwitchQueue) -> Bool {
        if target.waiting.count == 0 { return false }
        return ingress.deadline == 0 || target.waiting[0].deadline < ingress.deadline
    }

    /// Whether packets of other threads wait for room here.
    var isWaiting: Bool { crossing.waitedCount > 0 }

    /// Takes back what others have finished, and places what they handed over.
    func exchange() -> PollResult {
        crossing.pollNumber &+= 1
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
        let count = min(peer.pointee.credit &- peer.pointee.outCount, group.nonzeroBitCount)
        let room = peer.pointee.outgoing.reserve(count)
        if room == 0 { return group }
        var deadline: UInt64 = 0
        if waits {
            deadline =
                ingress.deadline != 0 ? ingress.deadline : CycleClock.now() &+ holdCycles
        }
        var rest = group
        for offset in 0..<room {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            peer.pointee.outgoing[offset] = Handoff(
                packet: ingress.packets[index], deadline: deadline,
                ingress: UInt32(truncatingIfNeeded: ingress.number),
                position: ingress.window.hold(index),
                target: UInt32(truncatingIfNeeded: target.number),
                source: UInt16(truncatingIfNeeded: number), wasHeld: ingress.deadline != 0)
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
    func arrive() -> PollResult {
        guard let links else { return PollResult() }
        var result = PollResult(packets: retry())
        for index in 0..<links.peerCount {
            let count = links.peers[index].incoming.pop(
                into: crossing.handoffs, count: ForwardingLimit.packets)
            var first = 0
            while first < count {
                let target = crossing.handoffs[first].target
                var end = first &+ 1
                while end < count && crossing.handoffs[end].target == target { end &+= 1 }
                let waiting = crossing.all.with(Int(target)) {
                    place(crossing.handoffs + first, end &- first, $0)
                }
                result.waiting &+= waiting
                result.packets &+= end &- first &- waiting
                first = end
            }
        }
        return result
    }

    /// Places packets that go out of one queue; those without room wait, or are dropped.
    /// - Returns: those that began to wait.
    private func place(
        _ handoffs: UnsafeMutablePointer<Handoff>, _ count: Int, _ target: SwitchQueue
    ) -> Int {
        assert(target.thread == number)
        let egress = egresses + target.port
        let count =
            target.frameLimit == .max ? count : dropLong(handoffs, count, target.frameLimit, egress)
        if count == 0 { return 0 }
        // After those that wait already: order.
        let isNext =
            target.waiting.count == 0
            && !crossing.isOwnOlder(target, than: handoffs[0].deadline)
        let done = isNext ? send(handoffs, count, target) : 0
        if done == count { return 0 }
        let now = CycleClock.now()
        let isSlow = target.isSlow(now, holdCycles)
        var waiting = 0
        for index in done..<count {
            let handoff = handoffs[index]
            // One without a deadline waits for nothing.
            if now >= handoff.deadline || isSlow {
                drop(handoffs + index, .noRoom, egress)
                continue
            }
            if target.waiting.isFull(of: handoff.source) {
                drop(handoffs + index, .waitingFull, egress)
                continue
            }
            target.noteRefusal(now)
            if target.waiting.count == 0 {
                crossing.waited[crossing.waitedCount] = target.number
                crossing.waitedCount &+= 1
            }
            if !handoff.wasHeld { egress.pointee.counters.add(.held, 1) }
            target.waiting.append(handoff)
            waiting &+= 1
        }
        return waiting
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
        if done > 0 { sendBack(handoffs, done) }
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
        while target.waiting.count > 0
            && !crossing.isOwnOlder(target, than: target.waiting[0].deadline)
        {
            let count = min(target.waiting.count, ForwardingLimit.packets)
            for index in 0..<count { crossing.handoffs[index] = target.waiting[index] }
            let done = send(crossing.handoffs, count, target)
            target.waiting.removeFirst(done)
            moved &+= done
            if done < count { break }
        }
        if target.waiting.count == 0 { return moved }
        let now = CycleClock.now()
        target.noteRefusal(now)
        let isSlow = target.isSlow(now, holdCycles)
        while target.waiting.count > 0 && (isSlow || now >= target.waiting[0].deadline) {
            crossing.handoffs[0] = target.waiting[0]
            drop(crossing.handoffs, .noRoom, egress)
            target.waiting.removeFirst(1)
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
        // Bursts of this thread do not try meanwhile: nothing waits for them to be first.
        crossing.pollNumber &+= 1
        // Bounded: nobody hands anything over meanwhile.
        while !arrive().isEmpty {}
    }

    /// What is on its way to or from a port or a queue that goes away.
    struct Departure {
        /// Packets that came in at this port, in whose memory they are.
        var fromPort: Int?
        /// Packets that go out of this port.
        var toPort: Int?
        /// Packets that came in at, or go out of, the queue with this number.
        var queue: Int?
    }

    /// Drops what waits here and is of `departure`, or may not go out of its queue any more: that
    /// is closed, or its far side has agreed on a lower MTU since.
    func dropWaiting(_ departure: Departure = Departure()) {
        var kept = 0
        for index in 0..<crossing.waitedCount {
            crossing.all.with(crossing.waited[index]) { target in
                let egress = egresses + target.port
                for _ in 0..<target.waiting.count {
                    let handoff = target.waiting[0]
                    target.waiting.removeFirst(1)
                    guard let reason = refusal(of: handoff, target, departure) else {
                        target.waiting.append(handoff)
                        continue
                    }
                    crossing.handoffs[0] = handoff
                    drop(crossing.handoffs, reason, egress)
                }
                // A queue for which nothing waits may go.
                if target.waiting.count > 0 {
                    crossing.waited[kept] = target.number
                    kept &+= 1
                }
            }
        }
        crossing.waitedCount = kept
    }

    /// - Returns: why a packet waits for `target` no longer; nil if it does.
    private func refusal(
        of handoff: Handoff, _ target: SwitchQueue, _ departure: Departure
    ) -> SwitchDropReason? {
        if !target.queue.isOpen || target.port == departure.toPort { return .portClosed }
        let isLeaving = crossing.all.with(Int(handoff.ingress)) {
            $0.port == departure.fromPort || $0.number == departure.queue
        }
        if isLeaving || target.number == departure.queue { return .noRoom }
        if target.frameLimit == .max { return nil }
        let isTooLong = withUnsafePointer(to: handoff.packet) { exceeds($0, target.frameLimit) }
        return isTooLong ? .exceedsMTU : nil
    }
}
