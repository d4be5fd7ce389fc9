// A capture file: a port that plays recorded packets into the switch, and records what goes out.

import CleaveHost
import CleaveRings
import CleaveTraffic
import CleaveVirtioNet
import Glibc

/// What a port of capture files is made from.
public struct PcapPortConfiguration: Sendable, Equatable {
    /// The port's name in commands and counters.
    public var name: String
    /// A pcap or pcapng file whose packets come in; nil: none do.
    public var input: String?
    /// A pcapng file that what goes out is written to, replacing what is there; nil: it is only
    /// counted.
    public var output: String?
    /// How often the input is played; 0 for ever.
    public var loops = 1
    /// Packets per second that come in at all queues together; nil: as fast as they are taken.
    public var packetsPerSecond: Int?
    /// Queues, 1 to 256. Packets of a flow come in at the same.
    public var queues = 1
    /// NUMA node of the packets' memory; nil for any.
    public var node: Int?

    public init(name: String, input: String? = nil, output: String? = nil) {
        self.name = name
        self.input = input
        self.output = output
    }

    func check() throws(SetupError) {
        guard input != nil || output != nil else {
            throw SetupError("port \(name): needs a capture to play, to write, or both")
        }
        if let input, let output, input == output || Self.isOneFile(input, output) {
            throw SetupError("port \(name): \(input) cannot be played and written at once")
        }
        guard loops >= 0 else { throw SetupError("port \(name): \(loops) loops: need 0 or more") }
        if let packetsPerSecond, !(1...1_000_000_000).contains(packetsPerSecond) {
            throw SetupError(
                "port \(name): \(packetsPerSecond) packets per second: need 1 to 1000000000")
        }
        guard (1...256).contains(queues) else {
            throw SetupError("port \(name): \(queues) queues: need 1 to 256")
        }
    }

    /// Whether two paths lead to one file that is there.
    private static func isOneFile(_ path: String, _ other: String) -> Bool {
        var (status, otherStatus) = (stat(), stat())
        return PathText.withBytes(path) { stat($0, &status) } == 0
            && PathText.withBytes(other) { stat($0, &otherStatus) } == 0
            && status.st_dev == otherStatus.st_dev && status.st_ino == otherStatus.st_ino
    }
}

/// A port whose far side is a file. Packets that its file has no place for in the switch, because
/// they are shorter than an Ethernet header or longer than virtio's largest, are counted once as
/// dropped; those that the capture cut short are played as they are, and counted as an event.
///
/// It is for tests and for finding faults: its threads wait for the disk.
public final class PcapPort: UnattendedPort {
    public let configuration: PcapPortConfiguration
    public var name: String { configuration.name }
    public var type: PortType { .pcap }
    public var queues: [any PortQueue] { fileQueues }

    private let fileQueues: [ReplayQueue]
    private weak var host: (any PortHost)?
    private var unplayable = PortCounters()

    public init(_ configuration: PcapPortConfiguration) throws(SetupError) {
        try configuration.check()
        self.configuration = configuration
        fileQueues = try ReplayQueue.make(configuration.queues, ofPort: configuration.name)
    }

    /// Reads all of the input, and begins the output.
    public func open(for host: any PortHost) throws(SetupError) {
        // Files may have come since the port was made.
        try configuration.check()
        let pool = try readInput(host)
        var file: CaptureOutput?
        if let output = configuration.output {
            let interfaces = (0..<configuration.queues).map { "\(name)-q\($0)" }
            do throws(SetupError) {
                file = try CaptureOutput(path: output, interfaces: interfaces)
            } catch { throw SetupError("port \(name): ", error) }
        }
        self.host = host
        let schedule = ReplaySchedule(
            packetsPerSecond: configuration.packetsPerSecond, queueCount: configuration.queues)
        host.whileHeld(by: self) {
            for (index, queue) in fileQueues.enumerated() {
                let packets = Self.share(of: index, of: configuration.queues, in: pool)
                let (limit, isEndless) = configuration.loops.multipliedReportingOverflow(
                    by: packets.count)
                queue.start(
                    pool: pool, packets: packets,
                    limit: configuration.loops == 0 || isEndless ? .max : limit,
                    schedule: schedule)
                if let file { queue.startWriting(file, interface: index) }
                queue.open()
            }
        }
    }

    private func readInput(_ host: any PortHost) throws(SetupError) -> PacketPool? {
        guard let input = configuration.input else { return nil }
        let file: CaptureFile
        do throws(CaptureError) {
            file = try CaptureFile.read(path: input, allowsPipe: false)
        } catch { throw SetupError("port \(name): ", error) }
        unplayable = PortCounters()
        var packets: [[UInt8]] = []
        for packet in file.packets {
            switch packet.bytes.count {
            case ..<14: unplayable.incoming.dropped[PortDrop.runt.name, default: 0] += 1
            case (KernelQueue.maximumFrameByteCount + 1)...:
                unplayable.incoming.dropped[PortDrop.tooLong.name, default: 0] += 1
            default:
                packets.append(packet.bytes)
                if packet.isTruncated { unplayable.events[.truncated, default: 0] += 1 }
            }
        }
        if let cut = file.cut {
            // [once] When the port opens.
            host.log(
                LogEntry("\(cut); the packets before it are played", level: .warning, port: name))
        }
        guard !packets.isEmpty else {
            let problem =
                file.packets.isEmpty
                ? "the capture holds no packets" : "no packet has the length of a frame"
            throw SetupError("port \(name): ", CaptureError(file: input, problem: problem))
        }
        do throws(PacketInputError) {
            return try PacketPool(name: input, packets: packets, node: configuration.node)
        } catch { throw SetupError("port \(name): ", error) }
    }

    /// The packets of a pool that come in at queue `index`, in order.
    private static func share(of index: Int, of count: Int, in pool: PacketPool?) -> [TxPacket] {
        guard let pool else { return [] }
        return pool.packets { Int(pool.hashes[$0]) % count == index }
    }

    /// Ends the port; what was written is in the file then.
    public func close() {
        host?.whileHeld(by: self) { for queue in fileQueues { queue.stop() } }
        host = nil
    }

    public var ownCounters: PortCounters { unplayable }
}
