// Where captures take packets: at a queue, on its thread.
//
//   switch thread                                      a capture's thread (CaptureStream)
//   tap of a queue   --.
//   tap of a queue   ----[R1]-->  ring of records  -->  the oldest record of all rings, and so on
//   taps of other captures have rings of their own
//
// A record is copied whole or dropped and counted: a thread of the switch never waits for a
// capture. A queue without a tap costs one look at a pointer for each burst.
//
// Order between threads: a record has the time of its burst, read while `busy` says that the thread
// is at it. The capture's thread reads its clock, then `busy` of each thread. One that is not busy
// then has handed over all that it will ever say of earlier times, since it says that it is busy
// before it reads its clock. [T1] orders the four.
//
// Taps come and go while all threads are held (`Switch.whileHeld`).

import CleaveHost
import CleavePorts
import CleaveRings
import CleaveTraffic
import CleaveVirtioNet

/// What a record begins with; the packet's bytes follow.
struct CaptureRecord: BitwiseCopyable {
    /// Nanoseconds of the monotonic clock.
    var time: UInt64
    /// Bytes that the packet had, and those that follow.
    var originalByteCount: UInt32
    var capturedByteCount: UInt32
    /// As in `PcapngPacket`.
    var interface: UInt32
    var flags: UInt32
    var queue: UInt32
    /// Records of the same tap that were dropped since the one before.
    var dropCount: UInt32

    static var byteCount: Int { MemoryLayout<CaptureRecord>.size }
}

/// What one thread of the switch has for one capture.
///
/// `writer` is for that thread, `reader` for the capture's, each alone.
final class CaptureLane: @unchecked Sendable {
    // SAFETY: see above; the shared word lies in the arena, which lives as long.
    private let arena: MemoryArena
    fileprivate let writer: UnsafeMutablePointer<SPSCProducer<UInt8>>
    let reader: UnsafeMutablePointer<SPSCConsumer<UInt8>>
    /// 1 from before the thread reads its clock until its records are in the ring.
    private let busy: SharedWord32
    /// Bytes that are written and not handed over.
    fileprivate var staged = 0

    /// - Parameter byteCount: of the ring, a power of two.
    init(byteCount: Int) throws(HostError) {
        let ringByteCount = SPSCRing<UInt8>.byteCount(capacity: byteCount)
        let line = CacheLine.byteCount
        arena = try MemoryArena(
            byteCount: ringByteCount + line, pages: .small, name: "capture")
        let ring = SPSCRing<UInt8>(
            memory: try arena.allocate(byteCount: ringByteCount, alignment: line),
            capacity: byteCount)
        busy = SharedWord32(try arena.allocate(byteCount: line, alignment: line))
        writer = .allocate(capacity: 1)
        writer.initialize(to: ring.makeProducer())
        reader = .allocate(capacity: 1)
        reader.initialize(to: ring.makeConsumer())
    }

    deinit {
        writer.deinitialize(count: 1)
        writer.deallocate()
        reader.deinitialize(count: 1)
        reader.deallocate()
    }

    /// Begins the records of one burst.
    /// - Returns: its time.
    fileprivate func begin() -> UInt64 {
        // [T1 release, sequential -> the capture's look at it]
        busy.storeSequential(1)
        return SystemClock.monotonic
    }

    /// Hands them over.
    fileprivate func commit() {
        if staged > 0 { writer.pointee.commit(staged) }
        staged = 0
        // [T1 release -> the capture's look at it]
        busy.storeRelease(0)
    }

    /// Whether the thread may still hand over records of a time before the caller's last look at
    /// its clock.
    var isBusy: Bool {
        // [T1 acquire, sequential <- the thread's words that it begins, and that it is done]
        busy.loadSequential() != 0
    }
}

/// A capture's place at one direction of one queue. Used by the queue's thread, and by the control
/// thread while that is held; its counts are for any.
final class CaptureTap: @unchecked Sendable {
    // SAFETY: see above; the counts are words with one writer.
    private let lane: CaptureLane
    let interface: Int
    private let queue: UInt32
    private let direction: CaptureDirection
    private let snapLength: Int
    /// The next capture's at the same place.
    var next: Unmanaged<CaptureTap>?
    private let memory: UnsafeMutableRawPointer
    /// Records that did not fit into the ring.
    private let dropped: SharedWord64
    private var unsaid: UInt32 = 0

