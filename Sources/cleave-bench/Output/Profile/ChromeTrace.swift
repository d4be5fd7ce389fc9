import CleaveBench
import CleaveProfiling
import CleaveVirtioNet

/// The last measured polls of each RQ as trace events, for Perfetto and Chrome's tracing page. A
/// row for each RQ, stages inside polls.
///
/// A stage that runs twice in a poll appears once, so a poll's stages touch one another and its
/// length is their sum.
enum ChromeTrace {
    static func text(_ runs: [ProfileRun]) -> String {
        var events: [Event] = []
        for (process, run) in runs.enumerated() {
            events.append(Event("process_name", run.name, process, 0))
            // Runs of one plan alternate, so each has a beginning of its own.
            let first = run.traces.joined().map(\.start).min() ?? 0
            for (index, traces) in run.traces.enumerated() {
                let number = index < run.rqs.count ? run.rqs[index].number ?? index : index
                events.append(Event("thread_name", "RQ \(number)", process, index))
                let clock = Clock(start: first, perMicrosecond: run.counterHertz / 1e6)
                for trace in traces { events += Self.events(trace, clock, process, index) }
            }
        }
        return ResultJSON.text(Document(traceEvents: events))
    }

    private struct Document: Encodable {
        var displayTimeUnit = "ns"
        let traceEvents: [Event]
    }

    /// A name for a process or thread, or a span of time in one.
    private struct Event: Encodable, LeavesOutKeys {
        struct Arguments: Encodable, LeavesOutKeys {
            static let leftOut: Set<String> = ["packets", "bytes", "cycles", "name"]

            var packets: Int?
            var bytes: Int?
            var cycles: UInt64?
            var name: String?
        }

        static let leftOut: Set<String> = ["ts", "dur"]

        let name: String
        let ph: String
        var ts: Double?
        var dur: Double?
        let pid: Int
        let tid: Int
        let args: Arguments

        init(_ kind: String, _ text: String, _ process: Int, _ thread: Int) {
            (name, ph, pid, tid) = (kind, "M", process, thread)
            args = Arguments(name: text)
        }

        init(
            _ name: String, _ start: Double, _ length: Double, _ process: Int, _ thread: Int,
            _ arguments: Arguments
        ) {
            (self.name, ph, ts, dur) = (name, "X", start, length)
            (pid, tid, args) = (process, thread, arguments)
        }
    }

    private struct Clock {
        let start: UInt64
        let perMicrosecond: Double

        func microseconds(_ cycles: UInt64) -> Double { Double(cycles) / perMicrosecond }
    }

    private static func events(
        _ trace: ProfileBlock.Trace, _ clock: Clock, _ process: Int, _ thread: Int
    ) -> [Event] {
        func event(
            _ name: String, _ start: UInt64, _ cycles: UInt64, _ arguments: Event.Arguments
        ) -> Event {
            Event(
                name, clock.microseconds(start), clock.microseconds(cycles), process, thread,
                arguments)
        }
        let start = trace.start &- clock.start
        let poll = trace.cycles.reduce(UInt64(0)) { $0 + UInt64($1) }
        let whole = Event.Arguments(packets: trace.packets, bytes: trace.bytes, cycles: poll)
        var events = [event("poll", start, poll, whole)]
        var position = start
        for (stage, cycles) in zip(RxStage.allCases, trace.cycles) where cycles > 0 {
            let length = UInt64(cycles)
            events.append(event(stage.name, position, length, .init(cycles: length)))
            position &+= length
        }
        return events
    }
}
