// What an operator asks a switch. Each command's arguments and answer are in the schema
// configs/schema/control.schema.json and on the page ControlSocket.

import CleaveHost
import CleavePorts
import CleaveSwitch

/// The level of the program's log, as the command `log-level` reads and changes it. Any thread.
public struct LogLevelAccess: Sendable {
    /// From the quietest on.
    public let names: [String]
    public let get: @Sendable () -> String
    public let set: @Sendable (String) -> Void

    public init(
        names: [String], get: @escaping @Sendable () -> String,
        set: @escaping @Sendable (String) -> Void
    ) {
        self.names = names
        self.get = get
        self.set = set
    }
}

/// The commands that every switch has.
public enum StandardCommands {
    /// Those that need nothing but the switch.
    /// - Parameter clearing: remembers when counters were cleared; one for each switch.
    public static func all(_ clearing: CounterClearing = CounterClearing()) -> [ControlCommand] {
        [stats(clearing), ports, queues(clearing), headers(clearing), features, macTable]
    }

    // MARK: Counters

    /// Since when counters are shown. For the control thread.
    public final class CounterClearing: @unchecked Sendable {
        // SAFETY: used on the control thread alone.
        fileprivate var base: SwitchStatistics?

        public init() {}

        /// What has happened since the counters were cleared, and for how long they have run.
        fileprivate func statistics(_ joined: Switch, whole: Bool = false) -> SwitchStatistics {
            let now = joined.statistics
            guard let base, !whole else { return now }
            var since = now.since(base)
            // The times of now: so two answers of the same base can be compared.
            (since.nanoseconds, since.cycles) = (now.nanoseconds, now.cycles)
            return since
        }
    }

    private static func stats(_ clearing: CounterClearing) -> ControlCommand {
        .large(
            "stats", help: "Every counter, since the start or since they were cleared.",
            arguments: [
                .init("clear", .boolean, help: "Shows counts from now on, after this answer."),
                .init("whole", .boolean, help: "Counts since the start, cleared or not."),
            ],
            value: { (call) throws(ControlFailure) -> Statistics in
                let statistics = clearing.statistics(call.joined, whole: call.flag("whole"))
                if call.flag("clear") { clearing.base = call.joined.statistics }
                return Statistics(
                    isCleared: clearing.base != nil && !call.flag("whole"), statistics: statistics)
            })
    }

    /// What `stats` answers.
    private struct Statistics: Encodable, Sendable {
        let isCleared: Bool
        let statistics: SwitchStatistics
    }

    // MARK: Ports

    private static let ports = ControlCommand(
        "ports", help: "Each port: what it is, who is there, where its queues are."
    ) { call throws(ControlFailure) in
        let statistics = call.joined.statistics
        let states = call.joined.portStates
        return .object([
            "ports": .array(
                zip(statistics.ports, states).map { port, state in
                    .object([
                        "name": .string(port.name), "type": .string(port.type.rawValue),
                        "isConnected": .bool(port.isConnected),
                        "queues": .integer(Int64(port.queues.count)),
                        "openQueues": .integer(Int64(port.queues.count { $0.isOpen })),
                        "threads": .array(
                            Set(port.queues.map(\.thread)).sorted().map { .integer(Int64($0)) }),
                        "addresses": .integer(Int64(port.addresses)),
                        "hasHeaderQueue": .bool(port.headerQueue != nil),
                        "negotiatedFeatures": hex(state.negotiatedFeatures),
                    ])
                })
        ])
    }

    private static func queues(_ clearing: CounterClearing) -> ControlCommand {
        let topology = NUMATopology.current()
        return ControlCommand(
            "queues", help: "Each queue: its thread, CPU and memory, and its share of the thread.",
            arguments: [.init("port", .string, help: "Only queues of this port.")]
        ) { call throws(ControlFailure) in
            let statistics = clearing.statistics(call.joined)
            let states = call.joined.portStates
            let wanted = try index(of: call.text("port"), among: states)
            var rows: [JSONValue] = []
            for (number, port) in statistics.ports.enumerated()
            where wanted == nil || wanted == number {
                for queue in port.queues {
                    let thread = statistics.threads[queue.thread]
                    let cycles = thread.busyCycles &+ thread.idleCycles
                    let residence = states[number].residences[queue.number]
                    rows.append(
                        .object([
                            "port": .string(port.name), "queue": .integer(Int64(queue.number)),
                            "thread": .integer(Int64(queue.thread)),
                            "cpu": integer(queue.cpu),
                            "node": integer(queue.cpu.flatMap(topology.node(ofCPU:))),
                            "pageNode": integer(residence.flatMap(mainNode)),
                            "isOpen": .bool(queue.isOpen),
                            "isReceiving": .bool(queue.isReceiving),
                            "packetsIn": .integer(Int64(clamping: queue.in.packets)),
                            "packetsOut": .integer(Int64(clamping: queue.out.packets)),
                            "busyCycles": .integer(Int64(clamping: queue.busyCycles)),
                            "threadCycles": .integer(Int64(clamping: cycles)),
                            "busyShare": .number(
                                cycles == 0 ? 0 : Double(queue.busyCycles) / Double(cycles)),
                        ]))
                }
            }
            return .object(["queues": .array(rows)])
        }
    }

