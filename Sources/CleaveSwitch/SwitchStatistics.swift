// Everything that a switch counts, in one value: what every command, page and metric shows.
//
// All counts only rise for as long as the switch lives. Nothing is ever reset: who wants to know
// what happened between two moments takes the difference of two of these values.

import CleaveHost
import CleavePorts

/// What a switch has done until a moment. Reasons and events are all there, those that never
/// occurred with 0, so that a value's form depends on its ports alone.
///
/// The switch works on while the value is made: two counts of it may differ by some packets.
public struct SwitchStatistics: Codable, Equatable, Sendable {
    /// When it was made, in nanoseconds of the monotonic clock.
    public var nanoseconds: UInt64
    /// The same on the cycle clock, and that clock's rate. All cycles are counted on it.
    public var cycles: UInt64
    public var cyclesPerSecond: Double
    /// In the order of their numbers.
    public var ports: [PortStatistics]
    /// In the order of their numbers.
    public var threads: [ThreadStatistics]
    /// Ethernet addresses that are known now.
    public var addresses: Int
    /// Ports that were removed, together.
    public var removed: RemovedPorts
    /// What the program around the switch has counted, by name; empty if there is none.
    public var program: [String: UInt64] = [:]

    public init(
        nanoseconds: UInt64 = 0, cycles: UInt64 = 0, cyclesPerSecond: Double = 1e9,
        ports: [PortStatistics] = [], threads: [ThreadStatistics] = [], addresses: Int = 0,
        removed: RemovedPorts = RemovedPorts()
    ) {
        self.nanoseconds = nanoseconds
        self.cycles = cycles
        self.cyclesPerSecond = cyclesPerSecond
        self.ports = ports
        self.threads = threads
        self.addresses = addresses
        self.removed = removed
    }
}

/// What happened at one port. `in` is into the switch: what a guest sent; `out` is out of it: what
/// a guest received.
public struct PortStatistics: Codable, Equatable, Sendable {
    public var name: String
    /// Differs for each port that the switch has ever had, also for two of one name.
    public var serial: UInt64
    public var type: PortType
    /// Whether somebody may be at the far side.
    public var isConnected: Bool
    /// One for each queue pair that may ever be used.
    public var queues: [QueueStatistics]
    /// The header queue that its driver has set up now; nil if there is none.
    public var headerQueue: HeaderQueueState?
    /// Header slots that were claimed, of all header queues that it has had.
    public var claimedSlots: UInt64
    /// Packets that came in, and that should have gone out, and that no queue's own counters tell
    /// of, by reason: those that the switch dropped, and those that were not taken from a file.
    public var droppedIn: [String: UInt64]
    public var droppedOut: [String: UInt64]
    /// What the switch did with packets that came in here, by the name of a `SwitchEvent`.
    public var switched: [String: UInt64]
    /// Other things, by the name of a `PortEvent`.
    public var events: [String: UInt64]
    /// Requests for a header queue that were refused, by the name of a `HeaderQueueRefusal`.
    public var headerQueueRefusals: [String: UInt64]
    /// Messages of vhost-user connections, and what was wrong with them.
    public var vhostUser: [String: UInt64]
    /// Ethernet addresses that are known to be there now.
    public var addresses: Int

    public init(name: String, serial: UInt64 = 0, type: PortType) {
        (self.name, self.serial, self.type) = (name, serial, type)
        isConnected = false
        queues = []
        claimedSlots = 0
        (droppedIn, droppedOut, switched) = ([:], [:], [:])
        (events, headerQueueRefusals, vhostUser) = ([:], [:], [:])
        addresses = 0
    }

    /// All queues' together, one way.
    public var incoming: QueueCounters { sum(\.in) }
    public var outgoing: QueueCounters { sum(\.out) }

    private func sum(_ direction: KeyPath<QueueStatistics, QueueCounters>) -> QueueCounters {
        var sum = QueueCounters()
        for queue in queues { sum.add(queue[keyPath: direction]) }
        return sum
    }

    /// Everything that was dropped here, by the queues' counters and by the port's.
    public var droppedInTotal: UInt64 {
        incoming.droppedTotal &+ droppedIn.values.reduce(0, &+)
    }
    public var droppedOutTotal: UInt64 {
        outgoing.droppedTotal &+ droppedOut.values.reduce(0, &+)
    }
}

/// What has gone through one queue pair of a port.
public struct QueueStatistics: Codable, Equatable, Sendable {
    /// Its number within the port.
    public var number: Int
    /// The switch thread that uses it, and the CPU that this is kept on; nil for any.
    public var thread: Int
    public var cpu: Int?
    /// Whether packets can go out of it now, and come in at it.
    public var isOpen: Bool
    public var isReceiving: Bool
    /// Cycles in which its thread moved packets that came in at it.
    public var busyCycles: UInt64
    public var `in`: QueueCounters
    public var out: QueueCounters

