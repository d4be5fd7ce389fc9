// Lines of the log that a guest can cause, one kind after another, as often as it can.
import CCleaveHost
import CleaveHost
import CleavePorts
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Testing

@Suite("A log that a guest wants to fill")
struct LogFloodTests {
    /// Says how many lines came of those that a guest caused, and checks that this was told.
    /// - Parameter word: in each line of the kind.
    private func check(
        _ running: RunningSwitch, since start: UInt64, word: String, caused: Int
    ) throws {
        for _ in 0..<400 where !running.log.lines.contains(where: { $0.contains("left out") }) {
            usleep(50_000)
        }
        let events = try #require(running.end()["a"]).events
        let seconds = Int((SystemClock.monotonic - start) / LogLimit.interval) + 1
        let told = running.log.lines.count { $0.contains("left out") }
        #expect(told > 0)
        #expect(running.log.lines.contains { $0.contains(word) })
        #expect(running.log.lines.count <= Int(LogLimit.burst) + 2 * seconds)
        // Beside these it said that somebody came, and perhaps went.
        let all = running.log.lines.count - told + Int(events[.logLinesLeftOut] ?? 0)
        #expect((caused...caused + 8).contains(all), "\(all)")
    }

    @Test("F09 By features, set again and again")
    func features() throws {
        let running = try RunningSwitch(["a"])
        let start = SystemClock.monotonic
        let socket = cleave_unix_connect(running.path("a"))
        try #require(socket >= 0)
        // SET_FEATURES, version 1, 8 bytes: VERSION_1.
        let message: [UInt8] = [2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        for _ in 0..<500 {
            while send(socket, message, message.count, Int32(MSG_NOSIGNAL)) < 0
                && errno == EAGAIN
            { usleep(200) }
        }
        defer { close(socket) }
        try check(running, since: start, word: "features 0x100000000", caused: 500)
    }

    @Test("F09 By header queues that are refused")
    func headerQueues() throws {
        let running = try RunningSwitch(["a"]) { $0.headerQueue = true }
        let start = SystemClock.monotonic
        let guest = try SplitGuest(SplitGuest.Shape())
        try guest.connect(running.path("a"), .messages)
        var request = guest.request
        request.slotSize = 100
        for _ in 0..<300 {
            #expect(throws: SetupError.self) { try guest.front?.setHeaderQueue(request) }
        }
        try check(running, since: start, word: "the header queue is refused", caused: 300)
    }
}
