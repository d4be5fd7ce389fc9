// control path, but for the block
import CleaveRings

/// The live counters of one transmit queue: 64-bit words with one writer, readers may lag.
struct TxCounterBlock: BitwiseCopyable {
    static let dropStart = 8
    static let wordCount = 16
    static let byteCount = CacheLine.roundedUp(wordCount * 8)

    /// Word numbers below `dropStart`.
    enum Word: Int, CaseIterable {
        case packets, bytes, bursts, emptyPolls, calls, fault, lostCalls
    }

    private let base: UnsafeMutableRawPointer

    /// - Parameter memory: `byteCount` zeroed bytes on a cache line of their own.
    init(memory: UnsafeMutableRawPointer) {
        assert(Word.allCases.count <= Self.dropStart)
        assert(Self.dropStart + TxDropReason.allCases.count <= Self.wordCount)
        base = memory
    }

    @inline(__always)
    private func word(_ index: Int) -> SharedWord64 { SharedWord64(base + index &* 8) }

    @inline(__always)
    func add(_ word: Word, _ amount: Int) {
        self.word(word.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }

    func addDrop(_ index: Int) { word(Self.dropStart &+ index).addSingleWriter(1) }
    func set(_ word: Word, _ value: Int) {
        self.word(word.rawValue).store(UInt64(truncatingIfNeeded: value))
    }
    func read(_ word: Word) -> UInt64 { self.word(word.rawValue).load() }
    func readDrop(_ reason: TxDropReason) -> UInt64 {
        word(Self.dropStart + Int(reason.rawValue)).load()
    }

    var fault: QueueFault {
        QueueFault(rawValue: UInt8(truncatingIfNeeded: read(.fault))) ?? .none
    }
}

/// What one transmit queue has done since it was made.
public struct TxCounters: Sendable, Equatable {
    /// Packets handed out.
    public var packets: UInt64
    /// Bytes of those, net headers not included.
    public var bytes: UInt64
    /// Calls that handed out at least one packet, and those that did not.
    public var bursts: UInt64
    public var emptyPolls: UInt64
    /// Times the driver had asked to be called.
    public var calls: UInt64
    /// Of those, calls that reached nobody: the other end of the descriptor is gone.
    public var lostCalls: UInt64
    /// Why the driver's virtqueue is broken, or `.none`.
    public var fault: QueueFault
    /// Packets not handed out, by reason; reasons that occurred.
    public var dropped: [TxDropReason: UInt64] = [:]

    init(_ block: TxCounterBlock) {
        packets = block.read(.packets)
        bytes = block.read(.bytes)
        bursts = block.read(.bursts)
        emptyPolls = block.read(.emptyPolls)
        calls = block.read(.calls)
        lostCalls = block.read(.lostCalls)
        fault = block.fault
        for reason in TxDropReason.allCases {
            let count = block.readDrop(reason)
            if count > 0 { dropped[reason] = count }
        }
    }
}
