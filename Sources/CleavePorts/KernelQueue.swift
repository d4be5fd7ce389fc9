// One queue of a kernel interface: frames after virtio-net headers, through a descriptor. TAP
// devices and packet sockets differ in how a descriptor is opened, and in little else.
//
// A frame that comes in lies in a slot of the queue's own until it is completed:
//
//   | 4: room for a tag | 12: header, its end here | frame ... | 64 |
//   ^ slot                                         ^ slot + 16
//
// A frame that goes out is written from where it lies: header and segments, one system call each.
//
// What comes from the kernel is checked like a guest's: another process may have sent it through
// the same kind of device.

import CCleaveHost
import CleaveHost
import CleaveRings
import CleaveVirtioNet
import Glibc

/// A queue whose far side is a kernel interface.
///
/// The control thread attaches and detaches the descriptor while the switch is held; a thread of
/// the switch uses it while it is not.
final class KernelQueue: PortQueue {
    /// How frames are read from a descriptor.
    enum Kind {
        case tap, packetSocket

        /// Bytes of the virtio-net header.
        var headerByteCount: Int { self == .tap ? NetHeaderLayout.basicByteCount : 10 }
    }

    /// Frames that came in and are not completed, at most.
    static let slotCount = 64
    /// The largest frame, as virtio knows it.
    static let maximumFrameByteCount = 65589
    private static let frameOffset = 16
    private static let tagByteCount = 4
    /// The largest frame, and the line after it that copies may read.
    private static let slotByteCount = 68 << 10
    private static let maximumSegmentCount = TxQueue.maximumSegments

    private let kind: Kind
    private let words = PortCounterWords.allocate()
    private let parts: UnsafeMutablePointer<iovec>
    private let header: UnsafeMutableRawPointer
    private let scratch: UnsafeMutableRawPointer
    /// Allocated when the queue is first attached.
    private var slots: UnsafeMutableRawPointer?
    private var arena: MemoryArena?
    private var descriptor: Int32 = -1
    private var taken = VirtioFeatures()
    /// The oldest slot that is out, and how many are.
    private var first = 0
    private var outCount = 0
    /// Frames that the kernel threw away because too many waited. The control thread's.
    private var lostCount: UInt64 = 0

    init(_ kind: Kind) {
        self.kind = kind
        parts = .allocate(capacity: Self.maximumSegmentCount + 1)
        parts.initialize(repeating: iovec(), count: Self.maximumSegmentCount + 1)
        header = .allocate(byteCount: 16, alignment: 8)
        header.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
        scratch = .allocate(byteCount: HeaderParser.scratchByteCount, alignment: 8)
    }

    deinit {
        closeDescriptor()
        parts.deallocate()
        header.deallocate()
        scratch.deallocate()
        words.deallocate()
    }

    // MARK: The control thread

    /// Takes memory for the frames that come in.
    func allocate(node: Int?) throws(SetupError) {
        if slots != nil { return }
        do throws(HostError) {
            let byteCount = Self.slotCount * Self.slotByteCount
            let fresh = try MemoryArena(
                byteCount: byteCount, node: node, pages: .small, name: "port")
            slots = try fresh.allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
            arena = fresh
        } catch { throw SetupError("", error) }
    }

    /// Opens the queue at a descriptor, which is the queue's from now on.
    /// - Parameter offloads: what the kernel takes unfinished.
    func attach(_ descriptor: Int32, offloads: VirtioFeatures) {
        closeDescriptor()
        self.descriptor = descriptor
        taken = offloads
        words.set(.gone, 0)
        (first, outCount) = (0, 0)
    }

    func detach() {
        closeDescriptor()
        taken = []
    }

