// What a switch counts beside its ports: one block of words for each port and thread.

import CleaveRings

/// Why a packet went nowhere, counted at the port that could not, or must not, take it.
public enum SwitchDropReason: Int, CaseIterable, Sendable {
    /// Counted where it came in: its destination is at the port that it came from.
    case samePort
    /// Counted where it came in: addressed to the bridge itself (01:80:c2:00:00:00 to 0f).
    case reservedAddress
    /// Counted where it came in: it claims to come from a group address.
    case groupSource
    /// Counted where it came in: no other port is open.
    case nowhere
    /// Counted where it should have gone out: nobody is at the far side.
    case portClosed
    /// Counted where it should have gone out: the far side made no room in time.
    case noRoom
    /// Counted where it should have gone out: the far side needs it finished, and its headers are
    /// not what its offloads say.
    case unfinishable
    /// Counted where it should have gone out: finishing it needs more memory than is set aside.
    case tooManySegments
    /// Counted where it should have gone out: it is longer than the MTU that the far side agreed
    /// on, and is not to be segmented.
    case exceedsMTU

    public var name: String { String(describing: self) }
    var isInbound: Bool { rawValue < Self.portClosed.rawValue }
}

/// Live counters of one port on one thread: words with one writer, readers may lag.
struct SwitchCounterBlock {
    // SAFETY: shared words over memory that the switch keeps.
    private let base: UnsafeMutableRawPointer
    static let dropStart = 8
    static let byteCount = CacheLine.roundedUp((dropStart + SwitchDropReason.allCases.count) * 8)

    enum Word: Int {
        /// Packets sent to every port, since their destination is not known or a group.
        case flooded
        /// Packets whose checksum or segments were made here.
        case finished
        /// Packets that waited for room at the far side.
        case held
        /// Addresses that were not learned, since the port holds too many.
        case unlearned
    }

    /// - Parameter memory: `byteCount` zeroed bytes, on a cache line.
    init(_ memory: UnsafeMutableRawPointer) { base = memory }

    private func word(_ index: Int) -> SharedWord64 { SharedWord64(base + index &* 8) }
    func add(_ word: Word, _ amount: Int) {
        self.word(word.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }
    func add(_ reason: SwitchDropReason, _ amount: Int = 1) {
        word(Self.dropStart &+ reason.rawValue)
            .addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }
    func read(_ word: Word) -> UInt64 { self.word(word.rawValue).load() }
    func read(_ reason: SwitchDropReason) -> UInt64 {
        word(Self.dropStart + reason.rawValue).load()
    }
}
