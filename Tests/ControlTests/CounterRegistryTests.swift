import CleaveControl
import CleaveHost
import CleavePorts
import CleaveSwitch
import CleaveVirtioNet
import Testing

@Suite("The registry of counters")
struct CounterRegistryTests {
    /// A port of each type.
    private func everyPort() throws -> [any Port] {
        var file = PcapPortConfiguration(name: "file")
        file.output = "/nowhere"
        return [
            try VhostUserPort(VhostUserPortConfiguration(name: "guest", path: "/nowhere")),
            try TapPort(TapPortConfiguration(name: "tap", interface: "none0")),
            try AFPacketPort(AFPacketPortConfiguration(name: "packet", interface: "none1")),
            try PcapPort(file),
            try GeneratorPort(GeneratorPortConfiguration(name: "made")),
        ]
    }

    private func statistics() throws -> SwitchStatistics {
        try Switch(SwitchConfiguration(), ports: everyPort()) { _ in }.statistics
    }

    @Test("Names, labels and units are as Prometheus wants them, and no name comes twice")
    func names() {
        let names = CounterRegistry.all.map(\.name)
        #expect(Set(names).count == names.count)
        for counter in CounterRegistry.all {
            #expect(counter.name.wholeMatch(of: /[a-z][a-z0-9]*(_[a-z0-9]+)*/) != nil)
            #expect(!counter.name.hasSuffix("_total"))
            if let unit = counter.unit { #expect(counter.name.hasSuffix("_" + unit.rawValue)) }
            #expect(counter.help.hasSuffix(".") && counter.help.count < 140)
            #expect(Set(counter.labels).count == counter.labels.count)
        }
    }

    @Test("Every reason for a drop or a fallback in the code has a counter, and none has another")
    func reasons() throws {
        let statistics = try statistics()
        func shown(_ name: String, _ direction: String?, _ port: String) throws -> Set<String> {
            let counter = try #require(CounterRegistry.named(name))
            let (first, last) = (0, counter.labels.count - 1)
            return Set(
                counter.samples(statistics).filter {
                    $0.labels[first] == port
                        && (direction == nil || $0.labels.contains(direction!))
                }.map { $0.labels[last] })
        }
        let inbound: Set = [
            "samePort", "reservedAddress", "groupSource", "nowhere", "rateLimited",
        ]
        let outbound = Set(SwitchDropReason.allCases.map(\.name)).subtracting(inbound)
        for port in statistics.ports {
            #expect(try shown("port_dropped", "in", port.name) == inbound)
            #expect(try shown("port_dropped", "out", port.name) == outbound)
            #expect(try shown("queue_dropped", "in", port.name) == Set(port.type.inboundDrops))
            #expect(try shown("queue_dropped", "out", port.name) == Set(port.type.outboundDrops))
        }
        #expect(
            try shown("queue_dropped", "in", "guest") == Set(TxDropReason.allCases.map(\.name)))
        #expect(
            try shown("queue_dropped", "out", "guest") == Set(DropReason.allCases.map(\.name)))
        #expect(
            try shown("queue_fallback", "out", "guest")
                == Set(FallbackReason.allCases.map(\.name)))
        #expect(
            try shown("header_queue_refused", nil, "guest")
                == Set(HeaderQueueRefusal.allCases.map(\.name)))
        let events = try statistics.ports.map { try shown("port_events", nil, $0.name) }
            .reduce(Set()) { $0.union($1) }
        #expect(events == Set(PortEvent.allCases.map(\.rawValue)))
    }

    @Test("Every number of a snapshot comes out of exactly one counter")
    func everyNumber() throws {
        // Each count gets a number of its own; each is to be found in one sample.
        var statistics = try statistics()
        var next: UInt64 = 1_000_000
        func fresh() -> UInt64 {
            next += 1
            return next
        }
        func fill(_ counts: inout [String: UInt64]) {
            for key in counts.keys { counts[key] = fresh() }
        }
        func fill(_ queue: inout QueueCounters, only: Set<PartialKeyPath<QueueCounters>>?) {
            for count in QueueCounters.counts where only?.contains(count) ?? true {
                queue[keyPath: count] = fresh()
            }
            fill(&queue.dropped)
            if only == nil { fill(&queue.whole) }
        }
        let inbound: Set<PartialKeyPath<QueueCounters>> = [
            \.packets, \.bytes, \.bursts, \.emptyPolls, \.calls, \.lostCalls, \.readErrors,
        ]
        for index in statistics.ports.indices {
            for queue in statistics.ports[index].queues.indices {
                fill(&statistics.ports[index].queues[queue].in, only: inbound)
                var out = statistics.ports[index].queues[queue].out
                fill(&out, only: nil)
                out.readErrors = 0
                statistics.ports[index].queues[queue].out = out
                statistics.ports[index].queues[queue].in.whole = [:]
                statistics.ports[index].queues[queue].busyCycles = fresh()
            }
            fill(&statistics.ports[index].droppedIn)
            fill(&statistics.ports[index].droppedOut)
            fill(&statistics.ports[index].switched)
            fill(&statistics.ports[index].events)
            fill(&statistics.ports[index].headerQueueRefusals)
            fill(&statistics.ports[index].vhostUser)
            if statistics.ports[index].type == .vhostUser {
                statistics.ports[index].claimedSlots = fresh()
            }
        }
        for index in statistics.threads.indices {
            statistics.threads[index].busyCycles = fresh()
            statistics.threads[index].idleCycles = fresh()
            statistics.threads[index].packets = fresh()
            statistics.threads[index].parks = fresh()
        }
        statistics.removed.count = fresh()
        for direction in [\RemovedPorts.in, \.out] {
            statistics.removed[keyPath: direction].packets = fresh()
            statistics.removed[keyPath: direction].bytes = fresh()
            statistics.removed[keyPath: direction].dropped = ["noRoom": fresh()]
        }
        statistics.program["clientsDropped"] = fresh()
        statistics.cyclesPerSecond = 1
        let values = CounterRegistry.all.flatMap { $0.samples(statistics) }.map(\.value)
            .filter { $0 > 1_000_000 }
        // read errors of `out` took a number, and were zeroed.
        let given = Set(1_000_001...next)
        #expect(Set(values).count == values.count)
        #expect(
            given.subtracting(values).count == statistics.ports.reduce(0) { $0 + $1.queues.count })
    }

    @Test("A difference has what happened between, and states as they are")
    func difference() throws {
        var before = try statistics()
        before.ports[0].queues[0].out.packets = 10
        before.ports[0].queues[0].out.dropped["noBuffer"] = 3
        before.ports[0].events["connects"] = 1
        var after = before
        after.nanoseconds += 7
        after.ports[0].queues[0].out.packets = 25
        after.ports[0].queues[0].out.dropped["noBuffer"] = 4
        after.ports[0].events["connects"] = 3
        after.ports[0].isConnected = true
        var state = HeaderQueueState()
        state.slotCount = 64
        state.free = 60
        after.ports[0].headerQueue = state
        let difference = after.since(before)
        #expect(difference.nanoseconds == 7)
        #expect(difference.ports[0].queues[0].out.packets == 15)
        #expect(difference.ports[0].queues[0].out.dropped["noBuffer"] == 1)
        #expect(difference.ports[0].events["connects"] == 2)
        #expect(difference.ports[0].isConnected && difference.ports[0].headerQueue == state)
        // A port that came again under its name has all its counts.
        var again = after
        again.ports[0].queues[0].out.packets = 4
        #expect(again.since(after).ports[0].queues[0].out.packets == 4)
        #expect(again.since(after).ports[0].queues[0].in.packets == 0)
        // And one that was not there before.
        var fewer = before
        fewer.ports.removeFirst()
        #expect(after.since(fewer).ports[0].queues[0].out.packets == 25)
    }
}
