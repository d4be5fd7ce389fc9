import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveProgramSupport
import CleaveVirtioNet
import Glibc

/// Reads the RQs of another process for a while.
struct ProfileAttach {
    let processID: Int32
    let seconds: Double
    let period: UInt32
    let output: OutputOptions
    let profile: ProfileOutputOptions

    func run() throws(Failure) {
        guard seconds > 0, seconds <= 86400 else {
            throw .usage("--seconds: \(seconds) is not above 0 and up to 86400")
        }
        // If this program is ended early, it still leaves the other one as it was.
        do { try StopSignal.catchSignals() } catch { throw .run(error.description) }
        let attachment: ProfileAttachment
        do { attachment = try ProfileAttachment(processID: processID) } catch {
            throw .usage("--attach: \(error)")
        }
        let files = try profile.files(json: output.json)
        let started = SystemClock.timestamp
        let runs = measure(attachment)
        let interruption = StopSignal.received.map {
            "interrupted by \(StopSignal.name($0)) before \(seconds) seconds were over"
        }
        Measuring.announce(interruption)
        guard !runs.isEmpty else {
            if let signal = StopSignal.received { throw .stopped(signal: signal) }
            throw .run(
                "process \(processID): none of its \(attachment.blocks.count) RQs carried a packet "
                    + "in a measured poll within \(seconds) seconds")
        }
        let count = attachment.blocks.count
        let facts =
            "process  \(processID), \(count) \(count == 1 ? "RQ" : "RQs"), \(seconds) seconds\n"
        let remarks = attachment.isAlive ? [] : ["process \(processID) has ended meanwhile"]
        let document = ProfileDocument(
            runs, started: started, warnings: remarks, command: ProgramRun.commandLine,
            processID: processID, interrupted: interruption)
        try files.fill(
            { ProfileOutputOptions.text($0, runs, document) },
            table: ProfileText(style: output.style, isQuiet: output.quiet)
                .text(runs, facts: facts, remarks: remarks))
        if let signal = StopSignal.received { throw .stopped(signal: signal) }
    }

    /// A run for each RQ that carried anything; each slice of the time counts as a pass.
    private func measure(_ attachment: ProfileAttachment) -> [ProfileRun] {
        let blocks = attachment.blocks
        let periods = blocks.map { block in
            let before = block.period.load()
            return before == 0 ? period : before
        }
        attachment.measure(period: period)
        var passes = Array(repeating: [ProfileSnapshot](), count: blocks.count)
        var last = blocks.map { ProfileSnapshot($0) }
        for _ in 0..<Self.sliceCount where StopSignal.received == nil {
            pause(seconds / Double(Self.sliceCount))
            let now = blocks.map { ProfileSnapshot($0) }
            for index in blocks.indices { passes[index].append(now[index] - last[index]) }
            last = now
        }
        attachment.restore()
        return blocks.indices.compactMap { index in
            guard let table = StageTable(passes: passes[index]),
                let sum = ProfileSnapshot.sum(passes[index])
            else { return nil }
            let name = "RQ \(sum.number ?? index)"
            return ProfileRun(
                name: "\(name): \(sum.label)", table: table, period: periods[index], rqs: [sum],
                traces: [blocks[index].readTraces()], counterHertz: CycleClock.hertz)
        }
    }

    private static let sliceCount = 7

    /// Sleeps in parts, so that a signal can end it.
    private func pause(_ seconds: Double) {
        var left = seconds
        while left > 0 && StopSignal.received == nil {
            usleep(UInt32(min(left, 0.05) * 1e6))
            left -= 0.05
        }
    }
}
