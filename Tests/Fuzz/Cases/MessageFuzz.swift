// A front-end as a script: messages, nearly right or any bytes at all, with descriptors of memory
// and of eventfds, and a device that uses each ring that is started.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

enum MessageFuzz {
    private static let operationLimit = 64

    /// Descriptors that messages carry; the same for all runs.
    private struct Supplies: Sendable {
        let memory = cleave_memfd("fuzz", 1 << 20, 0)
        let event = cleave_eventfd()
    }
    private static let supplies = Supplies()

    /// Operations: `kind` (low 2 bits: 0 raw bytes, else a framed request; the others: how many
    /// descriptors of memory or one eventfd), a request, flags, a length, and that many bytes.
    static func run(_ input: [UInt8]) throws -> Set<String> {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else {
            throw SetupError("no socket", code: errno)
        }
        defer { close(ends[1]) }
        let device = Device()
        let session = BackendSession(descriptor: ends[0], device: device)
        var reader = InputReader(input)
        var outcome = BackendSession.Outcome.open
        for _ in 0..<operationLimit {
            if reader.isAtEnd || outcome != .open { break }
            let kind = reader.byte()
            let request = reader.byte()
            let flags = reader.byte()
            let payload = reader.take(Int(reader.byte()))
            var bytes = payload
            if kind & 3 != 0 {
                let words = [UInt32(request), UInt32(flags), UInt32(payload.count)]
                bytes =
                    words.flatMap { word in
                        (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
                    } + payload
            }
            let count = Int(kind >> 2 & 15)
            let descriptors =
                count == 15
                ? [supplies.event] : Array(repeating: supplies.memory, count: min(count, 8))
            _ = cleave_socket_send(
                ends[1], bytes, bytes.count, descriptors, Int32(descriptors.count))
            outcome = session.service()
            device.work()
            drain(ends[1])
        }
        session.close()
        try Violation.unless(device.running.isEmpty, "rings are left: \(device.running.keys)")
        try Violation.unless(!device.isConfused, "a ring was started or stopped twice")
        var seen = device.seen
        if outcome != .open { seen.insert("closed") }
        seen.formUnion(session.counters.keys)
        return seen
    }

    private static func drain(_ socket: Int32) {
        var bytes = [UInt8](repeating: 0, count: 4096)
        while recv(socket, &bytes, bytes.count, Int32(MSG_DONTWAIT)) > 0 {}
    }

    /// Runs each ring as a receive or a transmit queue.
    private final class Device: BackendDevice {
        let offeredFeatures: UInt64 =
            VirtioFeatures.receive.union(.transmit).rawValue | 1 << 32 | 1 << 34 | 1 << 17
            | 1 << 22
        let queuePairLimit = 2
        let configuration = NetConfiguration(
            mac: [2, 0, 0, 0, 0, 1], linkUp: true, maxQueuePairs: 2, mtu: 1500)

        struct Running {
            let rx: RxQueue?
            let tx: TxQueue?
            let arena: MemoryArena
            let mappings: MappedMemory
        }

        private(set) var running: [Int: Running] = [:]
        private(set) var isConfused = false
        private(set) var seen: Set<String> = []
        private let port = MockPort()

        func start(ring: Int, _ setup: VringSetup) throws(SetupError) {
            if running[ring] != nil { isConfused = true }
            let features = VirtioFeatures(rawValue: setup.features)
            do {
                if ring % 2 == 0 {
                    let configuration = RxQueueConfiguration(
                        virtqueue: setup.virtqueue, features: features.intersection(.receive),
                        memory: setup.memory, method: .whole, shortage: .drop,
                        callDescriptor: setup.callDescriptor)
                    let arena = try MemoryArena(
                        byteCount: configuration.arenaByteCount, pages: .small)
                    running[ring] = Running(
                        rx: try RxQueue(configuration, in: arena), tx: nil, arena: arena,
                        mappings: setup.mappings)
                } else {
                    let configuration = TxQueueConfiguration(
                        virtqueue: setup.virtqueue, features: features.intersection(.transmit),
                        memory: setup.memory, callDescriptor: setup.callDescriptor)
                    let arena = try MemoryArena(
                        byteCount: configuration.arenaByteCount, pages: .small)
                    running[ring] = Running(
                        rx: nil, tx: try TxQueue(configuration, in: arena), arena: arena,
                        mappings: setup.mappings)
                }
            } catch { throw SetupError("", error) }
            seen.insert("started")
        }

        func stop(ring: Int) -> UInt16 {
            guard let queue = running.removeValue(forKey: ring) else {
                isConfused = true
                return 0
            }
            seen.insert("stopped")
            return queue.rx?.base ?? queue.tx?.base ?? 0
        }

        /// Uses every ring once.
        func work() {
            for queue in running.values {
                if let rx = queue.rx {
                    _ = port.enqueue([TestFrames.udp4([1, 2, 3])], to: rx)
                }
                guard let tx = queue.tx else { continue }
                let packets = UnsafeMutablePointer<TxPacket>.allocate(capacity: 4)
                let count = tx.dequeue(packets, count: 4).count
                _ = tx.complete(count)
                packets.deallocate()
            }
        }

        func negotiated(features: UInt64) { seen.insert("negotiated") }
        func setMTU(_ mtu: Int) { seen.insert("MTU") }
        func announce(mac: [UInt8]) { seen.insert("announce") }
        func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool { offset == 0 }
    }
}
