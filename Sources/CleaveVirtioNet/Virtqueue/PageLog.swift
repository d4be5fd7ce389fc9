import CleaveHost
import CleaveRings

/// Marks the pages of guest memory that a queue writes: the compile-time policy that bursts are
/// specialised for.
protocol WriteLog: BitwiseCopyable {
    static var isOn: Bool { get }
    /// `byteCount` bytes at `pointer`, in one region of guest memory, were written for a packet.
    func mark(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int)
    /// `byteCount` bytes of header slots were written, `offset` bytes after the first slot.
    func markSlot(_ offset: Int, _ byteCount: Int)
    /// The device's words of the header queue were written.
    func markHeaderWords()
}

/// Marks nothing: bursts of a guest that does not move are specialised for this.
struct NoLog: WriteLog {
    @inline(__always) static var isOn: Bool { false }
    @inline(__always) func mark(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int) {}
    @inline(__always) func markSlot(_ offset: Int, _ byteCount: Int) {}
    @inline(__always) func markHeaderWords() {}
}

/// A range of bytes, counted from the start of an area of a ring.
struct RingSpan: BitwiseCopyable {
    var offset: Int
    var byteCount: Int

    @inline(__always) static var none: RingSpan { RingSpan(offset: 0, byteCount: 0) }
}

/// One bit for each page of 4096 bytes of guest memory, which a front-end reads and clears while a
/// guest moves to another machine.
///
/// A page is marked *after* it was written: who clears a bit copies the page then, and would miss
/// what is written between. What a packet writes is marked before the packet is published, and the
/// ring itself after it.
struct PageLog: WriteLog {
    /// nil: nothing is marked.
    private let bits: UnsafeMutableRawPointer?
    /// Pages that the log has bits for; others are not marked. It was checked that there are none.
    private let pageCount: UInt64
    private let regions: UnsafeMutablePointer<MemoryRegion>
    private let regionCount: Int
    private let logsBuffers: Bool
    private let logsRing: Bool
    /// Guest address of the area in which used entries lie, as it is logged.
    private let usedArea: UInt64
    /// The same of the device area, in which the device asks for kicks.
    private let deviceArea: UInt64
    /// Guest address of header slot 0 and of the device's words; 0 without a header queue.
    var slots: UInt64 = 0
    var headerWords: UInt64 = 0
    private let changed: NotificationSender

    // control path
    /// - Parameters:
    ///   - bits: `pageCount` bits, mapped as long as the queue lives.
    ///   - usedArea: nil if the ring is not logged.
    init(
        bits: UnsafeMutableRawPointer?, pageCount: UInt64, memory: GuestMemory, logsBuffers: Bool,
        usedArea: UInt64?, deviceArea: UInt64, changed: NotificationSender
    ) {
        self.bits = bits
        self.pageCount = pageCount
        regions = memory.regions
        regionCount = memory.regionCount
        self.logsBuffers = logsBuffers && bits != nil
        logsRing = usedArea != nil && bits != nil
        self.usedArea = usedArea ?? 0
        self.deviceArea = deviceArea
        self.changed = changed
    }

    @inline(__always) static var isOn: Bool { true }

    @inline(never)
    func mark(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int) {
        if !logsBuffers { return }
        let host = UInt64(UInt(bitPattern: pointer))
        // All regions that show these bytes: a caller may map the same memory twice.
        for index in 0..<regionCount {
            let region = regions[index]
            let address = host &- region.hostDelta
            if address &- region.guestBase < region.byteCount { mark(at: address, byteCount) }
        }
    }

    func markSlot(_ offset: Int, _ byteCount: Int) {
        if logsBuffers { mark(at: slots &+ UInt64(offset), byteCount) }
    }

    func markHeaderWords() {
        if logsBuffers { mark(at: headerWords, 8) }
    }

    /// Used entries were written, and where the ring has one the index, `index`.
    func markUsed(_ spans: (RingSpan, RingSpan), index: RingSpan) {
        if logsRing {
            mark(at: usedArea &+ UInt64(spans.0.offset), spans.0.byteCount)
            mark(at: usedArea &+ UInt64(spans.1.offset), spans.1.byteCount)
            mark(at: usedArea &+ UInt64(index.offset), index.byteCount)
        }
        if logsRing || logsBuffers, !changed.isNone { _ = changed.send() }
    }

    /// The first `byteCount` bytes of the area of used entries were written.
    func markWholeRing(_ byteCount: Int) {
        if logsRing { mark(at: usedArea, byteCount) }
    }

    /// What the device says of kicks was written.
    func markEvents(_ spans: (RingSpan, RingSpan)) {
        if !logsRing { return }
        mark(at: deviceArea &+ UInt64(spans.0.offset), spans.0.byteCount)
        mark(at: deviceArea &+ UInt64(spans.1.offset), spans.1.byteCount)
    }

    private func mark(at address: UInt64, _ byteCount: Int) {
        guard let bits, byteCount > 0 else { return }
        var page = address &>> 12
        let last = (address &+ UInt64(byteCount) &- 1) &>> 12
        while page <= last && page < pageCount {
            // The word that holds the bit: pages are mapped whole, so it is there, and its other
            // bytes stay what they are, whosever they are.
            let byte = bits + Int(page &>> 3)
            let before = UInt64(UInt(bitPattern: byte) & 7)
            // [L1 both ways: the page's bytes -> whoever takes the bit and then copies the page]
            _ = SharedWord64(byte - Int(before)).fetchOr(1 &<< (before &* 8 &+ (page & 7)))
            page &+= 1
        }
    }
}
