import CleaveHost
import CleaveRings

/// What a ring tells of a publish, and does before and after one that is kept track of.
protocol ObservableRing {
    /// Where the last publish put used entries, from the start of the area that holds them.
    var publishedSpans: (RingSpan, RingSpan) { get }
    /// Where it put their number; none in a packed ring.
    var indexSpan: RingSpan { get }
    /// What `setKicks` writes, from the start of the device area.
    var eventSpans: (RingSpan, RingSpan) { get }
    /// Bytes of the area that holds used entries.
    var usedAreaByteCount: Int { get }
}

/// A receive queue's ring that can be observed.
protocol ObservableVirtqueue: Virtqueue, ObservableRing {
    /// Notes what the publish that follows gives back.
    func beginPublish(_ writer: InFlightWriter)
}

/// A virtqueue of which is kept what it writes, and what it holds: everything else is as in `Base`.
///
/// Between two bursts a receive queue holds nothing. So its lists are noted where they are used,
/// all at once, before their places in the ring are overwritten.
struct ObservedVirtqueue<Base: ObservableVirtqueue>: Virtqueue {
    private var ring: Base
    private(set) var log: PageLog
    private var writer: InFlightWriter?

    static var shadowEntryByteCount: Int { Base.shadowEntryByteCount }

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        shadow: UnsafeMutableRawPointer
    ) throws(SetupError) {
        ring = try Base(addresses, features: features, memory: memory, shadow: shadow)
        log = PageLog(
            bits: nil, pageCount: 0, memory: memory, logsBuffers: false, usedArea: nil,
            deviceArea: 0, changed: .none)
    }

    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {
        self.log = log
        self.writer = writer
        // The ring was written to when it was activated, and when descriptors were put back.
        log.markEvents(ring.eventSpans)
        if writer != nil { log.markWholeRing(ring.usedAreaByteCount) }
    }

    var fault: QueueFault {
        get { ring.fault }
        set { ring.fault = newValue }
    }
    var size: Int { ring.size }
    var base: UInt16 { ring.base }
    var isFresh: Bool { ring.isFresh }
    var usedCount: Int { ring.usedCount }
    var emptyCount: Int { ring.emptyCount }
    var firstDescriptorByteCount: Int { ring.firstDescriptorByteCount }
    var slotReport: Base.SlotReport { ring.slotReport }
    var headMarks: UnsafeMutablePointer<UInt8> { ring.headMarks }

    mutating func refresh(_ count: Int) { ring.refresh(count) }
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        ring.pop(need, &segments)
    }
    mutating func popRun<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, count: Int, into segments: inout SegmentList,
        _ buffer: Buffer.Type
    ) -> Int { ring.popRun(needs, count: count, into: &segments, buffer) }
    mutating func addUsed(_ byteCount: Int) { ring.addUsed(byteCount) }
    mutating func keepEmptyLength() { ring.keepEmptyLength() }
    func head(ofUsed index: Int) -> Int { ring.head(ofUsed: index) }
    mutating func rewind(toUsed usedCount: Int) { ring.rewind(toUsed: usedCount) }
    func wantsCall() -> Bool { ring.wantsCall() }
    func checkInvariants() { ring.checkInvariants() }

    mutating func publish() {
        if ring.usedCount == 0 { return ring.publish() }
        if let writer { ring.beginPublish(writer) }
        ring.publish()
        if let writer { writer.commit() }
        log.markUsed(ring.publishedSpans, index: ring.indexSpan)
    }

    func setKicks(enabled wanted: Bool) {
        ring.setKicks(enabled: wanted)
        log.markEvents(ring.eventSpans)
    }
}
