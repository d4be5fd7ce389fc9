// How the threads of a switch hand packets to each other. A receiver's queue belongs to one thread,
// which alone places into it; a packet that came in on another thread gets there by a ring.
//
//   sender's thread                                       receiver's thread
//   hand over     --[R1]-->  ring of hand-offs  --[R1]-->  place, from the sender's buffers
//   window        <--[R1]--  ring of positions  <--[R1]--  placed, or dropped and counted
//
// There are two rings for each ordered pair of threads. A sender counts what it has handed over and
// not got back, at most as many as the ring of positions holds: so that is never full, and a
// receiver's thread never waits. It holds more than the ring of hand-offs, by what may wait for
// receivers (`ForwardingLimit.waiting` for each): those that wait take no other's place. The packet
// itself stays where it lies; the ring describes it.
//
// A thread that sleeps: after a poll in which it put something into a ring, a thread rings a bell,
// then looks whether the other one is asleep. That one says that it is, then looks at its bells.
// [E4] orders the two, so at least one of them sees the other's word.

import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// A packet that its sender's thread hands to the thread of its receiver: 64 bytes.
struct Handoff: BitwiseCopyable {
    let packet: TxPacket
    /// When it is dropped if there is no room, in cycles; 0: at once.
    let deadline: UInt64
    /// Number of the queue that it came in at, and its position in that queue's window.
    let ingress: UInt32
    let position: UInt32
    /// Number of the queue that it goes out of.
    let target: UInt32
    /// The thread that it comes from.
    let source: UInt16
    /// It has waited there, and is counted as held.
    let wasHeld: Bool

    /// What goes back when it is placed or dropped.
    var ticket: UInt64 { UInt64(ingress) &<< 32 | UInt64(position) }
}

/// Hand-offs to one queue that wait for room, oldest first. One thread at a time.
struct WaitingList {
    // SAFETY: memory that `init` allocates and `free` gives back; every index is masked.
    private let base: UnsafeMutablePointer<Handoff>
    /// How many of each thread wait.
    private let counts: UnsafeMutablePointer<Int>
    private let limit: Int
    private let mask: Int
    private var first = 0
    private(set) var count = 0

    /// - Parameters:
    ///   - limit: how many hand-offs of one thread may wait.
    ///   - threadCount: of the switch; one of them is the receiver's.
    init(limit: Int, threadCount: Int) {
        let capacity = ThreadMesh.roundedUp(limit * max(1, threadCount - 1))
        base = .allocate(capacity: capacity)
        mask = capacity - 1
        self.limit = limit
        counts = .allocate(capacity: threadCount)
        counts.initialize(repeating: 0, count: threadCount)
    }

    func free() {
        base.deallocate()
        counts.deallocate()
    }

    /// Whether no more of a thread may wait.
    func isFull(of source: UInt16) -> Bool { counts[Int(source)] >= limit }

    subscript(offset: Int) -> Handoff { base[(first &+ offset) & mask] }

    mutating func append(_ handoff: Handoff) {
        assert(!isFull(of: handoff.source) && count <= mask)
        counts[Int(handoff.source)] &+= 1
        (base + ((first &+ count) & mask)).initialize(to: handoff)
        count &+= 1
    }

    mutating func removeFirst(_ removed: Int) {
        assert(removed <= count)
        for offset in 0..<removed {
            let source = Int(self[offset].source)
            assert(counts[source] > 0)
            counts[source] &-= 1
        }
        first = (first &+ removed) & mask
        count &-= removed
    }
}

/// What wakes one thread.
final class ThreadWaker: Sendable {
    // SAFETY: the word is in the mesh's memory, which outlives the threads.
    let event: EventDescriptor
    /// 1 while the thread sleeps, or is about to.
    let asleep: SharedWord32

    init(asleep: UnsafeMutableRawPointer) throws(HostError) {
        event = try EventDescriptor()
        self.asleep = SharedWord32(asleep)
    }
}

/// The rings between all threads of a switch, and what wakes them.
final class ThreadMesh {
    /// Hand-offs that one thread has not taken from another yet.
    static let capacity = 512
    /// Most packets that one thread has handed to another and not got back. As many as may wait for
    /// all receivers of a thread, up to 120 of them.
    static let ticketLimit = 8192
    /// Most threads.
    static let threadLimit = 32

