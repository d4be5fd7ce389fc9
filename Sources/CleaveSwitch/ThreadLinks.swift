// How the threads of a switch hand packets to each other. A receiver's queue belongs to one thread,
// which alone places into it; a packet that came in on another thread gets there by a ring.
//
//   sender's thread                                       receiver's thread
//   hand over     --[R1]-->  ring of hand-offs  --[R1]-->  place, from the sender's buffers
//   window        <--[R1]--  ring of positions  <--[R1]--  placed, or dropped and counted
//
// There are two rings for each ordered pair of threads. A sender counts what it has handed over and
// not got back, at most `ThreadMesh.capacity`: so neither ring is ever full, and a receiver's
// thread never waits. The packet itself stays where it lies; the ring describes it.
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
    let source: UInt32

    /// What goes back when it is placed or dropped.
    var ticket: UInt64 { UInt64(ingress) &<< 32 | UInt64(position) }
}

/// Hand-offs to one queue that wait for room, oldest first. One thread at a time.
struct WaitingList {
    // SAFETY: memory that `init` allocates and `free` gives back; every index is masked.
    private let base: UnsafeMutablePointer<Handoff>
    private let mask: Int
    private var first = 0
    private(set) var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) {
        base = .allocate(capacity: capacity)
        mask = capacity - 1
    }

    func free() { base.deallocate() }

    var isFull: Bool { count > mask }

    subscript(offset: Int) -> Handoff { base[(first &+ offset) & mask] }

    mutating func append(_ handoff: Handoff) {
        assert(!isFull)
        (base + ((first &+ count) & mask)).initialize(to: handoff)
        count &+= 1
    }

    mutating func removeFirst(_ removed: Int) {
        assert(removed <= count)
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
    /// Most packets that one thread has handed to another and not got back.
    static let capacity = 512
    /// Most threads.
    static let threadLimit = 32

    let threadCount: Int
    let wakers: [ThreadWaker]
    private let arena: MemoryArena
    private var handoffs: [SPSCRing<Handoff>] = []
    private var tickets: [SPSCRing<UInt64>] = []
    private var bells: [UnsafeMutableRawPointer] = []

    init(threadCount: Int) throws(SetupError) {
        assert((1...Self.threadLimit).contains(threadCount))
        self.threadCount = threadCount
        let handoffBytes = SPSCRing<Handoff>.byteCount(capacity: Self.capacity)
        let ticketBytes = SPSCRing<UInt64>.byteCount(capacity: Self.capacity)
        let line = CacheLine.byteCount
        let pairCount = threadCount * (threadCount - 1)
        do throws(HostError) {
            let arena = try MemoryArena(
                byteCount: line * (threadCount + 1)
                    + pairCount * (handoffBytes + ticketBytes + line),
                pages: .small, name: "switch threads")
            var wakers: [ThreadWaker] = []
            for _ in 0..<threadCount {
                wakers.append(
                    try ThreadWaker(asleep: try arena.allocate(byteCount: line, alignment: line)))
            }
            self.wakers = wakers
            for _ in 0..<pairCount {
                handoffs.append(
                    SPSCRing(
                        memory: try arena.allocate(byteCount: handoffBytes, alignment: line),
                        capacity: Self.capacity))
                tickets.append(
                    SPSCRing(
                        memory: try arena.allocate(byteCount: ticketBytes, alignment: line),
                        capacity: Self.capacity))
                bells.append(try arena.allocate(byteCount: line, alignment: line))
            }
            self.arena = arena
        } catch { throw SetupError("switch threads: ", error) }
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
            outgoing: handoffs[out].makeProducer(), returned: tickets[back].makeConsumer(),
            incoming: handoffs[back].makeConsumer(), finished: tickets[out].makeProducer(),
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
    /// Packets handed to it and not got back.
    var outCount = 0
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
        bell: SharedWord32, heard: SharedWord32, waker: Unmanaged<ThreadWaker>
    ) {
        self.outgoing = outgoing
        self.returned = returned
        self.incoming = incoming
        self.finished = finished
        self.bell = bell
        self.heard = heard
        self.waker = waker
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
