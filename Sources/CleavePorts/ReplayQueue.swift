import CleaveHost
import CleaveRings
import CleaveTraffic
import CleaveVirtioNet
import Glibc

/// One queue whose packets lie in memory and come in again and again: a capture's, or generated.
/// What goes out is counted, and written if there is a file. It is started and stopped by the
/// control thread while the switch is held, and used by a thread of the switch while it is not.
final class ReplayQueue: PortQueue {
    private let words = PortCounterWords.allocate()
    /// Readable as long as packets are left to come in.
    private let wake: EventDescriptor
    private var isStarted = false
    /// What `packets` refer to.
    private var pool: PacketPool?
    private var packets: UnsafeMutableBufferPointer<TxPacket>
    /// Bytes of all packets before each, and of all.
    private var bytesBefore: UnsafeMutableBufferPointer<Int>
    private var schedule = ReplaySchedule()
    /// Most packets that come in.
    private var limit = Int.max
    /// The next packet, and packets that came in.
    private var next = 0
    private var received = 0
    private var startTime: UInt64 = 0
    private var outCount = 0
    private var writer: CaptureQueueWriter?
    /// Polls since something went out: after so many the file gets what waits in memory.
    private var idlePolls = 0
    private static let idleLimit = 1024

    init() throws(HostError) {
        wake = try EventDescriptor()
        packets = .allocate(capacity: 0)
        bytesBefore = .allocate(capacity: 0)
    }

    deinit {
        writer?.flush()
        packets.deallocate()
        bytesBefore.deallocate()
        words.deallocate()
    }

    // MARK: The control thread

    /// The queues of the port `name`.
    static func make(_ count: Int, ofPort name: String) throws(SetupError) -> [ReplayQueue] {
        var queues: [ReplayQueue] = []
        for _ in 0..<count {
            do throws(HostError) { queues.append(try ReplayQueue()) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
        return queues
    }

    /// - Parameters:
    ///   - pool: keeps the bytes of `list`.
    ///   - list: the packets, in order.
    ///   - limit: most packets that come in; `Int.max` for no end.
    func start(
        pool: PacketPool?, packets list: [TxPacket], limit: Int, schedule: ReplaySchedule
    ) {
        self.pool = pool
        packets.deallocate()
        packets = .allocate(capacity: list.count)
        _ = packets.initialize(from: list)
        bytesBefore.deallocate()
        bytesBefore = .allocate(capacity: list.count + 1)
        bytesBefore.initialize(repeating: 0)
        for (index, packet) in list.enumerated() {
            bytesBefore[index + 1] = bytesBefore[index] + Int(packet.byteCount)
        }
        self.limit = limit
        self.schedule = schedule
        (next, received, outCount) = (0, 0, 0)
    }

    func startWriting(_ file: CaptureOutput, interface: Int) {
        writer = CaptureQueueWriter(file, interface: interface, words: words)
    }

    func open() {
        isStarted = true
        startTime = SystemClock.monotonic
        if !packets.isEmpty && !isOver { wake.signal() }
    }

    func stop() {
        isStarted = false
        writer?.flush()
        writer = nil
        wake.drain()
    }

    var counters: PortCounters { words.counters }

    // MARK: PortQueue

    var offloads: VirtioFeatures { [] }
    var isOpen: Bool { isStarted }
    var isReceiving: Bool { isStarted && !packets.isEmpty }
    var wakeDescriptor: Int32 { wake.fileDescriptor }

    /// A thread that goes to sleep may sleep long: the file gets all that went out.
    func setWakeups(enabled: Bool) {
        if enabled { writer?.flush() }
    }

    func receive(_ target: UnsafeMutablePointer<TxPacket>, count: Int) -> Int {
        guard isStarted else { return 0 }
        idlePolls &+= 1
        if idlePolls == Self.idleLimit { writer?.flush() }
        guard let first = packets.baseAddress, !isOver else { return 0 }
        var most = min(count, limit &- received)
        if schedule.packetsPerSecond != nil {
            let elapsed = SystemClock.monotonic &- startTime
            most = min(most, schedule.allowance(after: elapsed) &- received)
        }
        if most <= 0 { return 0 }
        var done = 0
        var byteCount = 0
        while done < most {
            // As far as the packets follow each other.
            let run = min(most &- done, packets.count &- next)
            (target + done).initialize(from: first + next, count: run)
            byteCount &+= bytesBefore[next &+ run] &- bytesBefore[next]
            done &+= run
            next &+= run
            if next == packets.count { next = 0 }
        }
        received &+= done
        outCount &+= done
        words.add(.packetsIn, done)
        words.add(.bytesIn, byteCount)
        if isOver { wake.drain() }
        return done
    }

    /// Whether all has come in.
    private var isOver: Bool { packets.isEmpty || received >= limit }

    /// The bytes are the pool's, and stay.
    func complete(_ count: Int) {
        assert(count <= outCount)
        outCount &-= count
    }

    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        let time = writer == nil ? 0 : SystemClock.realTime
        idlePolls = 0
        var done = 0
        while done < count {
            var end = done
            var byteCount = 0
            var isFinished = true
            repeat {
                let ref = refs[end]
                if ref.flags.contains(.context) {
                    isFinished = ref.context?.isFinished ?? false
                } else {
                    byteCount &+= Int(ref.byteCount)
                }
                end &+= 1
            } while end < count && refs[end &- 1].flags.contains(.more)
            if !isStarted {
                words.addDropOut(.writeFailed)
            } else if !isFinished {
                words.addDropOut(.badOffload)
            } else if byteCount > KernelQueue.maximumFrameByteCount {
                words.addDropOut(.tooLong)
            } else if let writer {
                writer.append(refs + done, count: end &- done, byteCount: byteCount, time: time)
            } else {
                words.add(.packetsOut, 1)
                words.add(.bytesOut, byteCount)
            }
            done = end
        }
        return count
    }
}

/// How fast packets come in, at all queues together.
struct ReplaySchedule {
    /// nil: as fast as they are taken.
    var packetsPerSecond: Int?
    var queueCount = 1

    /// Packets that may have come in at one queue `nanoseconds` after its start.
    func allowance(after nanoseconds: UInt64) -> Int {
        guard let packetsPerSecond else { return .max }
        // Hours of a billion a second fit the product's 128 bits.
        let product = UInt64(packetsPerSecond).multipliedFullWidth(by: nanoseconds)
        let divisor = UInt64(queueCount) * 1_000_000_000
        guard product.high < divisor else { return .max }
        let whole = divisor.dividingFullWidth(product).quotient
        return Int(clamping: whole) &+ 1
    }
}

extension PacketOffloads {
    /// Whether the packet's bytes are as they would be on a wire.
    fileprivate var isFinished: Bool {
        !needsChecksum && gsoType == SegmentationType.none
    }
}

extension PacketPool {
    /// Its packets at the places that are `wanted`, in order.
    func packets(where isWanted: (_ place: Int) -> Bool) -> [TxPacket] {
        refs.indices.filter(isWanted).map {
            TxPacket(refs[$0].pointer, byteCount: Int(refs[$0].byteCount))
        }
    }
}
