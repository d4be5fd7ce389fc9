// What an upgrade costs, measured: packets a second, lost ones, and for how long nothing came.

import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

/// Not a test of speed: it prints figures, and fails only for a packet that is lost.
///
///     CLEAVE_TAKEOVER=1000000 .ci/with-headers swift test --scratch-path .build-optimised \
///         -Xswiftc -O --filter TakeoverMeasurement
///
/// The number is how many packets a second one guest sends to the other, as far as the machine
/// allows. Build the program of the release before it.
@Suite("What an upgrade costs", .serialized)
struct TakeoverMeasurement {
    private static let rate =
        ProcessInfo.processInfo.environment["CLEAVE_TAKEOVER"].flatMap(Int.init) ?? 0
    private static let byteCount = 64
    private static let burst = 32
    /// Packets on their way: those that the rings hold, and a switch that waits for room.
    private static let window = 900

    @Test(
        "Figures of upgrades under load", .enabled(if: rate > 0), arguments: RingFormat.allCases)
    func measure(_ format: RingFormat) throws {
        let line = try Succession { $0.ports("a", "b") }
        let (sender, receiver) = (
            try LocalGuest(format, ringSize: 1024), try LocalGuest(format, ringSize: 1024)
        )
        try receiver.connect(line.first.path("b"))
        try sender.connect(line.first.path("a"))
        let load = Load(sender, receiver)
        let (start, first) = (SystemClock.monotonic, load.received)
        while SystemClock.monotonic - start < 2_000_000_000 { load.turn() }
        let rate = Double(load.received - first) / 2e6
        var report = [
            "\(format): asked \(Double(Self.rate) / 1e6) Mpps, had "
                + "\((rate * 1000).rounded() / 1000) Mpps; longest gap before any upgrade "
                + Self.text(load.takeGap())
        ]
        for number in 1...5 {
            let said = try line.upgrade { load.turn() }
            let end = SystemClock.monotonic + 300_000_000
            while SystemClock.monotonic < end { load.turn() }
            let pause = said.split(separator: ";").last ?? ""
            report.append(
                "  upgrade \(number): longest gap \(Self.text(load.takeGap()));\(pause)")
        }
        let patience = SystemClock.monotonic + 20_000_000_000
        while load.received < load.sent, SystemClock.monotonic < patience { load.receive() }
        report.append(
            "  sent \(load.sent), received \(load.received), lost "
                + "\(load.sent - load.received), out of order \(load.wrong)")
        print(report.joined(separator: "\n"))
        #expect(load.received == load.sent && load.wrong == 0)
    }

    private static func text(_ nanoseconds: UInt64) -> String {
        "\(Double(nanoseconds / 1000) / 1000) ms"
    }

    /// Frames with numbers, at a rate, from one guest to another.
    private final class Load {
        let sender: LocalGuest
        let receiver: LocalGuest
        private(set) var sent = 0
        private(set) var received = 0
        private(set) var wrong = 0
        private var gap: UInt64 = 0
        private var last = SystemClock.monotonic
        private var since = SystemClock.monotonic
        private var due = 0.0
        private let bytes: UnsafeMutableRawPointer
        private var frames: [OutgoingFrame] = []

        init(_ sender: LocalGuest, _ receiver: LocalGuest) {
            (self.sender, self.receiver) = (sender, receiver)
            let (burst, byteCount) = (
                TakeoverMeasurement.burst, TakeoverMeasurement.byteCount
            )
            bytes = .allocate(byteCount: burst * byteCount, alignment: 64)
            let addresses: [UInt8] = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 0x88, 0xb5]
            for index in 0..<burst {
                let frame = bytes + index * byteCount
                frame.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
                frame.copyMemory(from: addresses, byteCount: addresses.count)
                frames.append(OutgoingFrame(frame, byteCount: byteCount))
            }
        }

        deinit { bytes.deallocate() }

        func takeGap() -> UInt64 {
            defer { gap = 0 }
            return gap
        }

        func turn() {
            let now = SystemClock.monotonic
            due += Double(now - since) * Double(TakeoverMeasurement.rate) / 1e9
            since = now
            // What could not be sent in its time is not sent later, all at once.
            due = min(due, 4096)
            let room = TakeoverMeasurement.window - (sent - received)
            let count = min(TakeoverMeasurement.burst, Int(due), room)
            if count > 0 {
                for index in 0..<count {
                    (bytes + index * TakeoverMeasurement.byteCount).storeBytes(
                        of: UInt32(truncatingIfNeeded: sent + index), toByteOffset: 16,
                        as: UInt32.self)
                }
                let taken = sender.send(frames, count: count)
                sent += taken
                due -= Double(taken)
            }
            receive()
        }

        func receive() {
            let rx = receiver.rx
            guard rx.harvest() > 0 else { return }
            for packet in rx.packets {
                let number = rx.pieces[Int(packet.firstPiece)].pointer.load(
                    fromByteOffset: 16, as: UInt32.self)
                if number != UInt32(truncatingIfNeeded: received) { wrong += 1 }
                received += 1
            }
            rx.finish()
            rx.refill()
            let now = SystemClock.monotonic
            gap = max(gap, now - last)
            last = now
        }
    }
}
