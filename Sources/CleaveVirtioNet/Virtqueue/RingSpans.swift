// Where a publish writes, for the log of written pages.

extension SplitLayout {
    /// Used entries `from` to `to`, free-running, as bytes of the used ring: two ranges at its end.
    static func usedSpans(
        from: UInt16, to: UInt16, size: Int
    ) -> (RingSpan, RingSpan) {
        let (start, count) = (Int(from) & (size &- 1), Int(to &- from))
        let first = min(count, size &- start)
        return (
            RingSpan(
                offset: entriesOffset &+ start &* usedElementByteCount,
                byteCount: first &* usedElementByteCount),
            RingSpan(
                offset: entriesOffset, byteCount: (count &- first) &* usedElementByteCount)
        )
    }

    static var usedIndexSpan: RingSpan { RingSpan(offset: indexOffset, byteCount: 2) }

    /// `flags` and `avail_event`.
    static func eventSpans(size: Int) -> (RingSpan, RingSpan) {
        (
            RingSpan(offset: flagsOffset, byteCount: 2),
            RingSpan(offset: availEventOffset(size: size), byteCount: 2)
        )
    }
}

extension PackedLayout {
    /// The last `count` descriptors before `end`, as bytes of the ring: two ranges at its end.
    static func spans(
        upTo end: PackedCursor, count: Int, size: Int
    ) -> (RingSpan, RingSpan) {
        let start = end.moved(back: count, size: size).offset
        let first = min(count, size &- start)
        return (
            RingSpan(
                offset: start &* descriptorByteCount, byteCount: first &* descriptorByteCount),
            RingSpan(offset: 0, byteCount: (count &- first) &* descriptorByteCount)
        )
    }

    static var eventSpans: (RingSpan, RingSpan) {
        (RingSpan(offset: 0, byteCount: eventByteCount), .none)
    }
}
