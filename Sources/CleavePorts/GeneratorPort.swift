// A traffic generator: a port whose packets come in as fast as they are taken, or at a rate. What
// goes out of it is counted and thrown away.

import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// What a generator port is made from.
public struct GeneratorPortConfiguration: Sendable, Equatable {
    /// The port's name in commands and counters.
    public var name: String
    /// Sizes and headers, in the syntax of `TrafficProfile`: `64`, `imix`, `1500/tcp6+vlan`.
    public var traffic = "64"
    /// Flows that alternate, 1 to 65536. All packets of one come in at the same queue.
    public var flows = 1
    /// Packets that come in at all queues together; nil: no end.
    public var count: Int?
    /// Packets per second of all queues together; nil: as fast as they are taken.
    public var packetsPerSecond: Int?
    /// Queues, 1 to 256; none of them may be without a flow.
    public var queues = 1
    /// The addresses in the frames, 6 bytes each, from and to; nil: those of the profile.
    public var source: [UInt8]?
    public var destination: [UInt8]?
    /// NUMA node of the packets' memory; nil for any.
    public var node: Int?

    public init(name: String) { self.name = name }

    func check() throws(SetupError) {
        do throws(TrafficProfileError) { _ = try TrafficProfile.parse(traffic) } catch {
            throw SetupError("port \(name): \(error)")
        }
        guard (1...65536).contains(flows) else {
            throw SetupError("port \(name): \(flows) flows: need 1 to 65536")
        }
        if let count, count < 1 {
            throw SetupError("port \(name): \(count) packets: need 1 or more")
        }
        if let packetsPerSecond, !(1...1_000_000_000).contains(packetsPerSecond) {
            throw SetupError(
                "port \(name): \(packetsPerSecond) packets per second: need 1 to 1000000000")
        }
        guard (1...256).contains(queues) else {
            throw SetupError("port \(name): \(queues) queues: need 1 to 256")
        }
        guard queues <= flows else {
            throw SetupError(
                "port \(name): queues \(queues), flows \(flows): each queue needs a flow")
        }
        for (what, address) in [("source", source), ("destination", destination)] {
            if let address, address.count != 6 {
                throw SetupError("port \(name): the \(what) is not an address of 6 bytes")
            }
        }
        if let source, source[0] & 1 != 0 {
            throw SetupError("port \(name): the source is not the address of one station")
        }
        if let node {
            do { try NUMATopology.current().validate(node: node) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
    }
}

/// A port that generates packets. The same settings give the same packets.
///
/// So many packets lie in memory that every flow has one, and at least 256; they come in again and
/// again, so TCP sequence numbers repeat.
public final class GeneratorPort: UnattendedPort {
    public let configuration: GeneratorPortConfiguration
    public var name: String { configuration.name }
    public var type: PortType { .generator }
    public var queues: [any PortQueue] { replays }

    private let replays: [ReplayQueue]
    private weak var host: (any PortHost)?

    /// Packets in memory, at least, and at most bytes of them; flows come first.
    private static let packetCount = 256
    private static let byteLimit = 8 << 20

    public init(_ configuration: GeneratorPortConfiguration) throws(SetupError) {
        try configuration.check()
        self.configuration = configuration
        replays = try ReplayQueue.make(configuration.queues, ofPort: configuration.name)
    }

    /// Generates the packets; from now on they come in.
    public func open(for host: any PortHost) throws(SetupError) {
        let pool = try makePool()
        self.host = host
        let schedule = ReplaySchedule(
            packetsPerSecond: configuration.packetsPerSecond, queueCount: configuration.queues)
        host.whileHeld(by: self) {
            for (index, queue) in replays.enumerated() {
                queue.start(
                    pool: pool, packets: share(of: index, in: pool), limit: limit(of: index),
                    schedule: schedule)
                queue.open()
            }
        }
    }

    private func makePool() throws(SetupError) -> PacketPool {
        do {
            let profile = try TrafficProfile.parse(configuration.traffic)
            let largest = profile.byteCounts.max() ?? 1
            // The last packet is followed by the first: a whole number of rounds of the flows.
            let wanted = min(Self.packetCount, max(1, Self.byteLimit / largest))
            let rounds = (wanted + configuration.flows - 1) / configuration.flows
            let count = rounds * configuration.flows
            guard count <= PacketPool.maximumGeneratedByteCount / largest else {
                throw SetupError(
                    "\(configuration.flows) flows of \(profile.name) are more than "
                        + "\(PacketPool.maximumGeneratedByteCount) bytes")
            }
            var packets = profile.packets(count: count, flows: configuration.flows, seed: 1)
            for index in packets.indices {
                // Checksums of IP, TCP and UDP do not cover them.
                if let address = configuration.destination {
                    packets[index].replaceSubrange(0..<6, with: address)
                }
                if let address = configuration.source {
                    packets[index].replaceSubrange(6..<12, with: address)
                }
            }
            return try PacketPool(name: profile.name, packets: packets, node: configuration.node)
        } catch { throw SetupError("port \(name): \(error)") }
    }

    /// The packets that come in at queue `index`: those of flow `index`, `index + queues`, ...
    private func share(of index: Int, in pool: PacketPool) -> [TxPacket] {
        pool.packets { $0 % configuration.flows % configuration.queues == index }
    }

    /// How many of them come in.
    private func limit(of index: Int) -> Int {
        guard let count = configuration.count else { return .max }
        let rest = index < count % configuration.queues ? 1 : 0
        return count / configuration.queues + rest
    }

    public func close() {
        host?.whileHeld(by: self) { for queue in replays { queue.stop() } }
        host = nil
    }

    public var ownCounters: PortCounters { PortCounters() }

    /// What comes in, for people: `64-byte frames, 4 flows, 1000 packets per second`.
    public var summary: String {
        let rate = configuration.packetsPerSecond.map { "\($0) packets per second" }
        let count = configuration.count.map { "\($0) packets" }
        let flows = configuration.flows == 1 ? "1 flow" : "\(configuration.flows) flows"
        return ["traffic \(configuration.traffic)", flows, rate ?? "unlimited rate", count]
            .compactMap { $0 }.joined(separator: ", ")
    }
}
