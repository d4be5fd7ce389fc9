// The program itself, taken over by another one while packets flow: every packet arrives once, in
// order, and the guests notice nothing.

import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Foundation
import Testing

@testable import CleaveControl
@testable import CleaveSwitch

/// Numbered frames one way, and what of them has arrived.
struct NumberedFlow {
    private(set) var sent = 0
    /// All below it have arrived.
    private(set) var next = 0
    private(set) var repeated = 0
    /// Numbers before which some are missing, or whose bytes are others.
    private(set) var wrong: [Int] = []
    /// The longest time without an arrival, in nanoseconds.
    private(set) var gap: UInt64 = 0
    private var last: UInt64 = 0

    private static let payloadByteCount = 120

    static func frame(_ number: Int) -> [UInt8] {
        let bytes = withUnsafeBytes(of: UInt32(number)) { Array($0) }
        let rest = [UInt8](
            repeating: UInt8(truncatingIfNeeded: number), count: payloadByteCount - bytes.count)
        return TestFrames.tcp4(bytes + rest)
    }

    var isComplete: Bool { next == sent && wrong.isEmpty && repeated == 0 }

    /// The next frames, so that at most `limit` are on their way: what a ring holds.
    func frames(_ count: Int, limit: Int) -> [[UInt8]] {
        let room = max(0, limit - (sent - next))
        return (sent..<sent + min(count, room)).map(Self.frame)
    }

    mutating func noteSent(_ count: Int) { sent += count }

    mutating func add(_ frames: [[UInt8]]) {
        if frames.isEmpty { return }
        let now = SystemClock.monotonic
        if last > 0 { gap = max(gap, now - last) }
        last = now
        for frame in frames {
            let start = max(0, frame.count - Self.payloadByteCount)
            let number = frame[start..<start + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
            if number < next {
                repeated += 1
            } else if frame != Self.frame(number) || number > next {
                wrong.append(number)
            }
            next = max(next, number + 1)
        }
    }
}

/// A program, and those that take over from it, each from the one before.
final class Succession {
    private(set) var programs: [VhostProcess]
    private let arguments: [String]

    init(_ arguments: (VhostProcess) -> [String]) throws {
        let first = try VhostProcess()
        programs = [first]
        self.arguments = arguments(first) + ["--control", first.path("control")]
        try first.start(self.arguments)
    }

    var first: VhostProcess { programs[0] }
    var last: VhostProcess { programs[programs.count - 1] }
    var control: String { first.path("control") }

    /// Takes over, and runs `body` until that is done. On a machine that gives a program no time
    /// the old one goes on, and the next one tries.
    /// - Returns: what the new program said.
    @discardableResult
    func upgrade(while body: () -> Void) throws -> String {
        let old = last
        for _ in 0..<20 {
            let new = try VhostProcess()
            let words = arguments + ["--takeover", control]
            // Whatever waits does so elsewhere: `body` is not to pause.
            let outcome = Outcome()
            let waiter = try PinnedThread(name: "waiter", cpu: nil) {
                let isReady = (try? new.launch(words)) != nil && new.isReady()
                outcome.set(isReady, code: (isReady ? old : new).awaitEnd())
            }
            while outcome.value == nil { body() }
            waiter.join()
            guard let (isReady, code) = outcome.value, isReady else {
                try #require(new.errors.contains("the other program goes on"), "\(new.errors)")
                continue
            }
            programs.append(new)
            #expect(code == 0, "\(old.errors)")
            #expect(old.errors.contains("the other program has taken over"))
            let said = new.errors.split(separator: "\n").first { $0.contains("took over") }
            return String(try #require(said))
        }
        throw HostError("takeover", code: 0, "never came to its end: \(old.errors)")
    }

    /// Something that another thread says once.
    private final class Outcome: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var content: (isReady: Bool, code: Int32)?
        func set(_ isReady: Bool, code: Int32) { lock.withLock { content = (isReady, code) } }
        var value: (isReady: Bool, code: Int32)? { lock.withLock { content } }
    }
}

extension VhostProcess: @unchecked Sendable {
    // SAFETY: a test has another thread wait for it, and uses it no more until that has ended.
}

@Suite("A program that is taken over")
struct TakeoverTests {
    /// Two guests that send to each other all the time.
    private final class Pair {
        let guests: [LocalGuest]
        var flows = [NumberedFlow(), NumberedFlow()]

        init(_ format: RingFormat) throws {
            guests = [
                try LocalGuest(format, ringSize: 128), try LocalGuest(format, ringSize: 128),
            ]
        }

        func connect(_ program: VhostProcess, keepsInFlight: Bool = false) throws {
            for (guest, name) in zip(guests, ["a", "b"]) {
                try guest.connect(program.path(name), keepsInFlight: keepsInFlight)
            }
        }

        func move() {
            let before = flows.map(\.next)
            for (index, guest) in guests.enumerated() {
                flows[index].noteSent(guest.send(flows[index].frames(24, limit: 100)))
                flows[1 - index].add(guest.receive())
            }
            // Others need the CPU, too.
            if before == flows.map(\.next) { usleep(100) }
        }