    /// The node that most pages lie on.
    private static func mainNode(_ residence: PageResidence) -> Int? {
        residence.pageCounts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
    }

    private static func headers(_ clearing: CounterClearing) -> ControlCommand {
        ControlCommand(
            "headers",
            help: "Each header queue: its slots, who has them, and how often none was free."
        ) { call throws(ControlFailure) in
            let reading = clearing.statistics(call.joined)
            var rows: [JSONValue] = []
            for port in reading.ports {
                guard let state = port.headerQueue else { continue }
                rows.append(
                    .object([
                        "port": .string(port.name), "slots": .integer(Int64(state.slotCount)),
                        "slotSize": .integer(Int64(state.slotSize)),
                        "slotReturn": .string(state.slotReturn),
                        "queues": .array(state.queues.map { .integer(Int64($0)) }),
                        "free": .integer(Int64(state.free)),
                        "held": .integer(Int64(max(0, state.held))),
                        "claimed": .integer(Int64(clamping: port.claimedSlots)),
                        "stalls": .integer(
                            Int64(clamping: port.outgoing.whole["noSlot"] ?? 0)),
                        "heldByQueue": .array(
                            state.heldByQueue.map { .integer(Int64($0)) }),
                        "isBroken": .bool(state.isBroken),
                    ]))
            }
            return .object(["headerQueues": .array(rows)])
        }
    }

    private static let features = ControlCommand(
        "features", help: "What a port offers its driver, and what the driver agreed to.",
        arguments: [.init("port", .string, isRequired: true, help: "The name of the port.")]
    ) { call throws(ControlFailure) in
        let states = call.joined.portStates
        guard let number = try index(of: call.text("port"), among: states) else { return .null }
        let state = states[number]
        func names(_ bits: UInt64?) -> JSONValue {
            bits.map { .array(FeatureNames.names(of: $0).map { .string($0) }) } ?? .null
        }
        return .object([
            "port": .string(state.name), "offered": hex(state.offeredFeatures),
            "offeredNames": names(state.offeredFeatures),
            "negotiated": hex(state.negotiatedFeatures),
            "negotiatedNames": names(state.negotiatedFeatures),
        ])
    }

    private static let macTable = ControlCommand(
        "mac-table", help: "Ethernet addresses that are known, and their ports.",
        arguments: [.init("port", .string, help: "Only addresses at this port.")]
    ) { call throws(ControlFailure) in
        let wanted = call.text("port")
        _ = try index(of: wanted, among: call.joined.portStates)
        let entries = call.joined.addresses.filter { wanted == nil || $0.port == wanted }
        return .object([
            "addresses": .array(
                entries.sorted { ($0.port, $0.address) < ($1.port, $1.address) }.map {
                    ["address": .string($0.address), "port": .string($0.port)]
                })
        ])
    }

    // MARK: The program

    /// Reads and changes the level of the log.
    public static func logLevel(_ access: LogLevelAccess) -> ControlCommand {
        ControlCommand(
            "log-level", help: "The level of the log; with an argument, sets it.",
            arguments: [
                .init(
                    "level", .string,
                    help: "One of \(access.names.joined(separator: ", ")).")
            ]
        ) { call throws(ControlFailure) in
            if let level = call.text("level") {
                guard access.names.contains(level) else {
                    throw ControlFailure(
                        "\"\(level)\" is not one of \(access.names.joined(separator: ", "))",
                        about: "level")
                }
                access.set(level)
            }
            return ["level": .string(access.get())]
        }
    }

    /// The place of a port; nil for nil.
    static func index(
        of name: String?, among states: [PortState]
    ) throws(ControlFailure) -> Int? {
        guard let name else { return nil }
        guard let index = states.firstIndex(where: { $0.name == name }) else {
            let known = states.map(\.name).joined(separator: ", ")
            throw ControlFailure(
                "there is no port \"\(name)\"" + (known.isEmpty ? " at all" : " among \(known)"),
                about: "port")
        }
        return index
    }

    private static func hex(_ bits: UInt64?) -> JSONValue {
        bits.map { .string("0x" + String($0, radix: 16)) } ?? .null
    }

    private static func integer(_ value: Int?) -> JSONValue {
        value.map { .integer(Int64($0)) } ?? .null
    }
}
