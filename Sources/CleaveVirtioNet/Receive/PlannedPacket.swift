/// What a burst's passes know of one packet: scan writes the first word, reserve the second, place
/// reads both.
///
/// Sixteen bytes in two words, each written by one store: as a struct of ten fields the passes
/// spent a quarter of their time storing them one by one.
///
///     scanned    headerLength 16 | outcome 8 | 0 8 | firstRef 16 | refCount 16
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
    init(headerLength: UInt16, outcome: Outcome, firstRef: Int, refCount: Int) {
        scanned =
            UInt64(headerLength) | UInt64(outcome.code) &<< 16
            | UInt64(truncatingIfNeeded: firstRef) &<< 32
            | UInt64(truncatingIfNeeded: refCount) &<< 48
        reserved = 0
    }

    /// After reserve.
    /// - Parameters:
    ///   - firstSegment: number of the first of its buffers' segments in the burst.
    ///   - firstUsed: number of the first of its used entries in the burst.
    ///   - bufferCount: buffers it takes, 1 to 32768; `num_buffers` when they are mergeable.
    ///   - isSimple: one source segment, and buffers as in a run: the fast path.
    @inline(__always)
    mutating func reserve(
        firstSegment: Int, firstUsed: Int, bufferCount: Int, isSimple: Bool
    ) {
        assert((0...0xffff_ffff).contains(firstSegment) && (0...0xffff).contains(firstUsed))
        assert((1...0x8000).contains(bufferCount))
        reserved =
            UInt64(truncatingIfNeeded: firstSegment) | UInt64(truncatingIfNeeded: firstUsed) &<< 32
            | UInt64(truncatingIfNeeded: bufferCount &- 1) &<< 48 | (isSimple ? 1 &<< 63 : 0)
    }

    @inline(__always) var headerLength: UInt16 { UInt16(truncatingIfNeeded: scanned) }
    @inline(__always) var firstRef: Int { Int(UInt16(truncatingIfNeeded: scanned &>> 32)) }
    @inline(__always) var refCount: Int { Int(scanned &>> 48) }
    @inline(__always) var firstSegment: Int { Int(UInt32(truncatingIfNeeded: reserved)) }
    @inline(__always) var firstUsed: Int { Int(UInt16(truncatingIfNeeded: reserved &>> 32)) }
    @inline(__always)
    var bufferCount: UInt16 { (UInt16(truncatingIfNeeded: reserved &>> 48) & 0x7fff) &+ 1 }
    @inline(__always) var isSimple: Bool { Int64(bitPattern: reserved) < 0 }

    @inline(__always) var outcome: Outcome {
        Outcome(code: UInt8(truncatingIfNeeded: scanned &>> 16))
    }
    /// Headers go to a place of their own.
    @inline(__always) var isSplit: Bool { headerLength != 0 && !outcome.isDropped }

    /// Changes the outcome: whole after all, dropped, or (`.deliver`) neither.
    mutating func settle(_ outcome: Outcome, keepsSplit: Bool) {
        scanned = (scanned & ~0xff_0000) | UInt64(outcome.code) &<< 16
        if !keepsSplit { scanned &= ~0xffff }
    }

    /// Delivered split, or whole for a reason, or tiny: the lower four bits. Dropped for a reason:
    /// the upper four, so that a packet dropped for its buffers keeps what it was before.
    struct Outcome: BitwiseCopyable, Equatable {
        fileprivate let code: UInt8

        @inline(__always) fileprivate init(code: UInt8) { self.code = code }
        @inline(__always)
        init(_ reason: FallbackReason) {
            code = 1 &+ reason.rawValue
            assert(code < Outcome.tiny.code, "four bits")
        }
        @inline(__always)
        init(_ reason: DropReason) {
            assert(reason.rawValue < 15, "four bits")
            code = (1 &+ reason.rawValue) &<< 4
        }

        @inline(__always) static var deliver: Outcome { Outcome(code: 0) }
        /// Delivered in a header slot entirely.
        @inline(__always) static var tiny: Outcome { Outcome(code: 15) }

        @inline(__always) var isDropped: Bool { code > 15 }
        /// Index into the counters of `FallbackReason`, or nil.
        @inline(__always) var fallbackIndex: Int? {
            code == 0 || code >= Outcome.tiny.code ? nil : Int(code) &- 1
        }
        /// Index into the counters of `DropReason`; meaningful if `isDropped`.
        @inline(__always) var dropIndex: Int { Int(code &>> 4) &- 1 }
        /// Decided by what the buffers were, not by the packet: void once the queue is rewound.
        @inline(__always) var dependsOnBuffers: Bool {
            isDropped && dropIndex >= Int(DropReason.bufferTooSmall.rawValue)
        }

        /// The same, but dropped for `reason`.
        func dropped(_ reason: DropReason) -> Outcome {
            Outcome(code: code & 15 | Outcome(reason).code)
        }
        /// The outcome without the drop.
        var undropped: Outcome { Outcome(code: code & 15) }
    }
}