    let threadCount: Int
    let wakers: [ThreadWaker]
    private let arena: MemoryArena
    /// By pair: the memory of a ring that took the place of one that was too small.
    private var grown: [Int: MemoryArena] = [:]
    private var handoffs: [SPSCRing<Handoff>] = []
    private var tickets: [SPSCRing<UInt64>] = []
    private var bells: [UnsafeMutableRawPointer] = []

    /// - Parameter queueCounts: for each thread how many queues are its.
    init(queueCounts: [Int]) throws(SetupError) {
        let threadCount = queueCounts.count
        assert((1...Self.threadLimit).contains(threadCount))
        self.threadCount = threadCount
        let handoffBytes = SPSCRing<Handoff>.byteCount(capacity: Self.capacity)
        let line = CacheLine.byteCount
        // Pair by pair: what goes back from the other one's queues.
        let ticketCapacities = (0..<threadCount).flatMap { one in
            (0..<threadCount).filter { $0 != one }.map { Self.ticketCapacity(queueCounts[$0]) }
        }
        let pairCount = ticketCapacities.count
        let ticketBytes = ticketCapacities.map { SPSCRing<UInt64>.byteCount(capacity: $0) }
        do throws(HostError) {
            let arena = try MemoryArena(
                byteCount: line * (threadCount + 1)
                    + pairCount * (handoffBytes + line) + ticketBytes.reduce(0, +),
                pages: .small, name: "switch threads")
            var wakers: [ThreadWaker] = []
            for _ in 0..<threadCount {
                wakers.append(
                    try ThreadWaker(asleep: try arena.allocate(byteCount: line, alignment: line)))
            }
            self.wakers = wakers
            for pair in 0..<pairCount {
                handoffs.append(
                    SPSCRing(
                        memory: try arena.allocate(byteCount: handoffBytes, alignment: line),
                        capacity: Self.capacity))
                tickets.append(
                    SPSCRing(
                        memory: try arena.allocate(byteCount: ticketBytes[pair], alignment: line),
                        capacity: ticketCapacities[pair]))
                bells.append(try arena.allocate(byteCount: line, alignment: line))
            }
            self.arena = arena
        } catch { throw SetupError("switch threads: ", error) }
    }

    /// The least power of two that is no less than `count`.
    static func roundedUp(_ count: Int) -> Int {
        var capacity = 1
        while capacity < count { capacity *= 2 }
        return capacity
    }

    /// Gives rings of positions the room that more queues need. While all threads are held, and
    /// have taken what is in those rings.
    /// - Parameters:
    ///   - links: the ends of all threads, by their numbers.
    ///   - queueCounts: for each thread how many queues are its now.
    func grow(_ links: [ThreadLinks], queueCounts: [Int]) throws(SetupError) {
        for thread in 0..<threadCount {
            for other in 0..<threadCount where other != thread {
                let pair = pair(thread, other)
                let capacity = Self.ticketCapacity(queueCounts[other])
                if capacity <= tickets[pair].capacity { continue }
                do throws(HostError) {
                    let arena = try MemoryArena(
                        byteCount: SPSCRing<UInt64>.byteCount(capacity: capacity), pages: .small,
                        name: "switch threads")
                    tickets[pair] = SPSCRing(
                        memory: try arena.allocate(
                            byteCount: arena.byteCount, alignment: CacheLine.byteCount),
                        capacity: capacity)
                    links[thread].peer(of: other).pointee.replace(returned: tickets[pair])
                    links[other].peer(of: thread).pointee.replace(finished: tickets[pair])
                    // The ends of the ring before are gone.
                    grown[pair] = arena
                } catch { throw SetupError("switch threads: ", error) }
            }
        }
    }

    private static func ticketCapacity(_ queueCount: Int) -> Int {
        min(ticketLimit, roundedUp(capacity + queueCount * ForwardingLimit.waiting))
    }

    /// Number of the pair of threads, one to the other.
    private func pair(_ one: Int, _ other: Int) -> Int {
        one * (threadCount - 1) + (other < one ? other : other - 1)
    }

    /// The ends of one thread. To be made once for each.
    /// - Parameter sleeps: threads of the switch may sleep.
    func links(of thread: Int, sleeps: Bool) -> ThreadLinks {
        ThreadLinks(mesh: self, number: thread, sleeps: sleeps)
    }

