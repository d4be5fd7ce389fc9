import CleaveHost
import Glibc
import Testing

/// A pcapng stream, read by code that shares nothing with the writer.
struct CapturedStream {
    struct Packet: Equatable {
        var interface = 0
        var time: UInt64 = 0
        var byteCount = 0
        var bytes: [UInt8] = []
        var flags: UInt32 = 0
        var queue: UInt32?
        var dropCount: UInt64 = 0

        var isInbound: Bool { flags & 3 == 1 }
        var isOutbound: Bool { flags & 3 == 2 }
    }

    struct Statistics: Equatable {
        var received: UInt64 = 0
        var dropped: UInt64 = 0
        var start: UInt64 = 0
        var end: UInt64 = 0
        var comment: String?
    }

    var names: [String] = []
    var resolutions: [UInt8] = []
    var snapLengths: [Int] = []
    var packets: [Packet] = []
    var statistics: [Int: Statistics] = [:]
    /// What is wrong with it; nil: it ends with a whole block.
    var problem: String?

    init(_ bytes: [UInt8]) {
        func word(_ at: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) } }
        func half(_ at: Int) -> Int { Int(bytes[at]) | Int(bytes[at + 1]) << 8 }
        func highFirst(_ at: Int) -> UInt64 { UInt64(word(at)) << 32 | UInt64(word(at + 4)) }
        func lowFirst(_ at: Int) -> UInt64 { UInt64(word(at)) | UInt64(word(at + 4)) << 32 }
        var offset = 0
        while offset < bytes.count {
            guard bytes.count - offset >= 12, word(offset + 4) >= 12, word(offset + 4) % 4 == 0,
                word(offset + 4) <= bytes.count - offset
            else {
                problem = "the block at \(offset) of \(bytes.count) is cut"
                return
            }
            let (type, length) = (word(offset), word(offset + 4))
            if word(offset + length - 4) != length { problem = "length is not repeated" }
            let body = offset + 8
            let end = offset + length - 4
            func options(_ start: Int, _ body: (Int, Range<Int>) -> Void) {
                var at = start
                while at + 4 <= end, half(at) != 0 {
                    body(half(at), at + 4..<at + 4 + half(at + 2))
                    at += 4 + (half(at + 2) + 3) / 4 * 4
                }
                if at != end && at + 4 != end { problem = "options end at \(at), not \(end)" }
            }
            func text(_ range: Range<Int>) -> String {
                String(decoding: bytes[range], as: UTF8.self)
            }
            switch type {
            case 0x0a0d_0d0a: if word(body) != 0x1a2b_3c4d { problem = "order" }
            case 1:
                snapLengths.append(word(body + 4))
                options(body + 8) { code, value in
                    if code == 2 { names.append(text(value)) }
                    if code == 9 { resolutions.append(bytes[value.lowerBound]) }
                }
            case 6:
                var packet = Packet(interface: word(body), time: highFirst(body + 4))
                let captured = word(body + 12)
                packet.byteCount = word(body + 16)
                packet.bytes = Array(bytes[body + 20..<body + 20 + captured])
                options(body + 20 + (captured + 3) / 4 * 4) { code, value in
                    if code == 2 { packet.flags = UInt32(word(value.lowerBound)) }
                    if code == 4 { packet.dropCount = lowFirst(value.lowerBound) }
                    if code == 6 { packet.queue = UInt32(word(value.lowerBound)) }
                }
                if packet.interface >= names.count { problem = "no such interface" }
                packets.append(packet)
            case 5:
                var found = Statistics()
                options(body + 12) { code, value in
                    let at = value.lowerBound
                    switch code {
                    case 1: found.comment = text(value)
                    case 2: found.start = highFirst(at)
                    case 3: found.end = highFirst(at)
                    case 4: found.received = lowFirst(at)
                    case 5: found.dropped = lowFirst(at)
                    case 8: if lowFirst(at) != found.received - found.dropped { problem = "sum" }
                    default: problem = "option \(code)"
                    }
                }
                statistics[word(body)] = found
            default: problem = "a block of type \(type)"
            }
            offset += length
        }
    }

    /// Bytes of the packets of a queue in one direction, in order.
    func bytes(_ port: String, queue: UInt32 = 0, inbound: Bool) -> [[UInt8]] {
        packets.filter {
            names[$0.interface] == port && $0.queue == queue && $0.isInbound == inbound
        }.map(\.bytes)
    }
}

/// The reading side of a capture: a socket, and a thread that collects what comes.
final class CaptureReader: @unchecked Sendable {
    // SAFETY: `bytes` and `isOver` are guarded by the lock, the rest is the test's alone.

    /// To be given to the switch.
    private(set) var far: Int32
    let near: Int32
    private let lock = Lock()
    private var bytes: [UInt8] = []
    private var isOver = false
    private var thread: PinnedThread?

    init() throws {
        var pair: [Int32] = [-1, -1]
        try #require(
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0)
        (far, near) = (pair[0], pair[1])
    }

    deinit {
        handOver()
        shutdown(near, Int32(SHUT_RDWR))
        thread?.join()
        close(near)
    }

    /// The switch has it.
    func handOver() {
        if far >= 0 { close(far) }
        far = -1
    }

    /// From now on it is read.
    func begin() throws {
        let socket = near
        thread = try PinnedThread(name: "reader", cpu: nil) { [self] in
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while true {
                let count = read(socket, &buffer, buffer.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { break }
                lock.withLock { bytes += buffer[..<count] }
            }
            lock.withLock { isOver = true }
        }
    }

    /// As `tcpdump` does when it is interrupted.
    func stop() { shutdown(near, Int32(SHUT_WR)) }

    var hasEnded: Bool { lock.withLock { isOver } }
    var stream: CapturedStream { CapturedStream(lock.withLock { bytes }) }
    var all: [UInt8] { lock.withLock { bytes } }

    /// Waits for the end of the stream.
    func finish() -> CapturedStream {
        let end = SystemClock.monotonic + 30_000_000_000
        while !hasEnded && SystemClock.monotonic < end { usleep(1000) }
        #expect(hasEnded, "the stream has ended")
        return stream
    }

    /// Waits until there are as many packets.
    func packets(atLeast count: Int) -> [CapturedStream.Packet] {
        let end = SystemClock.monotonic + 30_000_000_000
        while stream.packets.count < count && SystemClock.monotonic < end { usleep(2000) }
        return stream.packets
    }
}
