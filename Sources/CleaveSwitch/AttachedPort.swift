// What a switch keeps for each of its ports.

import CleavePorts
import CleaveRings

/// A port in its place. For the control thread.
final class AttachedPort {
    /// Its place among all ports: in the tables of threads, in learned addresses, in packets that
    /// wait. Another port may have it only when none of these names it any more.
    let number: Int
    /// Differs for each port that the switch has ever had.
    let serial: UInt64
    let port: any Port
    var queues: [SwitchQueue] = []
    /// Which queues were open when the threads were told last.
    var openQueues: [Bool] = []
    var wasConnected = false
    let blocks: PortCounterBlocks
    let limiter: RateLimiter?

    init(
        number: Int, serial: UInt64, _ port: any Port, blocks: PortCounterBlocks,
        limiter: RateLimiter?
    ) {
        (self.number, self.serial) = (number, serial)
        self.port = port
        self.blocks = blocks
        self.limiter = limiter
    }

    /// What it has done, with what the switch dropped at it. Any thread may be writing meanwhile.
    var counters: PortCounters {
        var counters = port.counters
        counters.incoming.dropped.merge(
            blocks.drops(inbound: true, withZeros: false), uniquingKeysWith: +)
        counters.outgoing.dropped.merge(
            blocks.drops(inbound: false, withZeros: false), uniquingKeysWith: +)
        return counters
    }
}

/// What the threads count at one port: a block for each of them.
final class PortCounterBlocks {
    // SAFETY: memory that `init` allocates and `deinit` gives back; a switch keeps it for as long
    // as its threads.
    private let memory: UnsafeMutableRawPointer
    let blocks: [SwitchCounterBlock]

    init(threadCount: Int) {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: threadCount * SwitchCounterBlock.byteCount,
            alignment: CacheLine.byteCount)
        self.memory = memory
        blocks = (0..<threadCount).map {
            SwitchCounterBlock(memory + $0 * SwitchCounterBlock.byteCount)
        }
        clear()
    }

    deinit { memory.deallocate() }

    /// Begins anew, for another port. While no thread counts.
    func clear() { for block in blocks { block.clear() } }

    func read(_ event: SwitchEvent) -> UInt64 { blocks.reduce(0) { $0 + $1.read(event) } }

    func drops(inbound: Bool, withZeros: Bool) -> [String: UInt64] {
        var drops: [String: UInt64] = [:]
        for reason in SwitchDropReason.allCases where reason.isInbound == inbound {
            let count = blocks.reduce(0) { $0 + $1.read(reason) }
            if count > 0 || withZeros { drops[reason.name] = count }
        }
        return drops
    }
}

/// Ports that are no more, together: totals of a switch do not shrink when one goes.
public struct RemovedPorts: Codable, Equatable, Sendable {
    /// All that went through them one way.
    public struct Direction: Codable, Equatable, Sendable {
        public var packets: UInt64 = 0
        /// Bytes of those packets, without virtio-net headers.
        public var bytes: UInt64 = 0
        /// Packets that went no further, by reason. Only what occurred has an entry.
        public var dropped: [String: UInt64] = [:]

        public init() {}

        fileprivate mutating func add(_ counters: QueueCounters) {
            packets += counters.packets
            bytes += counters.bytes
            dropped.merge(counters.dropped.filter { $0.value > 0 }, uniquingKeysWith: +)
        }

        fileprivate mutating func subtract(
            packets: UInt64, bytes: UInt64, dropped: [String: UInt64]
        ) {
            self.packets -= min(packets, self.packets)
            self.bytes -= min(bytes, self.bytes)
            for (reason, count) in dropped {
                guard let own = self.dropped[reason] else { continue }
                self.dropped[reason] = own > count ? own - count : nil
            }
        }
    }

    /// How many there were.
    public var count: UInt64 = 0
    /// Into the switch, and out of it.
    public var `in` = Direction()
    public var out = Direction()

    public init() {}

    mutating func add(_ port: PortCounters) {
        count += 1
        `in`.add(port.incoming)
        out.add(port.outgoing)
    }

    /// What has come since an earlier value.
    /// - Parameter gone: ports that were there then and are among these now, as they were then.
    func since(_ old: RemovedPorts, gone: [PortStatistics]) -> RemovedPorts {
        var result = self
        result.count -= old.count
        result.in.subtract(packets: old.in.packets, bytes: old.in.bytes, dropped: old.in.dropped)
        result.out.subtract(
            packets: old.out.packets, bytes: old.out.bytes, dropped: old.out.dropped)
        for port in gone {
            let (incoming, outgoing) = (port.incoming, port.outgoing)
            result.in.subtract(
                packets: incoming.packets, bytes: incoming.bytes,
                dropped: incoming.dropped.merging(port.droppedIn, uniquingKeysWith: +))
            result.out.subtract(
                packets: outgoing.packets, bytes: outgoing.bytes,
                dropped: outgoing.dropped.merging(port.droppedOut, uniquingKeysWith: +))
        }
        return result
    }
}