    fileprivate func peer(_ other: Int, of thread: Int) -> ThreadPeer {
        let (out, back) = (pair(thread, other), pair(other, thread))
        return ThreadPeer(
            outgoing: handoffs[out].makeProducer(), returned: tickets[out].makeConsumer(),
            incoming: handoffs[back].makeConsumer(), finished: tickets[back].makeProducer(),
            credit: tickets[out].capacity,
            bell: SharedWord32(bells[out]), heard: SharedWord32(bells[back]),
            waker: .passUnretained(wakers[other]))
    }
}

/// What one thread shares with another.
struct ThreadPeer: ~Copyable {
    /// Packets to it, and positions of those that it has finished.
    var outgoing: SPSCProducer<Handoff>
    var returned: SPSCConsumer<UInt64>
    /// Packets from it, and positions of those that are finished here.
    var incoming: SPSCConsumer<Handoff>
    var finished: SPSCProducer<UInt64>
    /// Packets handed to it and not got back, and how many these may be.
    var outCount = 0
    private(set) var credit: Int
    /// Something was put into a ring since the bell was rung.
    var hasNews = false
    /// Rung here, and there; what was heard last.
    let bell: SharedWord32
    let heard: SharedWord32
    var lastHeard: UInt32 = 0
    /// Wakes it. The mesh keeps it.
    let waker: Unmanaged<ThreadWaker>

    init(
        outgoing: consuming SPSCProducer<Handoff>, returned: consuming SPSCConsumer<UInt64>,
        incoming: consuming SPSCConsumer<Handoff>, finished: consuming SPSCProducer<UInt64>,
        credit: Int,
        bell: SharedWord32, heard: SharedWord32, waker: Unmanaged<ThreadWaker>
    ) {
        self.outgoing = outgoing
        self.returned = returned
        self.incoming = incoming
        self.finished = finished
        self.credit = credit
        self.bell = bell
        self.heard = heard
        self.waker = waker
    }

    /// Another ring takes the place of one that is empty.
    fileprivate mutating func replace(returned ring: SPSCRing<UInt64>) {
        returned = ring.makeConsumer()
        credit = ring.capacity
    }
    fileprivate mutating func replace(finished ring: SPSCRing<UInt64>) {
        finished = ring.makeProducer()
    }
}

/// One thread's ends of all rings.
final class ThreadLinks {
    /// The thread's number.
    let number: Int
    let peerCount: Int
    /// By number, without the thread itself. Memory of their own: no exclusivity checks.
    let peers: UnsafeMutablePointer<ThreadPeer>
    let waker: ThreadWaker
    private let sleeps: Bool
    private let mesh: ThreadMesh

    fileprivate init(mesh: ThreadMesh, number: Int, sleeps: Bool) {
        self.mesh = mesh
        self.number = number
        self.sleeps = sleeps
        waker = mesh.wakers[number]
        peerCount = mesh.threadCount - 1
        peers = .allocate(capacity: max(1, peerCount))
        for index in 0..<peerCount {
            let other = index < number ? index : index + 1
            (peers + index).initialize(to: mesh.peer(other, of: number))
        }
    }

    deinit {
        peers.deinitialize(count: peerCount)
        peers.deallocate()
    }

    /// Another thread's.
    @inline(__always)
    func peer(of thread: Int) -> UnsafeMutablePointer<ThreadPeer> {
        assert(thread != number && thread <= peerCount)
        return peers + (thread < number ? thread : thread &- 1)
    }

    /// After a poll: tells those that something was put into a ring for.
    func ring() {
        for index in 0..<peerCount where peers[index].hasNews {
            peers[index].hasNews = false
            if !sleeps { continue }
            let bell = peers[index].bell
            // [E4 release, sequential -> the other thread's look at its bells]
            bell.storeSequential(bell.load() &+ 1)
            peers[index].waker._withUnsafeGuaranteedRef { waker in
                // [E4 acquire, sequential <- the other thread's word that it sleeps]
                if waker.asleep.loadSequential() != 0 { waker.event.signal() }
            }
        }
    }

    /// Says that the thread is going to sleep; then it must look at its bells.
    func beginSleep() {
        // [E4 release, sequential -> another thread that has rung]
        waker.asleep.storeSequential(1)
    }

    func endSleep() { waker.asleep.store(0) }

    /// Whether a bell was rung since this was asked last.
    func wasRung() -> Bool {
        var wasRung = false
        for index in 0..<peerCount {
            // [E4 acquire, sequential <- another thread's ring]
            let heard = peers[index].heard.loadSequential()
            if heard != peers[index].lastHeard { wasRung = true }
            peers[index].lastHeard = heard
        }
        return wasRung
    }
}
