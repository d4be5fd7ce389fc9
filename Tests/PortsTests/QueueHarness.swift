import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Glibc

/// Stands for the threads of a switch: the test's thread is the only one.
final class LoneHost: PortHost {
    private(set) var holds = 0
    private(set) var lines: [String] = []

    func whileHeld(by port: any Port, _ body: () -> Void) -> UInt64 {
        holds += 1
        let start = SystemClock.monotonic
        body()
        return start
    }

    func log(_ entry: LogEntry) { lines.append(entry.description) }
    let holdShares = HoldShares()
}

/// What came in at a queue.
struct ReceivedPacket: Equatable {
    var bytes: [UInt8]
    var offloads: PacketOffloads
}

extension PortQueue {
    /// Takes what is there, `count` packets at most, and completes it.
    func take(_ count: Int = 32) -> [ReceivedPacket] {
        withUnsafeTemporaryAllocation(of: TxPacket.self, capacity: count) { packets in
            guard let base = packets.baseAddress else { return [] }
            let received = receive(base, count: count)
            let result = (0..<received).map { index in
                let packet = base[index]
                var bytes = [UInt8](
                    UnsafeRawBufferPointer(start: packet.pointer, count: Int(packet.byteCount)))
                for more in 0..<Int(packet.moreCount) {
                    let segment = packet.segment(more)
                    bytes += UnsafeRawBufferPointer(
                        start: segment.pointer, count: segment.byteCount)
                }
                return ReceivedPacket(
                    bytes: bytes,
                    offloads: PacketOffloads(
                        flags: packet.netFlags, gsoType: packet.gsoType, gsoSize: packet.gsoSize,
                        csumStart: packet.csumStart, csumOffset: packet.csumOffset))
            }
            complete(received)
            return result
        }
    }

    /// Takes at least `count` packets, or what has come in after two seconds.
    func take(atLeast count: Int) -> [ReceivedPacket] {
        var result: [ReceivedPacket] = []
        for _ in 0..<2000 {
            result += take()
            if result.count >= count { break }
            usleep(1000)
        }
        return result
    }

    /// Sends packets in one call.
    /// - Returns: how many were consumed.
    func send(_ packets: [SourcePacket]) -> Int {
        let port = MockPort()
        var refs = port.references(packets)
        let consumed = refs.withUnsafeMutableBufferPointer { refs in
            refs.baseAddress.map { transmit($0, count: refs.count) } ?? 0
        }
        return refs.prefix(consumed).count { !$0.flags.contains(.more) }
    }
}
