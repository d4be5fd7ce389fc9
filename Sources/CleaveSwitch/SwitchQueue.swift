// What a thread of the switch knows of its queues, and of the ports that it sends to.

import CleavePorts
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
    let packets: UnsafeMutablePointer<TxPacket>
    let destinations: UnsafeMutablePointer<Int32>
    var count = 0
    /// Bit i: packet i is not delivered yet.
    var left: UInt32 = 0
    /// When the burst is held no longer; 0 while it is not held.
    var deadline: UInt64 = 0
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
    /// With several threads: packets that are out, and hand-offs that wait to go out of it.
    var window: InFlightWindow
    var waiting: WaitingList

    /// - Parameter isShared: the switch has several threads.
    init(port: Int, queue: any PortQueue, number: Int = 0, thread: Int = 0, isShared: Bool = false)
    {
        self.port = port
        self.queue = queue
        self.number = number
        self.thread = thread
        window = InFlightWindow(capacity: isShared ? ForwardingLimit.window : 1)
        waiting = WaitingList(capacity: isShared ? ForwardingLimit.waiting : 1)
        packets = .allocate(capacity: ForwardingLimit.packets)
        destinations = .allocate(capacity: ForwardingLimit.packets)
    }

    deinit {
        packets.deallocate()
        destinations.deallocate()
        window.free()
        waiting.free()
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

    /// Forgets where the last packet went: ports opened or closed, or addresses aged.
    func forget() {
        lastDestination = .max
        offloads = queue.offloads
        frameLimit = queue.frameLimit
    }
}

/// Queues that a thread reaches without counting references: whoever fills it keeps them.
struct QueueList: BitwiseCopyable {
    private let base: UnsafeMutablePointer<Unmanaged<SwitchQueue>>
    private(set) var count = 0
    private let capacity: Int

    init(capacity: Int) {
        base = .allocate(capacity: max(1, capacity))
        self.capacity = capacity
    }

    func free() { base.deallocate() }

    /// - Parameter queues: at most as many as there is room for; the caller keeps them.
    mutating func set(_ queues: [SwitchQueue]) {
        assert(queues.count <= capacity)
        for (index, queue) in queues.enumerated() {
            (base + index).initialize(to: .passUnretained(queue))
        }
        count = queues.count
    }

    @inline(__always)
    func with<Result>(_ index: Int, _ body: (SwitchQueue) -> Result) -> Result {
        // SAFETY: below `count`; its owner keeps it for as long as it is in a list.
        base[index]._withUnsafeGuaranteedRef(body)
    }
}

/// A port as a place to send to.
struct Egress: BitwiseCopyable {
    /// Its open queues.
    var queues: QueueList
    /// It had no room for the length of a hold, and has taken nothing since.
    var isSlow = false
    let counters: SwitchCounterBlock
}
