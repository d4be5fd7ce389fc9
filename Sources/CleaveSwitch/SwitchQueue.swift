// What a thread of the switch knows of its queues, and of the ports that it sends to.

import CleaveHost
import CleavePorts
import CleaveRings
import CleaveVirtioNet

/// One queue of a port as its thread sees it, with the burst that came in last and is not all out
/// yet.
///
/// Used by its thread alone, and by the control thread while that is held. Constants of a final
/// class: the loop reaches all of it without counting a reference.
final class SwitchQueue {
    let port: Int
    let queue: any PortQueue
    /// Its number among all queues of the switch, and that of its thread.
    let number: Int
    let thread: Int
    /// What its port's packets are counted against; nil if they may be any number.
    let limiter: RateLimiter?
    let packets: UnsafeMutablePointer<TxPacket>
    let destinations: UnsafeMutablePointer<Int32>
    /// Hashes of the flows of those packets whose bit in `hashed` is set.
    let flows: UnsafeMutablePointer<UInt32>
    var hashed: UInt32 = 0
    var count = 0
    /// Bit i: packet i is not delivered yet.
    var left: UInt32 = 0
    /// When the burst is held no longer; 0 while it is not held.
    var deadline: UInt64 = 0
    /// Since when it has had no room for packets that waited, and has taken none; 0: it has taken
    /// the last one. In cycles.
    var refusedSince: UInt64 = 0
    /// The last packet's addresses and where it went: most bursts are of one flow.
    var lastDestination: UInt64 = .max
    var lastSource: UInt64 = .max
    var lastPort = Destination.nowhere
    /// What the far side takes unfinished, as long as it is open.
    var offloads = VirtioFeatures()
    /// The longest frame that the far side takes unsegmented, without tags.
    var frameLimit = Int.max
    /// All packets of the burst go to the same place.
    var isUniform = false
    /// Captures of what comes in at it and of what goes out, in the words of the far side: that
    /// transmits the former. The captures keep them.
    var txTap: Unmanaged<CaptureTap>?
    var rxTap: Unmanaged<CaptureTap>?
    /// With several threads: packets that are out, and hand-offs that wait to go out of it.
    var window: InFlightWindow
    var waiting: WaitingList
    /// Of the bursts of its own thread that found no room in it, the deadline of the oldest, and
    /// the number of the poll in which that was.
    var ownDeadline: UInt64 = 0
    var ownPoll: UInt32 = 0

    /// Cycles of polls that took packets from it, and bursts that came in: its thread writes them,
    /// any may read.
    let busyCycles, bursts: SharedWord64
    private let words: UnsafeMutableRawPointer

    /// - Parameter threadCount: of the switch.
    init(
        port: Int, queue: any PortQueue, number: Int = 0, thread: Int = 0, threadCount: Int = 1,
        limiter: RateLimiter? = nil
    ) {
        let isShared = threadCount > 1
        self.port = port
        self.queue = queue
        self.number = number
        self.thread = thread
        self.limiter = limiter
        window = InFlightWindow(capacity: isShared ? ForwardingLimit.window : 1)
        waiting = WaitingList(
            limit: isShared ? ForwardingLimit.waiting : 1, threadCount: threadCount)
        words = .allocate(
            byteCount: CacheLine.byteCount, alignment: CacheLine.byteCount)
        words.initializeMemory(as: UInt8.self, repeating: 0, count: CacheLine.byteCount)
        busyCycles = SharedWord64(words)
        bursts = SharedWord64(words + 8)
        packets = .allocate(capacity: ForwardingLimit.packets)
        destinations = .allocate(capacity: ForwardingLimit.packets)
        flows = .allocate(capacity: ForwardingLimit.packets)
    }

    deinit {
        packets.deallocate()
        destinations.deallocate()
        flows.deallocate()
        words.deallocate()
        window.free()
        waiting.free()
    }

    /// A poll of it moved packets.
    /// - Parameter since: when the poll before it ended, in cycles.
    /// - Returns: the time.
    @inline(__always)
    func noteWork(_ since: UInt64) -> UInt64 {
        let now = CycleClock.now()
        busyCycles.addSingleWriter(now &- since)
        return now
    }

