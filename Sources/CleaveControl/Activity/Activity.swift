// What a switch does: rates and shares of the time between two snapshots. `top` and the page show
// these values, and compute nothing of their own.

import CleavePorts
import CleaveSwitch

/// What a switch did between two snapshots. Every figure comes from registered counters.
package struct Activity: Codable, Equatable, Sendable {
    /// Changes when a field changes its meaning or goes.
    package static let schema = "cleave-vhost/activity/1"

    package var schema = Activity.schema
    /// The end of the time, on the switch's monotonic clock, and its length, both in seconds.
    package var time: Double
    package var seconds: Double
    package var ports: [Row] = []
    package var queues: [Row] = []
    package var threads: [Thread] = []

    /// Packets one way.
    package struct Direction: Codable, Equatable, Sendable {
        /// Since the counters were last cleared.
        package var packets: UInt64 = 0
        package var bytes: UInt64 = 0
        package var dropped: UInt64 = 0
        package var packetsPerSecond = 0.0
        /// Of frames without their preamble, checksum and gap.
        package var bitsPerSecond = 0.0
        package var droppedPerSecond = 0.0
        /// Packets of a burst; nil if there was none, or none is counted.
        package var burstFill: Double?
        /// By reason, those that occurred in this time: packets per second.
        package var drops: [String: Double] = [:]
    }

    /// A port, or one of its queue pairs. `in` is into the switch, what a guest sent.
    package struct Row: Codable, Equatable, Sendable {
        package var port: String
        package var type: String
        /// nil for the whole port.
        package var queue: Int?
        /// The switch thread of a queue; nil for a port.
        package var thread: Int?
        package var isOpen: Bool
        package var `in`: Direction
        package var out: Direction
        /// The share of one thread's time in which packets moved that came in here; a port's queues
        /// may have more than one thread between them.
        package var busyShare = 0.0
        /// Cycles of that time for each packet that came in; nil if none did.
        package var cyclesPerPacket: Double?
        /// Of the packets out, those whose headers went to the header queue; nil if none can.
        package var splitShare: Double?
        package var split: UInt64 = 0
        package var whole: UInt64 = 0
        /// Packets placed whole although there is a header queue, by reason, each second.
        package var fallbacks: [String: Double] = [:]
        package var headerQueue: HeaderQueue?
    }

    package struct HeaderQueue: Codable, Equatable, Sendable {
        package var slots: Int
        package var free: Int
        package var isBroken: Bool
    }

    package struct Thread: Codable, Equatable, Sendable {
        package var number: Int
        package var cpu: Int?
        package var busyShare: Double
        package var packetsPerSecond: Double
        package var cyclesPerPacket: Double?
        package var parksPerSecond: Double
    }
}

extension Activity {
    /// - Parameters:
    ///   - now: the later snapshot.
    ///   - before: the earlier one of the same switch.
    ///   - cleared: where totals begin; nil for the start of the switch.
    package init(
        _ now: SwitchStatistics, since before: SwitchStatistics, cleared: SwitchStatistics?
    ) {
        let difference = now.since(before)
        let seconds = max(1e-9, Double(difference.nanoseconds) / 1e9)
        self.init(time: Double(now.nanoseconds) / 1e9, seconds: seconds)
        let rates = CounterReading(difference)
        let totals = CounterReading(cleared.map(now.since) ?? now)
        let cycles = max(1, Double(difference.cycles))
        for port in now.ports {
            var row = Self.row(port, nil, rates, totals, seconds, cycles)
            if let queue = port.headerQueue {
                row.headerQueue = HeaderQueue(
                    slots: queue.slotCount, free: queue.free, isBroken: queue.isBroken)
            }
            ports.append(row)
            // A queue that no driver has opened, and that has never moved anything, says nothing.
            queues += port.queues.map { Self.row(port, $0, rates, totals, seconds, cycles) }
                .filter { $0.isOpen || $0.in.packets + $0.out.packets > 0 }
        }
        for thread in now.threads {
            let labels = [CounterReading.Label.thread: "\(thread.number)"]
            let busy = Double(rates.total("thread_busy_cycles", labels))
            let idle = Double(rates.total("thread_idle_cycles", labels))
            let packets = Double(rates.total("thread_packets", labels))
            threads.append(
                Thread(
                    number: thread.number, cpu: thread.cpu,
                    busyShare: busy + idle > 0 ? busy / (busy + idle) : 0,
                    packetsPerSecond: packets / seconds,
                    cyclesPerPacket: packets > 0 ? busy / packets : nil,
                    parksPerSecond: Double(rates.total("thread_parks", labels)) / seconds))
        }
    }

    private static func row(
        _ port: PortStatistics, _ queue: QueueStatistics?, _ rates: CounterReading,
        _ totals: CounterReading, _ seconds: Double, _ cycles: Double
    ) -> Row {
        var labels = [CounterReading.Label.port: port.name]
        if let queue { labels[.queue] = "\(queue.number)" }
        func direction(_ name: String) -> Direction {
            let own = labels.merging([.direction: name]) { $1 }
            var result = Direction()
            result.packets = totals.total("queue_packets", own)
            result.bytes = totals.total("queue_bytes", own)
            let packets = Double(rates.total("queue_packets", own))
            result.packetsPerSecond = packets / seconds
            result.bitsPerSecond = Double(rates.total("queue_bytes", own)) * 8 / seconds
            let bursts = Double(rates.total("queue_bursts", own))
            if bursts > 0 && packets > 0 { result.burstFill = packets / bursts }
            // What the switch drops, it drops at a port.
            for counter in queue == nil ? ["queue_dropped", "port_dropped"] : ["queue_dropped"] {
                result.dropped += totals.total(counter, own)
                result.drops.merge(rates.rates(counter, own, seconds), uniquingKeysWith: +)
            }
            result.droppedPerSecond = result.drops.values.reduce(0, +)
            return result
        }
        var row = Row(
            port: port.name, type: port.type.rawValue, queue: queue?.number,
            thread: queue?.thread, isOpen: queue?.isOpen ?? port.isConnected,
            in: direction("in"), out: direction("out"))
        let busy = Double(rates.total("queue_busy_cycles", labels))
        row.busyShare = busy / cycles
        let packets = row.in.packetsPerSecond * seconds
        if packets > 0 { row.cyclesPerPacket = busy / packets }
        row.split = totals.total("queue_split", labels)
        row.whole = totals.total("queue_fallback", labels)
        row.fallbacks = rates.rates("queue_fallback", labels, seconds)
        let split = Double(rates.total("queue_split", labels)) / seconds
        let whole = row.fallbacks.values.reduce(0, +)
        if split + whole > 0 { row.splitShare = split / (split + whole) }
        return row
    }
}

extension CounterReading {
    /// By reason, those that are not 0.
    fileprivate func rates(
        _ name: String, _ labels: [Label: String], _ seconds: Double
    ) -> [String: Double] {
        var rates: [String: Double] = [:]
        for (key, value) in totals(name, by: [.reason], labels) where value > 0 {
            rates[key[0], default: 0] += Double(value) / seconds
        }
        return rates
    }
}