    init(
        _ lane: CaptureLane, interface: Int, queue: Int, direction: CaptureDirection,
        snapLength: Int
    ) {
        self.lane = lane
        self.interface = interface
        self.queue = UInt32(truncatingIfNeeded: queue)
        self.direction = direction
        self.snapLength = snapLength
        memory = .allocate(byteCount: CacheLine.byteCount, alignment: CacheLine.byteCount)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: CacheLine.byteCount)
        dropped = SharedWord64(memory)
    }

    deinit { memory.deallocate() }

    var droppedCount: UInt64 { dropped.load() }

    fileprivate func begin() -> UInt64 { lane.begin() }
    fileprivate func commit() { lane.commit() }

    /// Takes whole packets, but for those that the far side's queue has marked as dropped.
    /// - Parameter count: how many references.
    fileprivate func take(_ refs: UnsafePointer<PacketRef>, count: Int, time: UInt64) {
        var next = 0
        while next < count {
            let first = next
            var flags = direction.flag
            var byteCount = 0
            var isDropped = false
            repeat {
                if refs[next].flags.contains(.dropped) { isDropped = true }
                if let context = refs[next].context {
                    flags |= Self.flags(context)
                } else {
                    byteCount &+= Int(refs[next].byteCount)
                }
                next &+= 1
            } while next < count && refs[next &- 1].flags.contains(.more)
            if isDropped { continue }
            append(refs + first, next &- first, byteCount, flags: flags, time: time)
        }
    }

    private func append(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ byteCount: Int, flags: UInt32,
        time: UInt64
    ) {
        let captured = min(byteCount, snapLength)
        let needed = lane.staged &+ CaptureRecord.byteCount &+ captured
        guard lane.writer.pointee.reserve(needed) == needed else {
            dropped.addSingleWriter(1)
            if unsaid < .max { unsaid &+= 1 }
            return
        }
        let record = CaptureRecord(
            time: time, originalByteCount: UInt32(truncatingIfNeeded: byteCount),
            capturedByteCount: UInt32(truncatingIfNeeded: captured),
            interface: UInt32(truncatingIfNeeded: interface), flags: flags, queue: queue,
            dropCount: unsaid)
        unsaid = 0
        withUnsafeBytes(of: record) { write($0.baseAddress, $0.count) }
        var left = captured
        for index in 0..<count where !refs[index].flags.contains(.context) {
            let part = min(left, Int(refs[index].byteCount))
            write(refs[index].pointer, part)
            left &-= part
        }
        assert(lane.staged == needed)
    }

    private func write(_ bytes: UnsafeRawPointer?, _ count: Int) {
        guard let bytes, count > 0 else { return }
        lane.writer.pointee.write(
            bytes.assumingMemoryBound(to: UInt8.self), count: count, at: lane.staged)
        lane.staged &+= count
    }

    private static func flags(_ offloads: PacketOffloads) -> UInt32 {
        var flags: UInt32 = 0
        if offloads.needsChecksum { flags |= PcapngPacket.Flag.checksumNotReady }
        if offloads.flags & NetHeaderFlags.dataValid != 0 {
            flags |= PcapngPacket.Flag.checksumValid
        }
        switch offloads.gsoType & ~SegmentationType.ecn {
        case SegmentationType.tcp4, SegmentationType.tcp6:
            flags |= PcapngPacket.Flag.tcpSegmentation
        default: break
        }
        return flags
    }
}

extension Forwarding {
    /// Shows a queue's burst that came in to those who capture there.
    /// - Parameter first: of its taps.
    @inline(never)
    func capture(burstOf ingress: SwitchQueue, _ first: Unmanaged<CaptureTap>) {
        var tap: Unmanaged<CaptureTap>? = first
        while let current = tap {
            current._withUnsafeGuaranteedRef { tap in
                let time = tap.begin()
                for index in 0..<ingress.count {
                    let count = gather(ingress.packets + index, refs)
                    tap.take(refs, count: count, time: time)
                }
                tap.commit()
            }
            tap = current._withUnsafeGuaranteedRef(\.next)
        }
    }

    /// Shows packets that went out of a queue to those who capture there.
    @inline(never)
    func capture(
        _ refs: UnsafePointer<PacketRef>, count: Int, _ first: Unmanaged<CaptureTap>
    ) {
        if count == 0 { return }
        var tap: Unmanaged<CaptureTap>? = first
        while let current = tap {
            current._withUnsafeGuaranteedRef { tap in
                let time = tap.begin()
                tap.take(refs, count: count, time: time)
                tap.commit()
            }
            tap = current._withUnsafeGuaranteedRef(\.next)
        }
    }
}
