// Every counter of every layer, once: its name, what it means, and where it stands in a snapshot.
// Tables, JSON, `top` and metrics read counters through this list and through nothing else, so that
// none can show what another does not have.

import CleavePorts
import CleaveSwitch

/// One counter, or a family of them that differ by labels.
public struct CounterDescription: Sendable {
    public enum Kind: String, Sendable, Codable {
        /// Only rises.
        case counter
        /// Is as it is now.
        case gauge
    }

    /// What a value counts where that is not things. The name ends with it.
    public enum Unit: String, Sendable, Codable {
        case bytes, cycles, hertz
    }

    /// A part of the labels that every counter of a place has.
    public enum Label: String, Sendable, Codable, CaseIterable {
        /// The name of a port.
        case port
        /// The number of a queue pair within its port.
        case queue
        /// The number of a switch thread.
        case thread
        /// `in` is into the switch, what a guest sent; `out` is out of it, what a guest receives.
        case direction
        /// The name of a reason.
        case reason
        /// The name of something that happened.
        case event
        /// The type of a port.
        case type
    }

    /// One value. Values of labels are in the order of the description's `labels`.
    public struct Sample: Sendable, Equatable {
        public let labels: [String]
        public let value: UInt64

        public init(_ labels: [String], _ value: UInt64) {
            self.labels = labels
            self.value = value
        }
    }

    /// In snake_case, without a prefix of the program and without `_total`.
    public let name: String
    /// One sentence.
    public let help: String
    public let kind: Kind
    public let unit: Unit?
    public let labels: [Label]
    /// All of its values in a snapshot, in the order of ports, queues and reasons.
    public let samples: @Sendable (SwitchStatistics) -> [Sample]

    public init(
        _ name: String, _ kind: Kind, unit: Unit? = nil, labels: [Label] = [], help: String,
        samples: @escaping @Sendable (SwitchStatistics) -> [Sample]
    ) {
        self.name = name
        self.kind = kind
        self.unit = unit
        self.labels = labels
        self.help = help
        self.samples = samples
    }
}

/// All counters.
public enum CounterRegistry {
    /// In the order in which they are shown.
    public static let all: [CounterDescription] =
        queueCounters + portCounters + SwitchEvent.allCases.map(switched) + headerQueueCounters
        + threadCounters + removedCounters + programCounters

    /// The counter of that name.
    public static func named(_ name: String) -> CounterDescription? { byName[name] }

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    // MARK: Queues

    private static let queueCounters: [CounterDescription] = [
        queue("queue_packets", \.packets, "Packets that went through a queue."),
        queue(
            "queue_bytes", \.bytes, unit: .bytes,
            "Bytes of those packets, without virtio-net headers."),
        queue("queue_bursts", \.bursts, "Bursts of at least one packet."),
        queue("queue_empty_polls", \.emptyPolls, "Polls of a guest's ring that found nothing."),
        reasons(
            "queue_dropped", \.dropped, "Packets that a queue refused or could not deliver."),
        queue("queue_calls", \.calls, "Times that a driver had asked to be interrupted."),
        queue(
            "queue_lost_calls", \.lostCalls,
            "Of those, interrupts that reached nobody: the other end is gone."),
        queue(
            "queue_split", \.split, only: .out,
            "Packets whose headers were placed in a header queue."),
        queue(
            "queue_tiny", \.tiny, only: .out, "Packets placed in a header slot entirely."),
        reasons(
            "queue_fallback", \.whole, only: .out,
            "Packets that were placed whole although there is a header queue."),
        queue("queue_buffers", \.buffers, only: .out, "Receive buffers that were used."),
        queue("queue_slots", \.slots, only: .out, "Header slots that were claimed."),
        queue(
            "queue_claim_retries", \.claimRetries, only: .out,
            "Attempts to claim header slots that another queue won."),
        queue(
            "queue_undersized_buffers", \.undersizedBuffers, only: .out,
            "Receive buffers that could not hold a virtio-net header."),
        queue(
            "queue_empty_descriptors", \.emptyDescriptors, only: .out,
            "Descriptors without a byte in receive buffers."),
        queue(
            "queue_read_errors", \.readErrors, only: .in,
            "Reads that the kernel refused, other than for want of packets."),
        eachQueue(
            "queue_busy_cycles", .counter, unit: .cycles,
            "Cycles in which a thread moved packets that came in at a queue."
        ) { $0.busyCycles },
        eachQueue("queue_thread", .gauge, "The switch thread that uses a queue.") {
            UInt64($0.thread)
        },
        eachQueue("queue_open", .gauge, "Whether packets can go out of a queue.") {
            $0.isOpen ? 1 : 0
        },
    ]

