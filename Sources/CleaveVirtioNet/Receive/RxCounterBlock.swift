import CCleaveHost
import CleaveRings

/// The live counters of one RQ: 64-bit words that its worker alone writes, on cache lines of their
/// own; any thread may read them and may lag.
struct RxCounterBlock: BitwiseCopyable {
    static let fallbackStart = 16
    static let dropStart = 24
    static let wordCount = 40
    static let byteCount = CacheLine.roundedUp(wordCount * 8)

    /// Word numbers below `fallbackStart`.
    enum Word: Int, CaseIterable {
        case packets, bytes, split, buffers, bursts, emptyPolls, calls, claimRetries,
            undersizedBuffers
        case slots, tiny, fault, skippedBuffers, misfits, emptyDescriptors, lostCalls
    }

    private let base: UnsafeMutableRawPointer

    /// Identifies the RQ in probes.
    @inline(__always) var identity: UnsafeRawPointer { UnsafeRawPointer(base) }

    /// - Parameter memory: `byteCount` zeroed bytes on a cache line of their own.
    init(memory: UnsafeMutableRawPointer) {
        assert(Word.allCases.count <= Self.fallbackStart)
        assert(Self.fallbackStart + FallbackReason.allCases.count <= Self.dropStart)
        assert(Self.dropStart + DropReason.allCases.count <= Self.wordCount)
        base = memory
    }

    @inline(__always)
    private func word(_ index: Int) -> SharedWord64 { SharedWord64(base + index &* 8) }

    @inline(__always)
    func add(_ word: Word, _ amount: Int) {
        self.word(word.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }

    func set(_ word: Word, _ value: Int) { self.word(word.rawValue).store(UInt64(value)) }
    func read(_ word: Word) -> UInt64 { self.word(word.rawValue).load() }

    var fault: QueueFault {
        QueueFault(rawValue: UInt8(truncatingIfNeeded: read(.fault))) ?? .none
    }

    /// Counts a packet of `FallbackReason` number `index`.
    func addFallback(_ index: Int) {
        word(Self.fallbackStart &+ index).addSingleWriter(1)
        cleave_probe_fallback(identity, UInt64(truncatingIfNeeded: index))
    }

    /// Counts a packet of `DropReason` number `index`.
    func addDrop(_ index: Int) {
        word(Self.dropStart &+ index).addSingleWriter(1)
        cleave_probe_drop(identity, UInt64(truncatingIfNeeded: index))
    }

    /// The end of a burst.
    @inline(__always)
    func probeBurst(refs: Int, packets: Int, buffers: Int) {
        cleave_probe_burst(
            identity, UInt64(truncatingIfNeeded: refs), UInt64(truncatingIfNeeded: packets),
            UInt64(truncatingIfNeeded: buffers))
    }

    /// The driver broke the virtqueue.
    func setFault(_ fault: QueueFault) {
        set(.fault, Int(fault.rawValue))
        cleave_probe_queue_broken(identity, UInt64(fault.rawValue))
    }

    func readFallback(_ reason: FallbackReason) -> UInt64 {
        word(Self.fallbackStart + Int(reason.rawValue)).load()
    }
    func readDrop(_ reason: DropReason) -> UInt64 {
        word(Self.dropStart + Int(reason.rawValue)).load()
    }
}