    private func closeDescriptor() {
        countLost()
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    /// Whether the device was deleted. Its descriptor is then readable for ever, and gives nothing.
    var isGone: Bool { words.read(.gone) != 0 }

    var residence: PageResidence? {
        arena.map { $0.residence("queue", node: $0.node) }
    }

    var counters: PortCounters {
        countLost()
        var sum = words.counters
        if lostCount > 0 { sum.incoming.dropped[PortDrop.socketFull.name] = lostCount }
        return sum
    }

    private func countLost() {
        guard kind == .packetSocket, descriptor >= 0 else { return }
        lostCount += UInt64(max(0, cleave_packet_lost(descriptor)))
    }

    // MARK: PortQueue

    var offloads: VirtioFeatures { taken }
    var isOpen: Bool { descriptor >= 0 }
    var isReceiving: Bool { descriptor >= 0 }
    var wakeDescriptor: Int32 { descriptor }
    /// The descriptor is readable when frames wait, whatever was asked for.
    func setWakeups(enabled: Bool) {}

    func receive(_ packets: UnsafeMutablePointer<TxPacket>, count: Int) -> Int {
        guard descriptor >= 0, let slots else { return 0 }
        var done = 0
        var byteCount = 0
        // Frames that are refused count as tries: a flood of them must not keep the thread here.
        var tries = min(count, Self.slotCount &- outCount)
        while tries > 0 {
            tries &-= 1
            let number = (first &+ outCount) % Self.slotCount
            let frame = slots + number &* Self.slotByteCount + Self.frameOffset
            guard let (start, length) = readFrame(frame) else { break }
            if length < 0 { continue }
            guard let offloads = incoming(frame, start, length) else { continue }
            (packets + done).initialize(to: TxPacket(start, byteCount: length, offloads: offloads))
            outCount &+= 1
            done &+= 1
            byteCount &+= length
        }
        if done > 0 {
            words.add(.packetsIn, done)
            words.add(.bytesIn, byteCount)
        }
        return done
    }

    func complete(_ count: Int) {
        assert(count <= outCount)
        first = (first &+ count) % Self.slotCount
        outCount &-= count
    }

    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        var done = 0
        while done < count {
            var end = done &+ 1
            while end < count && refs[end &- 1].flags.contains(.more) { end &+= 1 }
            if !send(UnsafePointer(refs + done), count: end &- done) { break }
            done = end
        }
        return done
    }

    // MARK: In

    /// Reads the next frame.
    /// - Returns: where it begins, which is before `frame` if a tag was put back; a negative length
    ///   for a frame that was dropped; nil if there is none now.
    private func readFrame(
        _ frame: UnsafeMutableRawPointer
    ) -> (start: UnsafeMutableRawPointer, byteCount: Int)? {
        let headerByteCount = kind.headerByteCount
        let header = frame - headerByteCount
        // One byte more than is allowed tells a frame that is too long.
        let room = Self.maximumFrameByteCount &+ 1
        var tag = cleave_vlan_tag()
        let got =
            kind == .tap
            ? cleave_frame_read(descriptor, header, headerByteCount, frame, room)
            : cleave_packet_read(descriptor, header, headerByteCount, frame, room, &tag)
        if got < 0 {
            if got == -Int(EAGAIN) { return nil }
            words.add(.readErrors, 1)
            if got == -Int(EBADFD) { words.set(.gone, 1) }
            // The kernel has given up one frame, whose offloads it cannot express.
            return got == -Int(EINVAL) ? (frame, -1) : nil
        }
        var byteCount = got &- headerByteCount
        var start = frame
        if tag.protocol != 0 && byteCount >= 12 {
            start = restore(tag, frame)
            byteCount &+= Self.tagByteCount
        }
        if byteCount > Self.maximumFrameByteCount {
            words.addDropIn(.tooLong)
            return (frame, -1)
        }
        if byteCount < 14 {
            words.addDropIn(.runt)
            return (frame, -1)
        }
        return (start, byteCount)
    }

    /// Puts a tag back in front of the ethertype, and the header's offsets right. The header, which
    /// the addresses would overwrite, is moved with them.
    private func restore(
        _ tag: cleave_vlan_tag, _ frame: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        let start = frame - Self.tagByteCount
        var old = NetHeader(load: frame - kind.headerByteCount, byteCount: 12)
        memmove(start, frame, 12)
        start.storeBytes(of: tag.protocol.bigEndian, toByteOffset: 12, as: UInt16.self)
        start.storeBytes(of: tag.control.bigEndian, toByteOffset: 14, as: UInt16.self)
        if old.flags & NetHeaderFlags.needsChecksum != 0 {
            old.csumStart = UInt16(clamping: Int(old.csumStart) &+ Self.tagByteCount)
        }
        old.store(to: self.header, byteCount: 12)
        return start
    }

