/// What a burst's passes know of one packet: scan writes the first word, reserve the second, place
/// reads both.
///
/// Sixteen bytes in two words, each written by one store: as a struct of ten fields the passes
/// spent a quarter of their time storing them one by one.
///
///     scanned    headerLength 16 | fate 8 | 0 8 | firstRef 16 | refCount 16
///     reserved   firstSegment 32 | firstUsed 16 | bufferCount - 1 15, isSimple 1
struct PlannedPacket: BitwiseCopyable {
    private var scanned: UInt64
    private var reserved: UInt64

    /// After scan.
    /// - Parameters:
    ///   - headerLength: exact L2 to L4 headers, if they are to lie apart; 0 = whole.
    ///   - firstRef: number of its first reference in the burst.
    ///   - refCount: its source segments.
    @inline(__always)
    init(headerLength: UInt16, fate: Fate, firstRef: Int, refCount: Int) {
        scanned =
            UInt64(headerLength) | UInt64(fate.code) &<< 16
            | UInt64(truncatingIfNeeded: firstRef) &<< 32
            | UInt64(truncatingIfNeeded: refCount) &<< 48
        reserved = 0
    }

    /// After reserve.
    /// - Parameters:
    ///   - firstSegment: number of the first of its buffers' segments in the burst.
    ///   - firstUsed: number of the first of its used entries in the burst.
    ///   - bufferCount: buffers it takes, 1 to 32768; `num_buffers` when they are mergeable.
    ///   - isSimple: one source segment, and buffers as in a run: the fast way.
    @inline(__always)
    mutating func reserve(
        firstSegment: Int, firstUsed: Int, bufferCount: Int, isSimple: Bool
    ) {
        reserved =
            UInt64(truncatingIfNeeded: firstSegment) | UInt64(truncatingIfNeeded: firstUsed) &<< 32
            | UInt64(truncatingIfNeeded: bufferCount &- 1) &<< 48 | (isSimple ? 1 &<< 63 : 0)
    }

    /// This packet as number `index` of a uniform burst.
    @inline(__always)
    func uniform<Method: PlacementMethod>(_ index: Int, _ method: Method.Type) -> PlannedPacket {
        var packet = self
        packet.reserve(
            firstSegment: index &* Method.partCount, firstUsed: index &* Method.bufferCount,
            bufferCount: Method.bufferCount, isSimple: true)
        return packet
    }

    @inline(__always) var headerLength: UInt16 { UInt16(truncatingIfNeeded: scanned) }
    @inline(__always) var firstRef: Int { Int(UInt16(truncatingIfNeeded: scanned &>> 32)) }
    @inline(__always) var refCount: Int { Int(scanned &>> 48) }
    @inline(__always) var firstSegment: Int { Int(UInt32(truncatingIfNeeded: reserved)) }
    @inline(__always) var firstUsed: Int { Int(UInt16(truncatingIfNeeded: reserved &>> 32)) }
    @inline(__always)
    var bufferCount: UInt16 { (UInt16(truncatingIfNeeded: reserved &>> 48) & 0x7fff) &+ 1 }
    @inline(__always) var isSimple: Bool { Int64(bitPattern: reserved) < 0 }

    @inline(__always) var fate: Fate { Fate(code: UInt8(truncatingIfNeeded: scanned &>> 16)) }
    /// Headers go to a place of their own.
    @inline(__always) var isSplit: Bool { headerLength != 0 && !fate.isDropped }

    /// The packet goes whole after all, or is dropped, or (`.deliver`) neither.
    mutating func settle(_ fate: Fate, keepsSplit: Bool) {
        scanned = (scanned & ~0xff_0000) | UInt64(fate.code) &<< 16
        if !keepsSplit { scanned &= ~0xffff }
    }

    /// Delivered split, or whole for a reason, or tiny: the lower four bits. Dropped for a reason:
    /// the upper four, so that a packet dropped for its buffers keeps what it was before.
    struct Fate: BitwiseCopyable, Equatable {
        fileprivate let code: UInt8

        @inline(__always) fileprivate init(code: UInt8) { self.code = code }
        @inline(__always)
        init(_ reason: FallbackReason) {
            code = 1 &+ reason.rawValue
            assert(code < Fate.tiny.code, "four bits")
        }
        @inline(__always)
        init(_ reason: DropReason) {
            assert(reason.rawValue < 15, "four bits")
            code = (1 &+ reason.rawValue) &<< 4
        }

        @inline(__always) static var deliver: Fate { Fate(code: 0) }
        /// Delivered in a header slot entirely.
        @inline(__always) static var tiny: Fate { Fate(code: 15) }

        @inline(__always) var isDropped: Bool { code > 15 }
        /// Index into the counters of `FallbackReason`, or nil.
        @inline(__always) var fallbackIndex: Int? {
            code == 0 || code >= Fate.tiny.code ? nil : Int(code) &- 1
        }
        /// Index into the counters of `DropReason`; meaningful if `isDropped`.
        @inline(__always) var dropIndex: Int { Int(code &>> 4) &- 1 }
        /// Decided by what the buffers were, not by the packet: void once the queue is rewound.
        @inline(__always) var dependsOnBuffers: Bool {
            isDropped && dropIndex >= Int(DropReason.bufferTooSmall.rawValue)
        }

        /// The same, but dropped for `reason`.
        func dropped(_ reason: DropReason) -> Fate { Fate(code: code & 15 | Fate(reason).code) }
        /// The outcome without the drop.
        var undropped: Fate { Fate(code: code & 15) }
    }
}
