import CCleaveHost
import CleaveHost
import CleaveRings
import CleaveTraffic
import Glibc

/// A capture's thread: takes the records of all rings, oldest first, and writes them as pcapng.
///
/// It alone waits for whoever reads. While it waits the rings fill, and what does not fit into them
/// is dropped and counted, so a reader that stalls costs packets of the capture alone.
final class CaptureStream: @unchecked Sendable {
    // SAFETY: what `lock` guards is for any thread; the rest is for the one that is in `run`.

    private let lanes: [CaptureLane]
    private let request: CaptureRequest
    private let socket: Int32
    /// Readable by the control thread when it is to look here.
    let news: EventDescriptor
    private let wake: EventDescriptor
    /// What the monotonic clock is behind the time of day, at the start: times of packets follow
    /// the former, so they never go back.
    private let timeOffset: UInt64
    private let start: UInt64

    private let lock = Lock()
    private var shared = Shared()
    /// Guarded by `lock`.
    private struct Shared {
        var interfaces: [String] = []
        var taps: [CaptureTap] = []
        var wantsEnd = false
        var isEnding = false
        var reason: String?
        var isFinished = false
        var summary = ""
    }

    private let buffer: UnsafeMutableRawPointer
    private var filled = 0
    private var isGone = false
    private var heardEnd = false
    private var isStopping = false
    private var deadline: UInt64 = 0
    /// By interface: packets in the stream. As many interfaces are described in it.
    private var written: [UInt64] = []
    private var writtenCount = 0
    /// For each lane its oldest record, and a time before which it will have no other.
    private var heads: [CaptureRecord?]
    private var marks: [UInt64]
    /// Drops of each interface as they were when the packet limit was reached.
    private var dropsAtLimit: [UInt64]?

    /// Between two looks at rings that were empty: a packet is seen live, and the rings hold what
    /// comes meanwhile.
    private static let pauseNanoseconds: UInt64 = 1_000_000
    /// How long a reader has to take what is left at the end.
    static let farewellNanoseconds: UInt64 = 1_000_000_000
    private static let bufferByteCount = 256 << 10

    init(lanes: [CaptureLane], request: CaptureRequest, socket: Int32) throws(HostError) {
        self.lanes = lanes
        self.request = request
        news = try EventDescriptor()
        wake = try EventDescriptor()
        let own = cleave_descriptor_duplicate(socket)
        guard own >= 0 else { throw HostError("dup", code: -own, "cannot keep the socket") }
        self.socket = own
        buffer = .allocate(byteCount: Self.bufferByteCount, alignment: 8)
        heads = [CaptureRecord?](repeating: nil, count: lanes.count)
        marks = [UInt64](repeating: 0, count: lanes.count)
        start = SystemClock.realTime
        timeOffset = start &- SystemClock.monotonic
    }

    deinit {
        close(socket)
        buffer.deallocate()
    }

    // MARK: For the control thread

    func add(interface: String) { lock.withLock { shared.interfaces.append(interface) } }
    func add(_ tap: CaptureTap) { lock.withLock { shared.taps.append(tap) } }

    var wantsEnd: Bool { lock.withLock { shared.wantsEnd } }
    var isFinished: Bool { lock.withLock { shared.isFinished } }
    var summary: String { lock.withLock { shared.summary } }

    /// Nothing comes into the rings any more: writes what they hold, and ends.
    func end(because reason: String?) {
        lock.withLock {
            shared.isEnding = true
            shared.reason = reason
        }
        wake.signal()
    }

    // MARK: Its thread

    func run() {
        put(PcapngBlocks.section(program: "cleave-vhost"))
        while true {
            // Before the rings: from then on nothing comes in.
            lookForEnd()
            describe()
            mark()
            let moved = drain()
            flush()
            if isStopping && moved == 0 { break }
            if moved == 0 { pause() }
        }
        finish()
    }

    private func lookForEnd() {
        if isStopping || !lock.withLock({ shared.isEnding }) { return }
        isStopping = true
        deadline = SystemClock.monotonic &+ Self.farewellNanoseconds
    }

    /// Notes how far each lane has come, before its ring is looked at.
    private func mark() {
        for (index, lane) in lanes.enumerated() {
            let now = isStopping ? .max : SystemClock.monotonic
            // A thread that is at a burst has read its clock at some time since the last mark.
            if isStopping || !lane.isBusy { marks[index] = now }
        }
    }

    /// Takes records, oldest first, as long as no lane without one can still have an older one.
    /// - Returns: how many.
    private func drain() -> Int {
        var moved = 0
        while true {
            var oldest: (lane: Int, record: CaptureRecord)?
            var limit = UInt64.max
            for index in lanes.indices {
                if heads[index] == nil { heads[index] = peek(lanes[index]) }
                guard let record = heads[index] else {
                    limit = min(limit, marks[index])
                    continue
                }
                if let other = oldest, other.record.time <= record.time { continue }
                oldest = (index, record)
            }
            guard let (index, record) = oldest, record.time <= limit else { return moved }
            take(record, lanes[index])
            heads[index] = nil
            moved += 1
        }
    }

