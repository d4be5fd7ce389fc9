import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveSwitch

/// Two kernels' network stacks, each behind a TAP port: what one sends unfinished the other must
/// take, passed on as it is or finished by software.
@Suite(
    .enabled(
        if: PrivateNetwork.obstacle == nil,
        "no private network: \(PrivateNetwork.obstacle ?? "")"), .timeLimit(.minutes(1)))
struct KernelTransferTests {
    private final class LoneHost: PortHost {
        func whileHeld(by port: any Port, _ body: () -> Void) -> UInt64 {
            let start = SystemClock.monotonic
            body()
            return start
        }
        func log(_ entry: LogEntry) {}
        let holdShares = HoldShares()
    }

    /// A thread of a test's own, in the network of the thread that starts it.
    private final class SideThread: @unchecked Sendable {
        // SAFETY: `body` is run once, by the thread; `result` is written by it and read after its
        // end; `isDone` is a hint of which nothing depends but when to look.
        private let body: @Sendable () -> String
        private var thread = pthread_t()
        private var result = "not run"
        private let done = UnsafeMutablePointer<Int32>.allocate(capacity: 2)

        init(_ body: @escaping @Sendable () -> String) {
            self.body = body
            pipe(done)
            let argument = Unmanaged.passRetained(self).toOpaque()
            pthread_create(
                &thread, nil,
                { argument in
                    guard let argument else { return nil }
                    let side = Unmanaged<SideThread>.fromOpaque(argument).takeRetainedValue()
                    side.result = side.body()
                    close(side.done[1])
                    return nil
                }, argument)
        }

        deinit {
            close(done[0])
            done.deallocate()
        }

        /// Whether the body has returned.
        var isDone: Bool {
            var end = pollfd(fd: done[0], events: Int16(POLLIN), revents: 0)
            return poll(&end, 1, 0) == 1
        }

        func join() -> String {
            pthread_join(thread, nil)
            return result
        }
    }

    enum Way: CaseIterable, CustomTestStringConvertible {
        case asItIs, finished, finishedButChecksum

        var testDescription: String { "\(self)" }

        /// What the far side is said to take; nil: all that it does.
        var features: VirtioFeatures? {
            switch self {
            case .asItIs: nil
            case .finished: []
            case .finishedButChecksum: .guestChecksum
            }
        }
    }

    private struct Seen {
        var packets = 0
        var tcp = 0
        var udp = 0
        var refusals = 0
    }

    /// Passes on what has come in at `from`.
    private func pass(
        _ from: any PortQueue, to: any PortQueue, _ features: VirtioFeatures?,
        _ offload: SoftwareOffload, _ seen: inout Seen
    ) {
        withUnsafeTemporaryAllocation(of: TxPacket.self, capacity: 32) { packets in
            guard let base = packets.baseAddress else { return }
            let count = from.receive(base, count: 32)
            for index in 0..<count {
                let packet = base[index]
                let context = PacketOffloads(
                    flags: packet.netFlags, gsoType: packet.gsoType, gsoSize: packet.gsoSize,
                    csumStart: packet.csumStart, csumOffset: packet.csumOffset)
                var refs = [PacketRef(packet.pointer, byteCount: Int(packet.byteCount))]
                if context != .none { refs.insert(PacketRef(context: context), at: 0) }
                seen.packets += 1
                switch context.gsoType & ~SegmentationType.ecn {
                case SegmentationType.tcp4: seen.tcp += 1
                case SegmentationType.udpDatagrams: seen.udp += 1
                default: break
                }
                if let features, context.gsoType != 0 || (context != .none && features.isEmpty) {
                    refs = finished(refs, features, offload)
                    if refs.isEmpty { seen.refusals += 1 }
                }
                _ = refs.withUnsafeMutableBufferPointer { buffer in
                    buffer.baseAddress.map { to.transmit($0, count: buffer.count) }
                }
            }
            from.complete(count)
        }
    }

    private func finished(
        _ refs: [PacketRef], _ features: VirtioFeatures, _ offload: SoftwareOffload
    ) -> [PacketRef] {
        var out = [PacketRef](repeating: PacketRef(address: 1, byteCount: 0), count: 1024)
        let outcome = refs.withUnsafeBufferPointer { refs in
            out.withUnsafeMutableBufferPointer { out in
                offload.finish(
                    refs.baseAddress.unsafelyUnwrapped, count: refs.count, for: features,
                    into: out.baseAddress.unsafelyUnwrapped, capacity: out.count)
            }
        }
        guard case .finished(let count) = outcome else { return [] }
        return [PacketRef](out[..<count])
    }

    // MARK: Sockets

    private static let port: UInt16 = 5001
    private static let byteCount = 4 << 20
    /// Bytes of one UDP write, cut into datagrams by the kernel or whoever does it for the kernel.
    private static let datagramByteCounts = [1000, 1000, 1000, 1000, 1000, 500]

