import CleaveVirtioNet

/// A copy of an RQ's profile, taken while its worker may be running, or a sum or difference of such
/// copies. Words are read one after the other: a copy of a running RQ may be off by the current
/// poll.
public struct ProfileSnapshot: Sendable, Equatable {
    /// The RQ's number; nil for none, or for several RQs.
    public var number: Int?
    /// Method, ring and burst.
    public var label = ""
    public var isPacked = false
    public var namesSlots = false
    public var claimsSlots = false
    /// Bytes of a virtio-net header.
    public var netHeaderByteCount = 12
    /// Indexed by `ProfileBlock.Word`; waits have three words each.
    private var counts: [UInt64]
    /// Cycles of each stage, then of the whole poll, over the measured polls that have them.
    public private(set) var cycles: [UInt64]
    /// Histograms of cycles per packet, in sixteenths.
    public private(set) var perPacket: [ProfileHistogram]
    /// Histograms of cycles per burst.
    public private(set) var perBurst: [ProfileHistogram]

    private static let countCount = ProfileBlock.Word.interrupted.rawValue + 1

    /// Nothing measured.
    public init() {
        counts = Array(repeating: 0, count: Self.countCount)
        cycles = Array(repeating: 0, count: ProfileBlock.rowCount)
        perPacket = Array(repeating: ProfileHistogram(), count: ProfileBlock.rowCount)
        perBurst = perPacket
    }

    /// - Parameter block: a profile that was checked.
    public init(_ block: ProfileBlock) {
        number = block.number
        label = block.label
        isPacked = block.isPacked
        namesSlots = block.namesSlots
        claimsSlots = block.claimsSlots
        netHeaderByteCount = block.netHeaderByteCount
        counts = (0..<Self.countCount).map { block.read(.bursts, $0) }
        let rows = 0..<ProfileBlock.rowCount
        cycles = rows.map(block.readCycles)
        perPacket = rows.map {
            ProfileHistogram(counts: block.readHistogram($0, perBurst: false))
        }
        perBurst = rows.map { ProfileHistogram(counts: block.readHistogram($0, perBurst: true)) }
    }

    /// A counter; `index` selects one of several of its kind.
    public func count(_ word: ProfileBlock.Word, _ index: Int = 0) -> UInt64 {
        counts[word.rawValue + index]
    }

    public var bursts: UInt64 { count(.bursts) }
    public var packets: UInt64 { count(.packets) }

    /// Cycles per packet of a row: a stage, or the sum of all, scaled to polls without marks
    /// (`scale`).
    public func cyclesPerPacket(_ row: Int) -> Double { rawCyclesPerPacket(row) * scale }

    /// Cycles of polls measured as a whole, as a share of the stages' sum. They run the same code
    /// without the marks. A mark ends the overlap of the instructions before and after it; this
    /// factor takes that cost off all stages alike. 1 without such polls.
    public var scale: Double {
        let sum = rawCyclesPerPacket(ProfileBlock.pollRow)
        guard let whole = wholeCyclesPerPacket, sum > 0 else { return 1 }
        // Beyond these bounds the polls were not alike: too few, or disturbed.
        return min(max(whole / sum, 0.75), 1.25)
    }

    private var partCycles: Double {
        RxStage.allCases.filter { RxStage.isPlacing($0.rawValue) }
            .reduce(0.0) { $0 + Double(cycles[$1.rawValue]) }
    }

    /// Cycles per packet of a row as measured, less what a mark alone costs.
    ///
    /// The parts of place come from polls that made a pass for each; together they are what one
    /// pass for all takes in the other polls.
    public func rawCyclesPerPacket(_ row: Int) -> Double {
        if row == ProfileBlock.pollRow {
            return RxStage.allCases.reduce(0) { $0 + rawCyclesPerPacket($1.rawValue) }
        }
        if !RxStage.isPlacing(row) {
            return packets == 0 ? 0 : Double(cycles[row]) / Double(packets)
        }
        let onePass = count(.onePassPackets)
        let apart = packets &- onePass
        if apart == 0 || packets < onePass { return 0 }
        let parts = partCycles
        if onePass == 0 || parts == 0 { return Double(cycles[row]) / Double(apart) }
        return Double(cycles[row]) / parts * Double(count(.onePassCycles)) / Double(onePass)
    }

    /// Cycles per packet of polls that were measured as a whole; nil if none was.
    public var wholeCyclesPerPacket: Double? {
        let packets = count(.wholePackets)
        return packets == 0 ? nil : Double(count(.wholeCycles)) / Double(packets)
    }

    /// Mean cycles per burst of a row.
    public func cyclesPerBurst(_ row: Int) -> Double {
        bursts == 0 ? 0 : cyclesPerPacket(row) * Double(packets) / Double(bursts)
    }

    /// Cycles that the thread waited, for any reason.
    public var idleCycles: UInt64 {
        RxWait.allCases.reduce(0) { $0 &+ count(.waitCycles, $1.rawValue) }
    }

    private func combined(
        _ other: Self, _ counters: (UInt64, UInt64) -> UInt64,
        _ histograms: (ProfileHistogram, ProfileHistogram) -> ProfileHistogram
    ) -> Self {
        var result = self
        result.counts = zip(counts, other.counts).map(counters)
        result.cycles = zip(cycles, other.cycles).map(counters)
        result.perPacket = zip(perPacket, other.perPacket).map(histograms)
        result.perBurst = zip(perBurst, other.perBurst).map(histograms)
        return result
    }

    /// Both together, with the left one's facts about the queue.
    public static func + (left: Self, right: Self) -> Self { left.combined(right, &+, +) }
    /// What was measured since `right` was taken.
    public static func - (left: Self, right: Self) -> Self { left.combined(right, &-, -) }

    /// All together, with the first one's facts about the queue; nil for none.
    public static func sum(_ snapshots: [Self]) -> Self? {
        guard let first = snapshots.first else { return nil }
        var sum = snapshots.dropFirst().reduce(first, +)
        if snapshots.contains(where: { $0.number != first.number }) { sum.number = nil }
        return sum
    }
}

extension RxStage {
    /// Its name in tables and JSON.
    public var name: String { "\(self)" }

    /// A short description.
    public var words: String {
        switch self {
        case .pull: "take references from the port's ring"
        case .parse: "find packets and the end of their headers"
        case .reserve: "take, check and translate buffers; shadow used entries"
        case .claim: "claim header slots"
        case .shadow: "name slots in shadowed used entries"
        case .placeHeaders: "write net headers and packet headers"
        case .placePayload: "copy payload"
        case .publish: "make used entries visible"
        case .complete: "count, give references back"
        case .notify: "call the driver if it asked"
        }
    }
}

extension RxWait {
    /// Its name in tables.
    public var words: String {
        switch self {
        case .packets: "no packets"
        case .buffers: "no buffers"
        case .completions: "completions not reaped"
        }
    }
}
