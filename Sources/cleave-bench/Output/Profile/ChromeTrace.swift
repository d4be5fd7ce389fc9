import CleaveProfiling
import CleaveVirtioNet

/// The last measured turns of each RQ as trace events: what Perfetto and Chrome's tracing page
/// read. A row for each RQ, stages inside turns.
///
/// A stage that comes twice in a turn stands there once, so a turn's stages touch one another and
/// its length is their sum.
enum ChromeTrace {
    static func text(_ runs: [ProfileRun]) -> String {
        var events: [JSONValue] = []
        for (process, run) in runs.enumerated() {
            events.append(name("process_name", run.name, process, 0))
            // Runs of one plan alternate, so each has a beginning of its own.
            let first = run.traces.joined().map(\.start).min() ?? 0
            for (index, traces) in run.traces.enumerated() {
                let number = index < run.rqs.count ? run.rqs[index].number ?? index : index
                events.append(name("thread_name", "RQ \(number)", process, index))
                let clock = Clock(start: first, perMicrosecond: run.counterHertz / 1e6)
                for trace in traces { events += Self.events(trace, clock, process, index) }
            }
        }
        return JSONValue.object([
            ("displayTimeUnit", .string("ns")), ("traceEvents", .array(events)),
        ]).text + "\n"
    }

    private struct Clock {
        let start: UInt64
        let perMicrosecond: Double

        func microseconds(_ cycles: UInt64) -> Double { Double(cycles) / perMicrosecond }
    }

    private static func events(
        _ trace: ProfileBlock.Trace, _ clock: Clock, _ process: Int, _ thread: Int
    ) -> [JSONValue] {
        func event(
            _ name: String, _ start: UInt64, _ cycles: UInt64, _ arguments: [(String, JSONValue)]
        ) -> JSONValue {
            .object([
                ("name", .string(name)), ("ph", .string("X")),
                ("ts", .number(clock.microseconds(start))),
                ("dur", .number(clock.microseconds(cycles))),
                ("pid", .int(process)), ("tid", .int(thread)), ("args", .object(arguments)),
            ])
        }
        let start = trace.start &- clock.start
        let turn = trace.cycles.reduce(UInt64(0)) { $0 + UInt64($1) }
        var events = [
            event(
                "turn", start, turn,
                [
                    ("packets", .int(trace.packets)), ("bytes", .int(trace.bytes)),
                    ("cycles", .unsigned(turn)),
                ])
        ]
        var position = start
        for (stage, cycles) in zip(RxStage.allCases, trace.cycles) where cycles > 0 {
            let length = UInt64(cycles)
            events.append(event(stage.name, position, length, [("cycles", .unsigned(length))]))
            position &+= length
        }
        return events
    }

    private static func name(
        _ kind: String, _ text: String, _ process: Int, _ thread: Int
    ) -> JSONValue {
        .object([
            ("name", .string(kind)), ("ph", .string("M")), ("pid", .int(process)),
            ("tid", .int(thread)), ("args", .object([("name", .string(text))])),
        ])
    }
}
