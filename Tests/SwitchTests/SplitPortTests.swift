// What a port does with headers when its operator says so, and what it lets a driver ask for.
import CleaveGuestDriver
import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Testing

@testable import CleaveSwitch

@Suite("Where a port puts headers")
struct SplitPortTests {
    private func running(
        _ change: @escaping (inout VhostUserPortConfiguration) -> Void
    ) throws -> RunningSwitch {
        try RunningSwitch(["a", "b"], wires: [("a", "b")]) { if $0.name == "b" { change(&$0) } }
    }

    /// TCP segments of many sizes.
    private func frames(_ count: Int) -> [[UInt8]] {
        (0..<count).map { TestFrames.tcp4(TestFrames.payload(1 + $0 * 37 % 1300, seed: $0)) }
    }

    @Test("A header queue splits above the threshold alone")
    func threshold() throws {
        let running = try running {
            $0.headerQueue = true
            $0.splitThreshold = 700
        }
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape())
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .messages)
        let sent = frames(40)
        #expect(sender.sendAll(sent) == 40)
        #expect(guest.receive(atLeast: 40)[0] == sent)
        guest.vanish()
        let counters = try #require(running.end()["b"])
        let long = sent.count { $0.count > 700 }
        #expect(counters.splitOut == UInt64(long))
        #expect(counters.wholeOut == ["belowThreshold": UInt64(40 - long)])
    }

    @Test(
        "A driver that asks for more or larger slots than it may have is refused, then asks again")
    func bounds() throws {
        for (slots, bytes) in [(128, 1024), (32768, 64)] {
            let running = try running {
                $0.headerQueue = true
                $0.slotCountLimit = slots
                $0.slotSizeLimit = bytes
            }
            // 256 slots of 128 bytes.
            let greedy = try SplitGuest(SplitGuest.Shape())
            #expect(throws: (any Error).self) { try greedy.connect(running.path("b"), .messages) }
            greedy.vanish()
            var shape = SplitGuest.Shape()
            shape.slotCount = 128
            let modest = try SplitGuest(shape)
            let isEnough = bytes >= 128
            if isEnough { try modest.connect(running.path("b"), .messages) }
            modest.vanish()
            let counters = try #require(running.end()["b"])
            #expect(counters.headerQueueRefusals == ["geometry": 1])
            #expect(counters.events[.headerQueues] == (isEnough ? 1 : nil))
        }
    }

    @Test("What cannot be is refused by name")
    func refusals() {
        func error(_ change: (inout VhostUserPortConfiguration) -> Void) -> String {
            var port = VhostUserPortConfiguration(name: "x", path: "/tmp/x")
            change(&port)
            do {
                _ = try VhostUserPort(port)
                return ""
            } catch { return "\(error)" }
        }
        for method in [RxMethod.Kind.a, .b, .c] {
            #expect(
                error { $0.splitMethod = method }
                    == "port x: split method \(method.rawValue): no driver can ask for it; need "
                    + "whole or d")
        }
        #expect(
            error { $0.splitThreshold = 1 }
                == "port x: split threshold 1: split method whole splits nothing")
        #expect(error { $0.splitThreshold = -1 }.contains("split threshold -1: need 0 to"))
        #expect(
            error { $0.slotCountLimit = 8 }
                == "port x: only split method d has slots, and so limits for them")
        #expect(
            error {
                $0.headerQueue = true
                $0.slotCountLimit = 100
            } == "port x: at most 100 slots: need a power of two, 1 to 32768")
        #expect(
            error {
                $0.headerQueue = true
                $0.slotSizeLimit = 2048
            } == "port x: slots of at most 2048 bytes: need a power of two, 64 to 1024")
    }
}
