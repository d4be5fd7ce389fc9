import CleaveHost
import CleaveRings

/// Why a packet at a kernel's or a file's port went no further.
enum PortDrop: Int, CaseIterable {
    /// Shorter than an Ethernet header.
    case runt
    /// Longer than the largest packet, or than the interface sends.
    case tooLong
    /// In more segments than a packet may have.
    case tooManySegments
    /// Its offloads are contradictory, or name bytes that it does not have; or the kernel refused
    /// its virtio-net header.
    case badOffload
    /// The interface is down or gone.
    case linkDown
    /// The kernel, or the disk, refused it for another reason.
    case writeFailed
    /// The kernel had no room for it, as packets were not taken fast enough. It counts these.
    case socketFull

    /// The name in reports.
    var name: String { String(describing: self) }
}

/// The live counters of one queue of a port. The queue's thread writes them; any thread may read
/// them, and may lag.
struct PortCounterWords: BitwiseCopyable {
    /// Numbers of words before those of the drop reasons.
    enum Word: Int, CaseIterable {
        case packetsIn, bytesIn, packetsOut, bytesOut
        /// Reads that the kernel refused, other than for want of packets.
        case readErrors
        /// 1 once the interface is gone for good.
        case gone
    }

    private static let inStart = 8
    private static let outStart = 16
    private static let wordCount = 32

    private let base: UnsafeMutableRawPointer

    /// Zero counters, on cache lines of their own; freed by `deallocate`.
    static func allocate() -> PortCounterWords {
        assert(Word.allCases.count <= inStart && PortDrop.allCases.count <= outStart - inStart)
        let base = UnsafeMutableRawPointer.allocate(
            byteCount: wordCount * 8, alignment: CacheLine.byteCount)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: wordCount * 8)
        return PortCounterWords(base: base)
    }

    private init(base: UnsafeMutableRawPointer) { self.base = base }

    func deallocate() { base.deallocate() }

    @inline(__always)
    private func word(_ index: Int) -> SharedWord64 { SharedWord64(base + index &* 8) }

    @inline(__always)
    func add(_ word: Word, _ amount: Int) {
        self.word(word.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }

    func set(_ word: Word, _ value: UInt64) { self.word(word.rawValue).store(value) }

    func addDropIn(_ reason: PortDrop, _ amount: Int = 1) {
        word(Self.inStart &+ reason.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }

    func addDropOut(_ reason: PortDrop, _ amount: Int = 1) {
        word(Self.outStart &+ reason.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }

    func read(_ word: Word) -> UInt64 { self.word(word.rawValue).load() }

    /// All of them.
    var counters: PortCounters {
        var sum = PortCounters()
        sum.incoming.packets = read(.packetsIn)
        sum.incoming.bytes = read(.bytesIn)
        sum.outgoing.packets = read(.packetsOut)
        sum.outgoing.bytes = read(.bytesOut)
        sum.incoming.readErrors = read(.readErrors)
        for reason in PortDrop.allCases {
            let droppedIn = word(Self.inStart + reason.rawValue).load()
            let droppedOut = word(Self.outStart + reason.rawValue).load()
            if droppedIn > 0 { sum.incoming.dropped[reason.name] = droppedIn }
            if droppedOut > 0 { sum.outgoing.dropped[reason.name] = droppedOut }
        }
        return sum
    }
}
