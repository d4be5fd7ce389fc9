/// What a burst's passes know of one packet: filled by scan, completed by reserve, read by place.
///
/// 32 bytes, so that a burst of 32 stays in sixteen cache lines.
struct PlannedPacket: BitwiseCopyable {
    /// First byte of the first source segment.
    var source: UnsafeRawPointer
    /// Bytes of the packet, all source segments together.
    var byteCount: UInt32
    /// Number of the first of its buffers' segments in the burst's `SegmentList`.
    var firstSegment: UInt32 = 0
    /// Exact length of the L2 to L4 headers if they go to a header slot; 0 = placed whole.
    var headerLength: UInt16 = 0
    /// Number of the first of its references in the burst.
    var firstRef: UInt16
    /// Source segments.
    var refCount: UInt16
    /// Number of the first of its used entries in the burst.
    var firstUsed: UInt16 = 0
    /// Buffers it takes; `num_buffers` when they are mergeable.
    var bufferCount: UInt16 = 0
    /// One source segment and at most one buffer segment: the fast way.
    var isSimple = false
    var fate = Fate.deliver

    @inline(__always) var takesSlot: Bool { headerLength != 0 && !fate.isDropped }

    /// Delivered split, delivered whole for a reason, or dropped for a reason; one byte.
    struct Fate: BitwiseCopyable, Equatable {
        private let code: UInt8

        private init(code: UInt8) { self.code = code }
        @inline(__always) init(_ reason: FallbackReason) { code = 1 &+ reason.rawValue }
        @inline(__always) init(_ reason: DropReason) { code = Self.firstDrop &+ reason.rawValue }

        private static var firstDrop: UInt8 { 64 }
        @inline(__always) static var deliver: Fate { Fate(code: 0) }

        @inline(__always) var isDropped: Bool { code >= Self.firstDrop }
        /// Index into the counters of `FallbackReason`, or nil.
        @inline(__always) var fallbackIndex: Int? {
            code == 0 || isDropped ? nil : Int(code) &- 1
        }
        /// Index into the counters of `DropReason`; meaningful if `isDropped`.
        @inline(__always) var dropIndex: Int { Int(code &- Self.firstDrop) }
        /// Decided by what the buffers were, not by the packet: void once the queue is rewound.
        @inline(__always) var dependsOnBuffers: Bool {
            isDropped && dropIndex >= Int(DropReason.bufferTooSmall.rawValue)
        }
    }
}
