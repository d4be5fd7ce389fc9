// The profile of one RQ as it lies in memory that other processes map: fixed layout, version 1.
//
//     0  header      magic 64, version 32, stages 32, bytes 64, buckets 32, traces 32,
//                    reserved 64, RQ number 32 (all ones: none), ring size 32,
//                    net header bytes 32, flags 32
//    64  label       64 bytes of UTF-8, zero-padded
//   128  period      32: one poll in this many is measured, 0 = none. Written by observers
//   256  counters    32 words of 64 bits (`Word`)
//   512  cycles      16 words: each stage's; then the whole poll's
//   640  histograms  of cycles per packet in sixteenths, then of cycles per burst: for each stage
//                    and the whole poll `bucketCount` words of 32 bits
//        traces      on a cache line: 64, how many were written; on the next one the last
//                    `traceCount`, 64 bytes each (`TraceWord`)
//
// All words are the host's; but for the period they have one writer, the RQ's worker.

import CleaveRings

/// A view of one RQ's profile. A process that maps one checks it first (`problem`).
public struct ProfileBlock: BitwiseCopyable, @unchecked Sendable {
    // SAFETY: words that are accessed as shared ones; the memory outlives the view, as `init` asks.

    public static let magic: UInt64 = 0x5250_4556_4145_4c43  // "CLEAVEPR"
    public static let version: UInt32 = 1
    /// Name of a profile's memory: `/proc/PID/fd` shows it as `/memfd:cleave-profile`.
    public static let memoryName = "cleave-profile"

    /// Rows of cycles and histograms: the stages and the poll.
    public static let rowCount = RxStage.count + 1
    /// The row of the whole poll.
    public static let pollRow = RxStage.count
    public static let traceCount = 256
    static let labelByteCount = 64
    private static let histogramByteCount = ProfileBuckets.count * 4
    private static let histogramStart = 640
    private static let traceStart = CacheLine.roundedUp(
        histogramStart + 2 * rowCount * histogramByteCount)
    private static let traceByteCount = 64
    public static let byteCount =
        traceStart + CacheLine.byteCount + traceCount * traceByteCount

    /// Words of the header.
    enum Offset {
        static let version = 8
        static let stages = 12
        static let bytes = 16
        static let buckets = 24
        static let traces = 28
        static let number = 40
        static let ringSize = 44
        static let netHeader = 48
        static let flags = 52
        static let label = 64
        static let period = 128
    }

    /// Counters of polls measured stage by stage, except waits and whole polls.
    public enum Word: Int, CaseIterable {
        case bursts, packets, bytes, references, buffers
        /// Packets with headers in a place of their own, and the bytes of those headers.
        case splitPackets, headerBytes
        /// Bursts with packets that found no header slot and went whole; nothing waits for slots.
        case shortOfSlots
        /// The first of `RxWait.count`: empty polls; then cycles until the next poll, by reason.
        case waits
        case waitCycles = 11
        /// Polls measured as a whole, as every other one is: their number, packets and cycles.
        case wholeTurns = 14
        case wholePackets, wholeCycles
        /// Of the polls measured stage by stage, those in which a burst was placed in one pass:
        /// their packets, and the cycles of that pass. The others have its parts.
        case onePassPackets, onePassCycles
        /// Polls excluded from all other counters, since something else had the CPU in between:
        /// those that took more than eight times the mean.
        case interrupted
    }

    /// Words of one trace.
    public enum TraceWord: Int {
        /// The counter when the poll began.
        case start
        /// Packets, 32 bits, and bytes.
        case sizes
        /// The first stage's cycles, 32 bits for each stage.
        case cycles
    }

    public let base: UnsafeMutableRawPointer

    /// - Parameter base: `byteCount` bytes on a cache line, zeroed or a profile.
    public init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inline(__always) func word(_ offset: Int) -> SharedWord64 { SharedWord64(base + offset) }
    @inline(__always) func half(_ offset: Int) -> SharedWord32 { SharedWord32(base + offset) }

    /// One poll in this many is measured; 0 for none.
    @inline(__always) public var period: SharedWord32 { half(Offset.period) }

    @inline(__always)
    func counter(_ word: Word, _ index: Int = 0) -> SharedWord64 {
        self.word(256 &+ 8 &* (word.rawValue &+ index))
    }

    @inline(__always)
    func cycles(_ row: Int) -> SharedWord64 { word(512 &+ 8 &* row) }

    /// - Parameter perBurst: of cycles per burst; else of sixteenths of cycles per packet.
    @inline(__always)
    func bucket(_ row: Int, perBurst: Bool, _ index: Int) -> SharedWord32 {
        let histogram = perBurst ? row &+ Self.rowCount : row
        return half(Self.histogramStart &+ histogram &* Self.histogramByteCount &+ index &* 4)
    }

    /// Traces written so far.
    @inline(__always) var tracesWritten: SharedWord64 { word(Self.traceStart) }

    /// Words of trace number `number`, where it lies or lay.
    @inline(__always)
    func trace(_ number: UInt64) -> UnsafeMutableRawPointer {
        let index = Int(truncatingIfNeeded: number) & (Self.traceCount &- 1)
        return base + Self.traceStart + CacheLine.byteCount + index &* Self.traceByteCount
    }
}

/// Buckets of histograms: values up to 15 each have one; above, each power of two has sixteen, so
/// that a bucket's width is at most a sixteenth of its values.
public enum ProfileBuckets {
    /// For 32-bit values.
    public static let count = 464

    /// The bucket of `value`.
    @inline(__always)
    public static func index(_ value: UInt32) -> Int {
        if value < 16 { return Int(value) }
        let shift = 27 &- value.leadingZeroBitCount
        return shift &* 16 &+ Int(truncatingIfNeeded: value &>> UInt32(truncatingIfNeeded: shift))
    }

    /// The values of bucket `index`.
    public static func values(_ index: Int) -> ClosedRange<UInt32> {
        if index < 16 { return UInt32(index)...UInt32(index) }
        let shift = UInt32(index / 16 - 1)
        let least = UInt32(index % 16 + 16) &<< shift
        return least...(least + ((1 &<< shift) - 1))
    }
}