    public init(number: Int, thread: Int = 0, cpu: Int? = nil) {
        self.number = number
        self.thread = thread
        self.cpu = cpu
        isOpen = false
        isReceiving = false
        busyCycles = 0
        `in` = QueueCounters()
        out = QueueCounters()
    }
}

/// What one switch thread has done.
public struct ThreadStatistics: Codable, Equatable, Sendable {
    public var number: Int
    /// The CPU that it is kept on; nil for any.
    public var cpu: Int?
    /// Cycles of polls that moved packets, and of all else.
    public var busyCycles: UInt64
    public var idleCycles: UInt64
    /// Packets that it moved; one that is handed from thread to thread counts at both.
    public var packets: UInt64
    /// How often it slept.
    public var parks: UInt64

    public init(
        number: Int, cpu: Int? = nil, busyCycles: UInt64 = 0, idleCycles: UInt64 = 0,
        packets: UInt64 = 0, parks: UInt64 = 0
    ) {
        self.number = number
        self.cpu = cpu
        self.busyCycles = busyCycles
        self.idleCycles = idleCycles
        self.packets = packets
        self.parks = parks
    }
}

/// What a port is, beside its counters.
public struct PortState: Sendable {
    public let name: String
    public let type: PortType
    /// Whether somebody may be at the far side.
    public let isConnected: Bool
    /// Feature bits that are offered to its driver, and those that this agreed to; nil while it has
    /// not. Ports without a driver offer none.
    public let offeredFeatures: UInt64
    public let negotiatedFeatures: UInt64?
    /// Where each queue's memory lies; nil for one that has none now.
    public let residences: [PageResidence?]
}

// MARK: Differences

extension SwitchStatistics {
    /// What has happened since an earlier value of the same switch. States, such as the number of
    /// slots that are free, are as they are now. `nanoseconds` and `cycles` are the time between.
    ///
    /// A port that came since then has all its counts; one that is gone is left out, and all that
    /// it has ever done is in `removed`.
    public func since(_ earlier: SwitchStatistics) -> SwitchStatistics {
        var result = self
        result.nanoseconds = nanoseconds.less(earlier.nanoseconds)
        result.cycles = cycles &- earlier.cycles
        result.program = program.less(earlier.program)
        // A port that was removed and came again under its name is another one.
        var before = Dictionary(earlier.ports.map { ($0.serial, $0) }) { first, _ in first }
        for (index, port) in ports.enumerated() {
            if let old = before.removeValue(forKey: port.serial) {
                result.ports[index] = port.since(old)
            }
        }
        result.removed = removed.since(earlier.removed, gone: Array(before.values))
        for (index, thread) in threads.enumerated() where earlier.threads.indices.contains(index) {
            let old = earlier.threads[index]
            result.threads[index].busyCycles = thread.busyCycles.less(old.busyCycles)
            result.threads[index].idleCycles = thread.idleCycles.less(old.idleCycles)
            result.threads[index].packets = thread.packets.less(old.packets)
            result.threads[index].parks = thread.parks.less(old.parks)
        }
        return result
    }
}

extension PortStatistics {
    fileprivate func since(_ old: PortStatistics) -> PortStatistics {
        var result = self
        result.droppedIn = droppedIn.less(old.droppedIn)
        result.droppedOut = droppedOut.less(old.droppedOut)
        result.switched = switched.less(old.switched)
        result.events = events.less(old.events)
        result.headerQueueRefusals = headerQueueRefusals.less(old.headerQueueRefusals)
        result.vhostUser = vhostUser.less(old.vhostUser)
        result.claimedSlots = claimedSlots.less(old.claimedSlots)
        for (index, queue) in queues.enumerated() where old.queues.indices.contains(index) {
            let before = old.queues[index]
            result.queues[index].busyCycles = queue.busyCycles.less(before.busyCycles)
            result.queues[index].in = queue.in.since(before.in)
            result.queues[index].out = queue.out.since(before.out)
        }
        return result
    }
}

extension UInt64 {
    /// How much more it is. A count that is less than before has begun anew.
    fileprivate func less(_ old: UInt64) -> UInt64 { self >= old ? self - old : self }
}

extension [String: UInt64] {
    fileprivate func less(_ old: [String: UInt64]) -> [String: UInt64] {
        Dictionary(uniqueKeysWithValues: map { ($0, $1.less(old[$0] ?? 0)) })
    }
}

extension QueueCounters {
    fileprivate func since(_ old: QueueCounters) -> QueueCounters {
        var result = self
        for count in Self.counts {
            result[keyPath: count] = self[keyPath: count].less(old[keyPath: count])
        }
        result.dropped = dropped.less(old.dropped)
        result.whole = whole.less(old.whole)
        return result
    }
}