    private func peek(_ lane: CaptureLane) -> CaptureRecord? {
        // Records are handed over whole.
        guard lane.reader.pointee.peek(CaptureRecord.byteCount) == CaptureRecord.byteCount else {
            return nil
        }
        return withUnsafeTemporaryAllocation(of: CaptureRecord.self, capacity: 1) { record in
            // SAFETY: an allocation of one element has a base address.
            let base = record.baseAddress!
            read(lane, into: base, CaptureRecord.byteCount, at: 0)
            return base.pointee
        }
    }

    private func read(
        _ lane: CaptureLane, into target: UnsafeMutableRawPointer, _ count: Int, at offset: Int
    ) {
        lane.reader.pointee.read(
            into: target.assumingMemoryBound(to: UInt8.self), count: count, at: offset)
    }

    private func take(_ record: CaptureRecord, _ lane: CaptureLane) {
        let captured = Int(record.capturedByteCount)
        defer { lane.reader.pointee.release(CaptureRecord.byteCount + captured) }
        if isGone || dropsAtLimit != nil { return }
        let packet = PcapngPacket(
            interface: record.interface, time: record.time &+ timeOffset,
            capturedByteCount: captured, originalByteCount: Int(record.originalByteCount),
            flags: record.flags, queue: record.queue, dropCount: UInt64(record.dropCount))
        if filled + packet.blockByteCount > Self.bufferByteCount {
            flush()
            if isGone { return }
        }
        // Described before: a record's interface is there before its tap is.
        if Int(record.interface) >= written.count { describe() }
        let bytes = packet.store(to: buffer + filled)
        read(lane, into: bytes, captured, at: CaptureRecord.byteCount)
        filled += packet.blockByteCount
        written[Int(record.interface)] += 1
        writtenCount += 1
        if writtenCount == request.packetLimit {
            dropsAtLimit = drops()
            askForEnd()
        }
    }

    /// Describes interfaces that are new.
    private func describe() {
        let names = lock.withLock { shared.interfaces }
        for name in names[written.count...] {
            put(
                PcapngBlocks.interface(
                    name: name,
                    description: "port \(name) as its far side sees it: inbound is what that "
                        + "receives (rx), outbound what it transmits (tx)",
                    snapLength: request.snapLength))
            written.append(0)
        }
    }

    /// Packets of each interface that did not get into a ring.
    private func drops() -> [UInt64] {
        var drops = [UInt64](repeating: 0, count: written.count)
        for tap in lock.withLock({ shared.taps }) where tap.interface < drops.count {
            drops[tap.interface] += tap.droppedCount
        }
        return drops
    }

    private func put(_ bytes: [UInt8]) {
        if filled + bytes.count > Self.bufferByteCount { flush() }
        if isGone { return }
        (buffer + filled).copyMemory(from: bytes, byteCount: bytes.count)
        filled += bytes.count
    }

    /// Writes what is in memory, and waits for the reader as long as it takes; at the end until the
    /// deadline.
    private func flush() {
        var done = 0
        while done < filled && !isGone {
            let sent = cleave_socket_send(socket, buffer + done, filled - done, nil, 0)
            if sent > 0 {
                done += Int(sent)
            } else if sent == -EAGAIN {
                isGone = !awaitReader()
            } else {
                isGone = true
            }
        }
        filled = 0
        if isGone { askForEnd() }
    }

    /// Waits until the reader may take more.
    /// - Returns: false if its time is over.
    private func awaitReader() -> Bool {
        lookForEnd()
        var most: Int64 = -1
        if isStopping {
            let now = SystemClock.monotonic
            if now >= deadline { return false }
            most = Int64(deadline &- now)
        }
        listen(Int32(CLEAVE_STREAM_WRITABLE), most)
        return true
    }

    private func pause() { listen(0, Int64(Self.pauseNanoseconds)) }

    /// Waits for an event, or for the reader's end of the stream.
    private func listen(_ events: Int32, _ nanoseconds: Int64) {
        let hears = heardEnd ? 0 : Int32(CLEAVE_STREAM_ENDED)
        let found = cleave_stream_wait(
            socket, events | hears, isStopping ? -1 : wake.fileDescriptor, nanoseconds)
        if found & Int32(CLEAVE_STREAM_ENDED) != 0 && !heardEnd {
            heardEnd = true
            askForEnd()
        }
    }

    private func askForEnd() {
        let isNew = lock.withLock {
            defer { shared.wantsEnd = true }
            return !shared.wantsEnd
        }
        if isNew { news.signal() }
    }

    /// Writes the statistics, and closes the stream.
    private func finish() {
        describe()
        let drops = dropsAtLimit ?? drops()
        let (names, reason) = lock.withLock { (shared.interfaces, shared.reason) }
        let end = SystemClock.monotonic &+ timeOffset
        for (interface, count) in written.enumerated() {
            let dropped = interface < drops.count ? drops[interface] : 0
            put(
                PcapngBlocks.statistics(
                    .init(
                        interface: interface, start: start, end: end, received: count &+ dropped,
                        dropped: dropped, comment: reason)))
        }
        flush()
        shutdown(socket, Int32(SHUT_WR))
        let packets = written.reduce(0, +)
        let lost = drops.reduce(0, +)
        let place = request.port.map { "port \($0)" } ?? "all ports (\(names.count))"
        let summary =
            "capture of \(place) ended"
            + (isGone ? ", its reader is gone" : reason.map { ": \($0)" } ?? "")
            + ": \(packets) packets, \(lost) dropped"
        lock.withLock {
            shared.summary = summary
            shared.isFinished = true
        }
        news.signal()
    }
}