    /// A direction that a counter is of; both if nil.
    private enum Direction: String {
        case `in`, out

        func counters(_ queue: QueueStatistics) -> QueueCounters {
            self == .in ? queue.in : queue.out
        }

        func removed(_ statistics: SwitchStatistics) -> RemovedPorts.Direction {
            self == .in ? statistics.removed.in : statistics.removed.out
        }
    }

    private static func directions(_ only: Direction?) -> [Direction] {
        only.map { [$0] } ?? [.in, .out]
    }

    private static func queue(
        _ name: String, _ count: KeyPath<QueueCounters, UInt64> & Sendable,
        unit: CounterDescription.Unit? = nil, only: Direction? = nil, _ help: String
    ) -> CounterDescription {
        CounterDescription(
            name, .counter, unit: unit, labels: [.port, .queue, .direction], help: help
        ) { statistics in
            statistics.ports.flatMap { port in
                port.queues.flatMap { queue in
                    directions(only).map {
                        .init(
                            [port.name, "\(queue.number)", $0.rawValue],
                            $0.counters(queue)[keyPath: count])
                    }
                }
            }
        }
    }

    private static func reasons(
        _ name: String, _ counts: KeyPath<QueueCounters, [String: UInt64]> & Sendable,
        only: Direction? = nil, _ help: String
    ) -> CounterDescription {
        CounterDescription(
            name, .counter, labels: [.port, .queue, .direction, .reason], help: help
        ) { statistics in
            statistics.ports.flatMap { port in
                port.queues.flatMap { queue in
                    directions(only).flatMap { direction in
                        sorted(direction.counters(queue)[keyPath: counts]).map {
                            .init(
                                [port.name, "\(queue.number)", direction.rawValue, $0.key], $0.value
                            )
                        }
                    }
                }
            }
        }
    }

    private static func eachQueue(
        _ name: String, _ kind: CounterDescription.Kind, unit: CounterDescription.Unit? = nil,
        _ help: String, _ value: @escaping @Sendable (QueueStatistics) -> UInt64
    ) -> CounterDescription {
        CounterDescription(name, kind, unit: unit, labels: [.port, .queue], help: help) {
            $0.ports.flatMap { port in
                port.queues.map { .init([port.name, "\($0.number)"], value($0)) }
            }
        }
    }

    private static func sorted(
        _ counts: [String: UInt64]
    ) -> [(key: String, value: UInt64)] {
        counts.sorted { $0.key < $1.key }
    }

    // MARK: Ports

    private static let portCounters: [CounterDescription] = [
        CounterDescription(
            "port_connected", .gauge, labels: [.port, .type],
            help: "Whether somebody may be at the far side of a port."
        ) {
            $0.ports.map { .init([$0.name, $0.type.rawValue], $0.isConnected ? 1 : 0) }
        },
        CounterDescription(
            "port_dropped", .counter, labels: [.port, .direction, .reason],
            help: "Packets that the switch dropped, at the port that could not or must not have "
                + "them, and those that were not taken from a file."
        ) {
            $0.ports.flatMap { port in
                sorted(port.droppedIn).map { .init([port.name, "in", $0.key], $0.value) }
                    + sorted(port.droppedOut).map { .init([port.name, "out", $0.key], $0.value) }
            }
        },
        names(
            "port_events", .event, \.events, "Things that happened at a port beside its packets."),
        names(
            "port_vhost_user", .event, \.vhostUser,
            "Messages of vhost-user connections, and refusals and ends by their reason."),
        CounterDescription(
            "port_addresses", .gauge, labels: [.port],
            help: "Ethernet addresses that are known to be at a port."
        ) { $0.ports.map { .init([$0.name], UInt64($0.addresses)) } },
    ]

    private static func switched(_ event: SwitchEvent) -> CounterDescription {
        let help =
            switch event {
            case .flooded: "Packets that came in at a port and were sent to every other."
            case .finished: "Packets to a port whose checksum or segments the switch made."
            case .held: "Packets to a port that waited for room there."
            case .unlearned: "Addresses that were not learned, since a port has too many."
            }
        return CounterDescription(
            "port_\(event.name)", .counter, labels: [.port], help: help
        ) { $0.ports.map { .init([$0.name], $0.switched[event.name] ?? 0) } }
    }