    private static func socket(_ type: __socket_type) -> Int32 {
        let descriptor = Glibc.socket(AF_INET, Int32(type.rawValue), 0)
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(
                descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        return descriptor
    }

    /// Calls `body` with the address 10.0.0.`host`.
    private static func withAddress(
        _ host: UInt8, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = (0x0a00_0000 | UInt32(host)).bigEndian
        return withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private static func pattern(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index % 251) }

    /// Receives a stream, then datagrams.
    private static func serve(_ listener: Int32, _ datagrams: Int32) -> String {
        defer { for descriptor in [listener, datagrams] { close(descriptor) } }
        let stream = accept(listener, nil, nil)
        guard stream >= 0 else { return "accept: errno \(errno)" }
        defer { close(stream) }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var done = 0
        while true {
            let got = read(stream, &buffer, buffer.count)
            if got < 0 { return "read after \(done): errno \(errno)" }
            if got == 0 { break }
            for index in 0..<got where buffer[index] != pattern(done + index) {
                return "byte \(done + index) is wrong"
            }
            done += got
        }
        if done != byteCount { return "\(done) bytes of \(byteCount)" }
        // The client now sends datagrams.
        write(stream, [1], 1)
        var counts: [Int] = []
        for _ in datagramByteCounts {
            let got = recv(datagrams, &buffer, buffer.count, 0)
            if got < 0 { return "datagram \(counts.count): errno \(errno)" }
            counts.append(got)
        }
        return counts.sorted() == datagramByteCounts.sorted() ? "right" : "datagrams of \(counts)"
    }

    private static func send() -> String {
        let stream = socket(SOCK_STREAM)
        defer { close(stream) }
        guard withAddress(2, { connect(stream, $0, $1) }) == 0 else {
            return "connect: errno \(errno)"
        }
        let bytes = (0..<byteCount).map(pattern)
        var done = 0
        while done < byteCount {
            let count = bytes.withUnsafeBytes { buffer in
                // SAFETY: the array is not empty.
                write(
                    stream, buffer.baseAddress.unsafelyUnwrapped + done,
                    min(byteCount - done, 1 << 18))
            }
            guard count > 0 else { return "write after \(done): errno \(errno)" }
            done += count
        }
        shutdown(stream, Int32(SHUT_WR))
        var word: UInt8 = 0
        guard read(stream, &word, 1) == 1 else { return "no answer: errno \(errno)" }
        let datagrams = socket(SOCK_DGRAM)
        defer { close(datagrams) }
        // UDP_SEGMENT: equal datagrams of one write.
        var size = UInt32(datagramByteCounts[0])
        let set = setsockopt(datagrams, Int32(IPPROTO_UDP), 103, &size, 4)
        guard set == 0 else { return "UDP_SEGMENT: errno \(errno)" }
        guard withAddress(2, { connect(datagrams, $0, $1) }) == 0 else {
            return "connect: errno \(errno)"
        }
        let total = datagramByteCounts.reduce(0, +)
        guard write(datagrams, Array(bytes[..<total]), total) == total else {
            return "datagrams: errno \(errno)"
        }
        return "right"
    }

    @Test("TCP and UDP between two kernels", arguments: Way.allCases)
    func transfer(way: Way) throws {
        let host = LoneHost()
        let offload = SoftwareOffload()
        var seen = Seen()
        var back = Seen()
        // Kernels before 6.2 cut datagrams before they hand them out.
        var leavesDatagrams = false
        let results = try PrivateNetwork.run([]) { () -> [String] in
            let near = try TapPort(TapPortConfiguration(name: "near", interface: "t0"))
            try near.open(for: host)
            defer { near.close() }
            leavesDatagrams = near.queues[0].offloads.contains(.guestUSO4)
            try PrivateNetwork.shell("ip addr add 10.0.0.1/24 dev t0 && ip link set t0 up")
            // Threads begin in this network; it sends once there is someone to answer.
            let start = UnsafeMutablePointer<Int32>.allocate(capacity: 2)
            pipe(start)
            let wait = start[0]
            let client = SideThread {
                var word: UInt8 = 0
                return read(wait, &word, 1) == 1 ? Self.send() : "not started"
            }
            defer {
                for index in 0..<2 { close(start[index]) }
                start.deallocate()
            }
            return try PrivateNetwork.run([]) {
                let far = try TapPort(TapPortConfiguration(name: "far", interface: "t0"))
                try far.open(for: host)
                defer { far.close() }
                try PrivateNetwork.shell("ip addr add 10.0.0.2/24 dev t0 && ip link set t0 up")
                let listener = Self.socket(SOCK_STREAM)
                let datagrams = Self.socket(SOCK_DGRAM)
                #expect(Self.withAddress(2) { bind(listener, $0, $1) } == 0)
                #expect(Self.withAddress(2) { bind(datagrams, $0, $1) } == 0)
                #expect(listen(listener, 1) == 0)
                let server = SideThread { Self.serve(listener, datagrams) }
                write(start[1], [1], 1)
                while !client.isDone || !server.isDone {
                    pass(near.queues[0], to: far.queues[0], way.features, offload, &seen)
                    pass(far.queues[0], to: near.queues[0], way.features, offload, &back)
                    var waits = [near, far].map {
                        pollfd(
                            fd: $0.queues[0].wakeDescriptor, events: Int16(POLLIN), revents: 0)
                    }
                    poll(&waits, 2, 10)
                }
                #expect(far.counters.droppedOut == [:])
                #expect(far.counters.droppedIn == [:] && near.counters.droppedIn == [:])
                return [client.join(), server.join()]
            }
        }
        #expect(results == ["right", "right"])
        #expect(seen.refusals == 0 && back.refusals == 0)
        // The transfer was of large packets: what is tested did occur.
        #expect(seen.tcp > 20)
        #expect(seen.packets < Self.byteCount / 1448)
        if leavesDatagrams { #expect(seen.udp == 1) }
    }
}
