// What is counted at a port. Every set of names is closed: an enumeration lists it.

/// What happened at a port beside its packets.
public enum PortEvent: String, CaseIterable, Sendable, CodingKeyRepresentable, Codable {
    /// Front-ends that connected, and that went.
    case connects, disconnects
    /// Front-ends that came while one was connected.
    case refusedConnections
    /// Guests whose memory was taken away from under the port.
    case memoryLost
    /// Rings that their driver broke.
    case brokenRings
    /// Commands of a driver's control queue that chose its queue pairs, and those that were
    /// refused.
    case queuePairCommands, refusedCommands
    /// Requests that had held up traffic for so long that further ones waited.
    case requestsHeldBack
    /// Lines of the log that were left out, since there were too many.
    case logLinesLeftOut
    /// MTUs that a front-end told.
    case mtuMessages
    /// Guests that were announced after they moved.
    case announces
    /// Header queues that were set up, reset, and broken by their driver.
    case headerQueues, headerQueueResets, brokenHeaderQueues
    /// Header slots that a driver returned although the device had them.
    case duplicateSlots
    /// Packets of a capture file that it has only the beginning of.
    case truncated
    /// Times that the interface was deleted.
    case interfaceDeleted

    /// Ports where it can happen.
    public var types: [PortType] {
        switch self {
        case .truncated: [.pcap]
        case .interfaceDeleted: [.tap]
        default: [.vhostUser]
        }
    }
}

/// What has gone through one queue in one direction, or through all queues of a port.
///
/// A queue counts what concerns it and leaves the rest 0: only a guest's receive queue splits, for
/// example. Rings are seen by the device, as in virtio.
public struct QueueCounters: Sendable, Equatable, Codable {
    public var packets: UInt64 = 0
    /// Bytes of those packets, without virtio-net headers.
    public var bytes: UInt64 = 0
    /// Bursts of at least one packet, and polls that found nothing.
    public var bursts: UInt64 = 0
    public var emptyPolls: UInt64 = 0
    /// Times that the driver had asked to be called, and those that reached nobody.
    public var calls: UInt64 = 0
    public var lostCalls: UInt64 = 0
    /// Packets that went no further, by reason.
    public var dropped: [String: UInt64] = [:]
    /// Packets whose headers went to a header queue.
    public var split: UInt64 = 0
    /// Packets that went to a header slot entirely.
    public var tiny: UInt64 = 0
    /// Packets that went whole although there was a header queue, by reason.
    public var whole: [String: UInt64] = [:]
    /// Buffers that were used.
    public var buffers: UInt64 = 0
    /// Header slots that were claimed, and how often another queue won a claim.
    public var slots: UInt64 = 0
    public var claimRetries: UInt64 = 0
    /// Buffers that could not hold a virtio-net header, and descriptors without a byte.
    public var undersizedBuffers: UInt64 = 0
    public var emptyDescriptors: UInt64 = 0
    /// Reads that the kernel refused, other than for want of packets.
    public var readErrors: UInt64 = 0

    public init() {}

    /// All of them, but for those with reasons.
    public static var counts: [WritableKeyPath<QueueCounters, UInt64> & Sendable] {
        [
            \.packets, \.bytes, \.bursts, \.emptyPolls, \.calls, \.lostCalls, \.split, \.tiny,
            \.buffers, \.slots, \.claimRetries, \.undersizedBuffers, \.emptyDescriptors,
            \.readErrors,
        ]
    }

    /// Adds another queue's, or another time's.
    public mutating func add(_ other: QueueCounters) {
        for count in Self.counts { self[keyPath: count] &+= other[keyPath: count] }
        dropped.merge(other.dropped, uniquingKeysWith: &+)
        whole.merge(other.whole, uniquingKeysWith: &+)
    }

    /// All that went no further.
    public var droppedTotal: UInt64 { dropped.values.reduce(0, &+) }
}

/// What a port has done, or one of its queues: packets into the switch, and out of it. Only what
/// occurred has an entry.
public struct PortCounters: Sendable, Equatable {
    public var incoming = QueueCounters()
    public var outgoing = QueueCounters()
    /// Other things that an operator wants to know of.
    public var events: [PortEvent: UInt64] = [:]
    /// Requests for a header queue that were refused, by the name of a `HeaderQueueRefusal`.
    public var headerQueueRefusals: [String: UInt64] = [:]
    /// Messages of vhost-user connections, and what was wrong with them
    /// (`BackendSession.counterNames`).
    public var vhostUser: [String: UInt64] = [:]
    /// Header slots that were claimed, of all header queues that the port has had.
    public var claimedSlots: UInt64 = 0

    public init() {}

    /// Adds another port's, or another time's.
    public mutating func add(_ other: PortCounters) {
        incoming.add(other.incoming)
        outgoing.add(other.outgoing)
        events.merge(other.events, uniquingKeysWith: +)
        headerQueueRefusals.merge(other.headerQueueRefusals, uniquingKeysWith: +)
        vhostUser.merge(other.vhostUser, uniquingKeysWith: +)
        claimedSlots += other.claimedSlots
    }

    public var packetsIn: UInt64 { incoming.packets }
    public var bytesIn: UInt64 { incoming.bytes }
    public var packetsOut: UInt64 { outgoing.packets }
    public var bytesOut: UInt64 { outgoing.bytes }
    /// Packets that came in and were refused, by reason.
    public var droppedIn: [String: UInt64] { incoming.dropped }
    /// Packets that should have gone out and did not, by reason.
    public var droppedOut: [String: UInt64] { outgoing.dropped }
    public var splitOut: UInt64 { outgoing.split }
    public var wholeOut: [String: UInt64] { outgoing.whole }
}

/// A header queue as it is now.
public struct HeaderQueueState: Sendable, Equatable, Codable {
    public var slotCount = 0
    /// In bytes.
    public var slotSize = 0
    /// How slots come back: `tail`, `ring` or `groups`.
    public var slotReturn = ""
    /// Receive queues that use it.
    public var queues: [Int] = []
    /// Slots that the device may claim now.
    public var free = 0
    /// Slots that the driver has: reported to it and not returned, or not given yet.
    public var held: Int { slotCount - free }
    public var isBroken = false
    /// For each of `queues` the slots in groups that were reported through it and are not back;
    /// empty where slots do not come back in groups: then nobody notes which queue had a slot.
    public var heldByQueue: [Int] = []

    public init() {}
}
