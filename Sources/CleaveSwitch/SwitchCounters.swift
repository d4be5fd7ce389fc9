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
    /// Counted where it came in: no other port is open, or nothing is at the other end of the wire.
    case nowhere
    /// Counted where it came in: its port has sent more than its rate limit lets it.
    case rateLimited
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
    /// Counted where it should have gone out: as many packets of one thread wait there already as
    /// may.
    case waitingFull

    public var name: String { String(describing: self) }
    var isInbound: Bool { rawValue < Self.portClosed.rawValue }
}

/// What else the switch counts at a port.
public enum SwitchEvent: Int, CaseIterable, Sendable {
    /// Packets that came in and were sent to every port, since their destination is not known or a
    /// group.
    case flooded
    /// Packets to go out whose checksum or segments were made here.
    case finished
    /// Packets to go out that waited for room, or to be handed to the thread of their queue.
    case held
    /// Addresses that were not learned, since the port holds too many.
    case unlearned

    /// The name in reports.
    public var name: String { String(describing: self) }
}

/// Live counters of one port on one thread: words with one writer, readers may lag.
struct SwitchCounterBlock {
    // SAFETY: shared words over memory that the switch keeps.
    private let base: UnsafeMutableRawPointer
    static let dropStart = 8
    static let byteCount = CacheLine.roundedUp((dropStart + SwitchDropReason.allCases.count) * 8)

    /// - Parameter memory: `byteCount` zeroed bytes, on a cache line.
    init(_ memory: UnsafeMutableRawPointer) { base = memory }

    /// Begins anew, for another port. While no thread counts.
    func clear() { base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount) }

    private func word(_ index: Int) -> SharedWord64 { SharedWord64(base + index &* 8) }
    func add(_ event: SwitchEvent, _ amount: Int) {
        word(event.rawValue).addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }
    func add(_ reason: SwitchDropReason, _ amount: Int = 1) {
        word(Self.dropStart &+ reason.rawValue)
            .addSingleWriter(UInt64(truncatingIfNeeded: amount))
    }
    func read(_ event: SwitchEvent) -> UInt64 { word(event.rawValue).load() }
    func read(_ reason: SwitchDropReason) -> UInt64 {
        word(Self.dropStart + reason.rawValue).load()
    }
}
