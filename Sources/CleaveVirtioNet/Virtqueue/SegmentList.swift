/// One contiguous piece of a device-writable buffer, checked and translated.
struct Segment: BitwiseCopyable {
    var pointer: UnsafeMutableRawPointer
    var byteCount: UInt32
}

extension MemoryRegion {
    /// `byteCount` bytes at `address` as one segment, if they are at least `need` and all lie here.
    @inline(__always)
    func segment(_ address: UInt64, _ byteCount: UInt64, holding need: Int) -> Segment? {
        guard Int(truncatingIfNeeded: byteCount) >= need,
            let pointer = translate(address, byteCount)
        else { return nil }
        return Segment(pointer: pointer, byteCount: UInt32(truncatingIfNeeded: byteCount))
    }

    @inline(__always)
    func segment(_ descriptor: Descriptor, holding need: Int) -> Segment? {
        segment(descriptor.address, UInt64(descriptor.byteCount), holding: need)
    }
}

/// The segments of a burst's buffers, in fixed memory; no growth.
///
/// A value type whose storage is shared: copied into a local for a burst so that the count lives
/// in a register.
struct SegmentList: BitwiseCopyable {
    let base: UnsafeMutablePointer<Segment>
    let capacity: Int
    var count = 0

    init(base: UnsafeMutablePointer<Segment>, capacity: Int) {
        self.base = base
        self.capacity = capacity
    }

    @inline(__always) var isFull: Bool { count >= capacity }

    /// The caller has checked `isFull`.
    @inline(__always)
    mutating func append(_ pointer: UnsafeMutableRawPointer, _ byteCount: UInt32) {
        assert(!isFull)
        (base + count).initialize(to: Segment(pointer: pointer, byteCount: byteCount))
        count &+= 1
    }

    /// Takes `gap` bytes out of the segments from number `first` on, after their first `lead`
    /// bytes; segments may become empty. They hold at least `lead` bytes.
    func cut(from first: Int, at lead: Int, gap: Int) {
        assert(first < count && gap >= 0)
        var index = first
        var before = lead
        while before > Int(base[index].byteCount) {
            before &-= Int(base[index].byteCount)
            index &+= 1
        }
        // The segment with the border is cut there; the rest of the gap lies in those after it.
        var left = gap &- (Int(base[index].byteCount) &- before)
        base[index].byteCount = UInt32(truncatingIfNeeded: before)
        index &+= 1
        while left > 0 && index < count {
            let part = min(left, Int(base[index].byteCount))
            base[index].pointer += part
            base[index].byteCount &-= UInt32(truncatingIfNeeded: part)
            left &-= part
            index &+= 1
        }
    }
}

/// Result of asking a virtqueue for its next buffer: the bytes it holds, or why there is none.
struct BufferFetch: BitwiseCopyable {
    private let value: Int

    @inline(__always) init(byteCount: Int) { value = byteCount }
    private init(code: Int) { value = code }

    /// The driver has posted no further buffer.
    @inline(__always) static var empty: BufferFetch { BufferFetch(code: -1) }
    /// The driver broke the queue; its `fault` says how.
    @inline(__always) static var broken: BufferFetch { BufferFetch(code: -2) }
    /// The segment list is full: the packet needs more pieces than a burst may use.
    @inline(__always) static var full: BufferFetch { BufferFetch(code: -3) }

    @inline(__always) var isBuffer: Bool { value >= 0 }
    @inline(__always) var isEmpty: Bool { value == -1 }
    @inline(__always) var isBroken: Bool { value == -2 }
    @inline(__always) var isFull: Bool { value == -3 }
    /// Writable bytes in the buffer; meaningful if `isBuffer`.
    @inline(__always) var byteCount: Int { value }
}