    /// The offloads of a frame that came in; nil if they are not those of the frame, which is then
    /// dropped.
    private func incoming(
        _ frame: UnsafeMutableRawPointer, _ start: UnsafeMutableRawPointer, _ byteCount: Int
    ) -> PacketOffloads? {
        let from = start == frame ? frame - kind.headerByteCount : self.header
        let said = NetHeader(load: from, byteCount: 12)
        let needsChecksum = said.flags & NetHeaderFlags.needsChecksum != 0
        if !needsChecksum && said.gsoType == SegmentationType.none { return PacketOffloads.none }
        let end = Int(said.csumStart) &+ Int(said.csumOffset) &+ 2
        var isRight = needsChecksum && said.csumStart >= 14 && end <= byteCount
        switch said.gsoType & ~SegmentationType.ecn {
        case SegmentationType.none: isRight = isRight && said.gsoType == SegmentationType.none
        case SegmentationType.tcp4, SegmentationType.tcp6, SegmentationType.udpDatagrams,
            SegmentationType.udpFragments:
            isRight = isRight && said.gsoSize > 0
        default: isRight = false
        }
        guard isRight else {
            words.addDropIn(.badOffload)
            return nil
        }
        return PacketOffloads(
            flags: NetHeaderFlags.needsChecksum, gsoType: said.gsoType,
            gsoSize: said.gsoType == SegmentationType.none ? 0 : said.gsoSize,
            csumStart: said.csumStart, csumOffset: said.csumOffset)
    }

    // MARK: Out

    /// Writes one packet, or drops it, counted.
    /// - Returns: false if there is no room now.
    private func send(_ run: UnsafePointer<PacketRef>, count: Int) -> Bool {
        guard descriptor >= 0 else { return drop(.linkDown) }
        let context = run[0].context
        let segments = context == nil ? run : run + 1
        let segmentCount = context == nil ? count : count &- 1
        if segmentCount > Self.maximumSegmentCount { return drop(.tooManySegments) }
        var byteCount = 0
        for index in 0..<segmentCount {
            let segment = segments[index]
            byteCount &+= Int(segment.byteCount)
            parts[index &+ 1] = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: segment.pointer),
                iov_len: Int(segment.byteCount))
        }
        if byteCount < 14 { return drop(.runt) }
        if byteCount > Self.maximumFrameByteCount { return drop(.tooLong) }
        writeHeader(context ?? .none, segments, segmentCount)
        parts[0] = iovec(iov_base: header, iov_len: kind.headerByteCount)
        let result = cleave_frame_write(descriptor, parts, Int32(segmentCount &+ 1))
        if result >= 0 {
            words.add(.packetsOut, 1)
            words.add(.bytesOut, byteCount)
            return true
        }
        switch Int32(-result) {
        case EAGAIN, ENOBUFS, ENOMEM: return false
        case EINVAL: return drop(.badOffload)
        case EMSGSIZE: return drop(.tooLong)
        case EIO, ENETDOWN, ENXIO, ENODEV, EBADFD: return drop(.linkDown)
        default: return drop(.writeFailed)
        }
    }

    private func drop(_ reason: PortDrop) -> Bool {
        words.addDropOut(reason)
        return true
    }

    /// The header of a frame that goes out. The kernel keeps the first `hdrLen` bytes in linear
    /// memory and the rest in pages: with the true length the payload lies alone in its pages,
    /// which a receiver can then map. It is never more than the frame has.
    private func writeHeader(
        _ offloads: PacketOffloads, _ segments: UnsafePointer<PacketRef>, _ count: Int
    ) {
        let split = HeaderParser.parse(segments: segments, segmentCount: count, scratch: scratch)
        var net = NetHeader(hdrLen: split.byteCount, numBuffers: 0)
        if offloads.needsChecksum {
            net.flags = NetHeaderFlags.needsChecksum
            net.csumStart = offloads.csumStart
            net.csumOffset = offloads.csumOffset
            net.gsoType = offloads.gsoType
            net.gsoSize = offloads.gsoType == SegmentationType.none ? 0 : offloads.gsoSize
        }
        net.store(to: header, byteCount: NetHeaderLayout.basicByteCount)
    }
}
