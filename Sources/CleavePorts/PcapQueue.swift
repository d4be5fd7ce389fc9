import CleaveHost
import CleaveRings
import CleaveTraffic
import CleaveVirtioNet
import Glibc

/// One queue of capture files. It is started and stopped by the control thread while the switch is
/// held, and used by a thread of the switch while it is not.
final class PcapQueue: PortQueue {
    private let words = PortCounterWords.allocate()
    /// Readable as long as packets are left to come in.
    private let wake: EventDescriptor
    private var isStarted = false
    /// What `packets` refer to.
    private var pool: PacketPool?
    private var packets: UnsafeMutableBufferPointer<TxPacket>
    private var schedule = PlaySchedule(loops: 0, packetsPerSecond: nil, queueCount: 1)
    /// The next packet, the times that the input was played, and packets that came in.
    private var next = 0
    private var played = 0
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
    }

    deinit {
        writer?.flush()
        packets.deallocate()
        words.deallocate()
    }

    // MARK: The control thread

    func start(pool: PacketPool?, packets list: [TxPacket], schedule: PlaySchedule) {
        self.pool = pool
        packets.deallocate()
        packets = .allocate(capacity: list.count)
        _ = packets.initialize(from: list)
        self.schedule = schedule
        (next, played, received, outCount) = (0, 0, 0, 0)
    }

    func startWriting(_ file: CaptureOutput, interface: Int) {
        writer = CaptureQueueWriter(file, interface: interface, words: words)
    }

    func open() {
        isStarted = true
        startTime = SystemClock.monotonic
        if !packets.isEmpty { wake.signal() }
    }

    func stop() {
        isStarted = false
        writer?.flush()
        writer = nil
        wake.drain()
    }

    func add(to sum: inout PortCounters) { words.add(to: &sum) }

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
        if isOver { return 0 }
        var most = count
        if schedule.packetsPerSecond != nil {
            let elapsed = SystemClock.monotonic &- startTime
            most = min(most, schedule.allowance(after: elapsed) &- received)
        }
        var done = 0
        var byteCount = 0
        while done < most && !isOver {
            let packet = packets[next]
            (target + done).initialize(to: packet)
            byteCount &+= Int(packet.byteCount)
            done &+= 1
            next &+= 1
            if next == packets.count { (next, played) = (0, played &+ 1) }
        }
        if done == 0 { return 0 }
        received &+= done
        outCount &+= done
        words.add(.packetsIn, done)
        words.add(.bytesIn, byteCount)
        if isOver { wake.drain() }
        return done
    }

    /// Whether all has come in.
    private var isOver: Bool {
        packets.isEmpty || (schedule.loops > 0 && played >= schedule.loops)
    }

    /// The bytes are the pool's, and stay.
    func complete(_ count: Int) {
        assert(count <= outCount)
        outCount &-= count
    }

    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        let time = SystemClock.realTime
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

extension PacketOffloads {
    /// Whether the packet's bytes are as they would be on a wire.
    fileprivate var isFinished: Bool {
        !needsChecksum && gsoType == SegmentationType.none
    }
}