    /// Those of `packets` that go to `destination`.
    func group(of destination: Int32, _ packets: UInt32) -> UInt32 {
        var group: UInt32 = 0
        var rest = packets
        while rest != 0 {
            let index = rest.trailingZeroBitCount
            rest &= rest &- 1
            if destinations[index] == destination { group |= 1 &<< UInt32(index) }
        }
        return group
    }

    /// Whether packets wait for room.
    var isHolding: Bool { left != 0 }

    /// A packet found no room in it, and waits.
    func noteRefusal(_ now: UInt64) { if refusedSince == 0 { refusedSince = now } }

    /// Whether it has taken nothing for the length of a hold although packets waited.
    func isSlow(_ now: UInt64, _ holdCycles: UInt64) -> Bool {
        refusedSince != 0 && now &- refusedSince >= holdCycles
    }

    /// Whether no packet of it is out, and none waits for it.
    var isIdle: Bool { left == 0 && window.count == 0 && waiting.count == 0 }

    /// Forgets where the last packet went: ports opened or closed, or addresses aged.
    func forget() {
        lastDestination = .max
        offloads = queue.offloads
        frameLimit = queue.frameLimit
    }
}

/// Queues that a thread reaches without counting references: whoever fills it keeps them.
struct QueueList: BitwiseCopyable {
    private var base: UnsafeMutablePointer<Unmanaged<SwitchQueue>>
    /// Room for as many, to sort them in.
    private var sorted: UnsafeMutablePointer<Unmanaged<SwitchQueue>>
    private(set) var count = 0
    private var capacity: Int

    /// An empty list; room is made as it is needed.
    init() {
        capacity = 1
        base = .allocate(capacity: capacity)
        sorted = .allocate(capacity: capacity)
    }

    func free() {
        base.deallocate()
        sorted.deallocate()
    }

    /// Makes room for `wanted` queues, and keeps those in it. While nobody uses the list.
    private mutating func reserve(_ wanted: Int) {
        if wanted <= capacity { return }
        let more = max(wanted, 2 * capacity)
        let room = UnsafeMutablePointer<Unmanaged<SwitchQueue>>.allocate(capacity: more)
        room.update(from: base, count: count)
        free()
        base = room
        sorted = .allocate(capacity: more)
        capacity = more
    }

    /// While nobody uses the list.
    /// - Parameter queues: the caller keeps them.
    mutating func set(_ queues: [SwitchQueue]) {
        reserve(queues.count)
        for (index, queue) in queues.enumerated() {
            (base + index).initialize(to: .passUnretained(queue))
        }
        count = queues.count
    }

    /// Puts a queue at the place of its number. Places of numbers that nobody has are not to be
    /// asked for. While nobody uses the list.
    mutating func place(_ queue: SwitchQueue) {
        reserve(queue.number + 1)
        // Numbers are dealt out from below, so no place is left out.
        assert(queue.number <= count)
        (base + queue.number).initialize(to: .passUnretained(queue))
        count = max(count, queue.number + 1)
    }

    @inline(__always)
    func with<Result>(_ index: Int, _ body: (SwitchQueue) -> Result) -> Result {
        // SAFETY: below `count`; its owner keeps it for as long as it is in a list.
        base[index]._withUnsafeGuaranteedRef(body)
    }

    /// Puts those whose burst waits for room before the others, and changes no order else.
    @inline(never)
    func putHoldingFirst() {
        var holding = 0
        var others = 0
        for index in 0..<count {
            if with(index, \.isHolding) {
                // `holding` is at most `index`: nothing is overwritten that was not read.
                base[holding] = base[index]
                holding &+= 1
            } else {
                (sorted + others).initialize(to: base[index])
                others &+= 1
            }
        }
        (base + holding).update(from: sorted, count: others)
    }
}

/// A port as a place to send to.
struct Egress: BitwiseCopyable {
    /// Its open queues.
    var queues: QueueList
    let counters: SwitchCounterBlock
}
