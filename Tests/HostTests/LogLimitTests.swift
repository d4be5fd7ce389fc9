import Testing

@testable import CleaveHost

@Suite("How many lines one guest may cause")
struct LogLimitTests {
    private let second = LogLimit.interval
    private let burst = Int(LogLimit.burst)

    @Test("Some come at once, then one in a second; what is left out is told with the next")
    func rate() {
        let limit = LogLimit("port a")
        let start = 1000 * second
        for _ in 0..<burst { #expect(limit.admit(at: start) == 0) }
        for _ in 0..<10_000 { #expect(limit.admit(at: start) == nil) }
        #expect(limit.admit(at: start + second - 1) == nil)
        #expect(limit.admit(at: start + second) == 10_001)
        #expect(limit.admit(at: start + second) == nil)
        #expect(limit.admit(at: start + 2 * second) == 1)
        #expect(limit.leftOut == 10_002)
    }

    @Test("However long nothing was said, no more come at once")
    func silence() {
        let limit = LogLimit("port a")
        for round in 1...3 as ClosedRange<UInt64> {
            let now = round * 1_000_000 * second
            let said = (0..<1000).count { _ in limit.admit(at: now) != nil }
            #expect(said == burst)
        }
    }

    @Test("When the flood is over, a line may come that tells of it, once")
    func end() {
        let limit = LogLimit("port a")
        #expect(limit.tell(at: 5 * second) == nil)
        for _ in 0..<burst + 7 { _ = limit.admit(at: 5 * second) }
        #expect(limit.tell(at: 5 * second) == nil)
        #expect(limit.tell(at: 6 * second) == 7)
        #expect(limit.tell(at: 9 * second) == nil)
        #expect(limit.words(7) == "port a: 7 lines left out, since there were too many")
        #expect(LogLimit.phrase(1) == "1 line left out, since there were too many")
    }
}
