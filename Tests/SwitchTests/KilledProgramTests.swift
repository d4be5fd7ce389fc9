// The program itself, killed with SIGKILL while packets flow: the next one goes on where it was,
// told by nobody but the memory that the guests keep.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

@Suite("A program that is killed")
struct KilledProgramTests {
    private static func frame(_ number: Int) -> [UInt8] {
        let addresses: [UInt8] = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 0x88, 0xb5]
        let bytes = withUnsafeBytes(of: UInt32(number)) { Array($0) }
        return addresses + bytes + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 90)
    }

    /// Numbers of frames in the order in which they arrived.
    private struct Arrivals {
        /// All below it have arrived.
        var next = 0
        var repeated = 0
        var gaps: [Int] = []

        mutating func add(_ frames: [[UInt8]]) {
            for frame in frames {
                let number = frame[14..<18].reversed().reduce(0) { $0 << 8 | Int($1) }
                if frame != KilledProgramTests.frame(number) || number > next {
                    gaps.append(number)
                } else if number < next {
                    repeated += 1
                }
                next = max(next, number + 1)
            }
        }
    }

    @Test(
        "F04 Frames arrive at least once, in order, however often the back-end is killed",
        arguments: RingFormat.allCases)
    func killed(_ format: RingFormat) throws {
        let program = try VhostProcess()
        // Room for what is new and for what is sent again: a switch drops what a slow receiver does
        // not take, and this thread may be slow.
        let (sender, receiver) = (
            try LocalGuest(format), try LocalGuest(format, ringSize: 256)
        )
        var random = SeededRandom(seed: 11)
        var arrivals = Arrivals()
        var sent = 0
        let rounds = 16
        for round in 0...rounds {
            try program.start(program.ports("a", "b"))
            try receiver.connect(program.path("b"), keepsInFlight: true)
            try sender.connect(program.path("a"), keepsInFlight: true)
            let end = SystemClock.monotonic + UInt64(random.int(1...40)) * 1_000_000
            while SystemClock.monotonic < end {
                let most = random.int(1...20)
                if sent - arrivals.next + most <= 64 {
                    sent += sender.send((sent..<sent + most).map(Self.frame))
                }
                arrivals.add(receiver.receive())
            }
            if round < rounds { program.kill() }
            arrivals.add(receiver.receive())
        }
        // The last one lives: it sends all that was left.
        let patience = SystemClock.monotonic + 20_000_000_000
        while arrivals.next < sent || sender.tx.postedCount > 0 {
            guard SystemClock.monotonic < patience else { break }
            arrivals.add(receiver.receive())
            _ = sender.tx.reap()
            usleep(1000)
        }
        #expect(arrivals.gaps.isEmpty)
        #expect(arrivals.next == sent && sender.tx.postedCount == 0)
        // What a killed program had sent and not given back is sent again: at most a ring of it.
        #expect(arrivals.repeated <= rounds * 64)
        #expect(sent > rounds * 20)
        #expect(sender.tx.fault == .none && receiver.rx.fault == .none)
    }
}