        /// Until packets have arrived that were not sent before.
        func moveOn() {
            let wanted = flows.map(\.sent)
            let end = SystemClock.monotonic + 20_000_000_000
            while zip(flows, wanted).contains(where: { $0.next <= $1 }),
                SystemClock.monotonic < end
            { move() }
        }

        /// Until all that was sent has arrived, and its buffers are back.
        func settle() {
            let end = SystemClock.monotonic + 20_000_000_000
            while flows.contains(where: { $0.next < $0.sent })
                || guests.contains(where: { $0.tx.postedCount > 0 }),
                SystemClock.monotonic < end
            {
                for (index, guest) in guests.enumerated() {
                    flows[1 - index].add(guest.receive())
                    _ = guest.tx.reap()
                }
                usleep(200)
            }
        }

        func check(atLeast count: Int) {
            settle()
            for flow in flows {
                #expect(flow.wrong.isEmpty && flow.repeated == 0)
                #expect(flow.next == flow.sent && flow.sent > count)
            }
            for guest in guests {
                #expect(guest.tx.fault == .none && guest.rx.fault == .none)
                #expect(guest.tx.postedCount == 0)
            }
        }
    }

    @Test(
        "Every packet arrives once and in order through several upgrades",
        arguments: RingFormat.allCases, [1, 2])
    func upgrades(_ format: RingFormat, threads: Int) throws {
        let cpus = CPUSet.allowed().cpus.prefix(threads).map(String.init)
        let line = try Succession { program in
            program.ports("a", "b")
                + (threads == 1 ? [] : ["--cpus", cpus.joined(separator: ",")])
        }
        let pair = try Pair(format)
        try pair.connect(line.first, keepsInFlight: threads == 2)
        for _ in 0..<4 {
            pair.moveOn()
            let said = try line.upgrade { pair.move() }
            #expect(said.contains("2 ports with 2 queues"))
        }
        pair.moveOn()
        pair.check(atLeast: 400)
        // The last one serves front-ends that come and go, too.
        let bases = try pair.guests[0].leave()
        try pair.guests[0].connectPatiently(line.first.path("a"), bases: bases)
        pair.moveOn()
        pair.check(atLeast: 400)
        // A thread on a CPU that others keep busy may take longer than a signal gives it.
        if threads > 1 { return }
        #expect(line.last.end() == 0)
        for name in ["a", "b", "control"] {
            #expect(access(line.first.path(name), F_OK) != 0, "\(name) goes with the last one")
        }
    }

    /// How a receiver's header queue is set up, and how its slots come back.
    struct Headers: CustomTestStringConvertible {
        var way: SplitGuest.Way
        var format: RingFormat
        var slotReturn: SlotReturn

        static let all = SplitGuest.Way.allCases.filter { $0 != .none }.flatMap { way in
            RingFormat.allCases.flatMap { format in
                SlotReturn.allCases.map { Headers(way: way, format: format, slotReturn: $0) }
            }
        }

        var testDescription: String { "\(way), \(format), \(slotReturn)" }
    }

    @Test(
        "A header queue goes on where it stood, however it was set up and its slots come back",
        arguments: Headers.all)
    func headerQueue(_ headers: Headers) throws {
        let line = try Succession { program in
            program.ports("a") + [
                "--port",
                "type=vhost-user,path=\(program.path("b")),name=b,header-queue=on,queues=2",
            ]
        }
        var shape = SplitGuest.Shape()
        (shape.ring, shape.slotReturn, shape.ringSize) = (headers.format, headers.slotReturn, 128)
        let receiver = try SplitGuest(shape)
        let sender = try LocalGuest(headers.format, ringSize: 128)
        try receiver.connect(line.first.path("b"), headers.way)
        try sender.connect(line.first.path("a"))
        var flow = NumberedFlow()
        var splitCount = 0
        func move() {
            let before = flow.next
            flow.noteSent(sender.send(flow.frames(24, limit: 100)))
            flow.add(
                receiver.receive { _, packet in splitCount += packet.headerLength > 0 ? 1 : 0 }
                    .joined().map { $0 })
            if flow.next == before { usleep(100) }
        }
        func split(atLeast count: Int) {
            let (wanted, end) = (splitCount + count, SystemClock.monotonic + 20_000_000_000)
            while splitCount < wanted, SystemClock.monotonic < end { move() }
            #expect(splitCount >= wanted, "packets are split")
        }
        split(atLeast: 300)
        for _ in 0..<2 {
            try line.upgrade { move() }
            // More than are on their way.
            split(atLeast: 300)
        }
        let patience = SystemClock.monotonic + 20_000_000_000
        while flow.next < flow.sent, SystemClock.monotonic < patience {
            flow.add(receiver.receive().joined().map { $0 })
        }
        #expect(flow.wrong.isEmpty && flow.repeated == 0 && flow.next == flow.sent)
        #expect(flow.sent > 200)
        #expect(sender.tx.fault == .none && receiver.rx[0].fault == .none)
        // The return ring tells what was taken when it stops.
        if headers.slotReturn == .ring { try receiver.stopHeaderQueue(headers.way) }
        #expect(receiver.conservesSlots())
    }
}
