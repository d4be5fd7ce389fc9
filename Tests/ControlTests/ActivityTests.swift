import CleavePorts
import CleaveSwitch
import Testing

@testable import CleaveControl

@Suite("Activity between two snapshots")
struct ActivityTests {
    private var before: SwitchStatistics { MetricsTextTests.statistics() }

    /// Two seconds later, on a clock of 2 GHz.
    private var after: SwitchStatistics {
        var after = before
        after.nanoseconds += 2_000_000_000
        after.cycles += 4_000_000_000
        after.ports[0].queues[0].isOpen = true
        after.ports[0].queues[0].in.packets += 2000
        after.ports[0].queues[0].in.bytes += 200_000
        after.ports[0].queues[0].in.bursts += 100
        after.ports[0].queues[0].busyCycles += 1_000_000_000
        after.ports[0].queues[1].out.packets += 800
        after.ports[0].queues[1].out.split += 600
        after.ports[0].queues[1].out.whole["noSlot", default: 0] += 200
        after.ports[0].queues[1].out.dropped["noBuffer", default: 0] += 10
        after.ports[0].droppedIn["samePort", default: 0] += 4
        after.ports[0].headerQueue = HeaderQueueState()
        after.ports[0].headerQueue?.slotCount = 256
        after.ports[0].headerQueue?.free = 200
        after.threads[0].busyCycles += 1_000_000_000
        after.threads[0].idleCycles += 3_000_000_000
        after.threads[0].packets += 2800
        after.threads[0].parks += 10
        return after
    }

    @Test("Rates, shares and fills are what the counts say")
    func rates() throws {
        let activity = Activity(after, since: before, cleared: before)
        #expect(activity.seconds == 2 && activity.ports.count == 2)
        let port = activity.ports[0]
        #expect(port.in.packetsPerSecond == 1000 && port.in.bitsPerSecond == 800_000)
        #expect(port.in.burstFill == 20 && port.out.packetsPerSecond == 400)
        #expect(port.busyShare == 0.25 && port.cyclesPerPacket == 500_000)
        #expect(port.splitShare == 0.75 && port.fallbacks == ["noSlot": 100])
        #expect(port.in.drops == ["samePort": 2] && port.out.drops == ["noBuffer": 5])
        #expect(port.in.droppedPerSecond == 2 && port.out.droppedPerSecond == 5)
        #expect(port.headerQueue?.free == 200 && port.headerQueue?.slots == 256)
        #expect(port.in.packets == 2000 && port.out.packets == 800 && port.split == 600)
        let queues = activity.queues.filter { $0.port == "guest" }
        #expect(queues.map(\.queue) == [0, 1] && queues.map(\.isOpen) == [true, false])
        #expect(queues[0].in.packetsPerSecond == 1000 && queues[1].in.packetsPerSecond == 0)
        #expect(queues[1].in.burstFill == nil && queues[1].cyclesPerPacket == nil)
        #expect(queues[1].splitShare == 0.75 && queues[0].splitShare == nil)
        let thread = try #require(activity.threads.first)
        #expect(thread.busyShare == 0.25 && thread.packetsPerSecond == 1400)
        #expect(thread.parksPerSecond == 5)
    }

    @Test("Totals without a clearing are those of the registry, so of every other view")
    func totals() {
        let activity = Activity(after, since: before, cleared: nil)
        let reading = CounterReading(after)
        for port in activity.ports {
            for (direction, counts) in [("in", port.in), ("out", port.out)] {
                let labels = [
                    CounterReading.Label.port: port.port, .direction: direction,
                ]
                #expect(counts.packets == reading.total("queue_packets", labels))
                #expect(counts.bytes == reading.total("queue_bytes", labels))
                #expect(
                    counts.dropped
                        == reading.total("queue_dropped", labels)
                        + reading.total("port_dropped", labels))
            }
            #expect(port.whole == reading.total("queue_fallback", [.port: port.port]))
        }
    }

    @Test("A port that came since, one that is gone, and no time at all give no nonsense")
    func edges() {
        var one = before
        one.ports.removeLast()
        let came = Activity(after, since: one, cleared: one)
        #expect(came.ports.count == 2 && came.ports[1].in.packets > 0)
        let gone = Activity(one, since: before, cleared: nil)
        #expect(gone.ports.count == 1)
        let still = Activity(before, since: before, cleared: nil)
        for port in still.ports {
            #expect(port.in.packetsPerSecond == 0 && port.busyShare == 0)
            #expect(port.in.burstFill == nil && port.in.drops.isEmpty)
        }
    }

    @Test("The feed keeps so many samples, and tells each reader what it has not seen")
    func feed() {
        let feed = ActivityFeed(seconds: 1)
        #expect(feed.news(after: 0).activity == nil && feed.news(after: 0).number == 0)
        let sample = Activity(after, since: before, cleared: nil)
        for _ in 0..<ActivityFeed.limit + 5 { feed.append(sample) }
        let all = feed.news(after: 0)
        #expect(all.number == ActivityFeed.limit + 5 && all.points.count == ActivityFeed.limit)
        #expect(all.points.first?.number == 6 && all.activity == sample)
        #expect(feed.news(after: all.number - 2).points.map(\.number) == [304, 305])
        #expect(feed.news(after: all.number).points.isEmpty)
        feed.fail("gone")
        #expect(feed.news(after: 0).problem == "gone")
        feed.append(sample)
        #expect(feed.news(after: 0).problem == nil)
    }
}