    private static func names(
        _ name: String, _ label: CounterDescription.Label,
        _ counts: KeyPath<PortStatistics, [String: UInt64]> & Sendable, _ help: String
    ) -> CounterDescription {
        CounterDescription(name, .counter, labels: [.port, label], help: help) {
            $0.ports.flatMap { port in
                sorted(port[keyPath: counts]).map { .init([port.name, $0.key], $0.value) }
            }
        }
    }

    // MARK: Header queues

    private static let headerQueueCounters: [CounterDescription] = [
        headerQueue("header_queue_slots", "Slots of a port's header queue.") {
            UInt64($0.slotCount)
        },
        headerQueue("header_queue_free_slots", "Slots that the device may claim now.") {
            UInt64($0.free)
        },
        headerQueue("header_queue_held_slots", "Slots that the driver has.") {
            UInt64(max(0, $0.held))
        },
        headerQueue("header_queue_broken", "Whether its driver broke the header queue.") {
            $0.isBroken ? 1 : 0
        },
        CounterDescription(
            "header_queue_claimed_slots", .counter, labels: [.port],
            help: "Slots that were claimed of all header queues that a port has had."
        ) {
            $0.ports.filter { $0.type == .vhostUser }.map { .init([$0.name], $0.claimedSlots) }
        },
        names(
            "header_queue_refused", .reason, \.headerQueueRefusals,
            "Requests of drivers for a header queue that were refused."),
    ]

    private static func headerQueue(
        _ name: String, _ help: String,
        _ value: @escaping @Sendable (HeaderQueueState) -> UInt64
    ) -> CounterDescription {
        CounterDescription(name, .gauge, labels: [.port], help: help) {
            $0.ports.compactMap { port in
                port.headerQueue.map { .init([port.name], value($0)) }
            }
        }
    }

    // MARK: Threads

    private static let threadCounters: [CounterDescription] = [
        thread("thread_packets", "Packets that a switch thread moved.") { $0.packets },
        thread(
            "thread_busy_cycles", unit: .cycles, "Cycles of polls that moved packets."
        ) { $0.busyCycles },
        thread(
            "thread_idle_cycles", unit: .cycles, "Cycles of polls that found nothing, and of sleep."
        ) { $0.idleCycles },
        thread("thread_parks", "How often a switch thread slept.") { $0.parks },
    ]

    private static func thread(
        _ name: String, unit: CounterDescription.Unit? = nil, _ help: String,
        _ value: @escaping @Sendable (ThreadStatistics) -> UInt64
    ) -> CounterDescription {
        CounterDescription(name, .counter, unit: unit, labels: [.thread], help: help) {
            $0.threads.map { .init(["\($0.number)"], value($0)) }
        }
    }

    // MARK: Ports that were removed

    private static let removedCounters: [CounterDescription] = [
        CounterDescription(
            "removed_ports", .counter, help: "Ports that were removed while the switch ran."
        ) { [.init([], $0.removed.count)] },
        removed("removed_packets", "Packets that went through ports that were removed.") {
            $0.packets
        },
        removed(
            "removed_bytes", unit: .bytes, "Bytes of those packets, without virtio-net headers."
        ) { $0.bytes },
        CounterDescription(
            "removed_dropped", .counter, labels: [.direction, .reason],
            help: "Packets that were dropped at ports that were removed."
        ) { statistics in
            directions(nil).flatMap { direction in
                sorted(direction.removed(statistics).dropped).map {
                    .init([direction.rawValue, $0.key], $0.value)
                }
            }
        },
    ]

    private static func removed(
        _ name: String, unit: CounterDescription.Unit? = nil, _ help: String,
        _ value: @escaping @Sendable (RemovedPorts.Direction) -> UInt64
    ) -> CounterDescription {
        CounterDescription(name, .counter, unit: unit, labels: [.direction], help: help) {
            statistics in
            directions(nil).map { .init([$0.rawValue], value($0.removed(statistics))) }
        }
    }

    // MARK: The program

    private static let programCounters: [CounterDescription] = [
        CounterDescription(
            "clock_hertz", .gauge, unit: .hertz, help: "Cycles of the cycle clock in a second."
        ) { [.init([], UInt64($0.cyclesPerSecond))] },
        CounterDescription(
            "program_events", .counter, labels: [.event],
            help: "Things that happened to the program's control socket and other services."
        ) { sorted($0.program).map { .init([$0.key], $0.value) } },
    ]
}
