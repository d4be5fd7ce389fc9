import CleaveVirtioNet

/// A figure over passes: median, quartiles, least and largest. A pass that has no figure, since it
/// delivered nothing, counts in none of them.
public struct ProfileSpread: Sendable, Codable, Equatable {
    public var median: Double
    public var min: Double
    public var max: Double
    /// A quarter of the passes lies below; nil where a file does not tell.
    public var q1: Double?
    /// A quarter of the passes lies above; nil where a file does not tell.
    public var q3: Double?

    public init(
        median: Double, min: Double, max: Double, q1: Double? = nil, q3: Double? = nil
    ) {
        (self.median, self.min, self.max) = (median, min, max)
        (self.q1, self.q3) = (q1, q3)
    }

    /// - Parameter values: one for each pass; nil for none.
    public init?(_ values: [Double]) {
        if values.isEmpty { return nil }
        let sorted = values.filter { !$0.isNaN }.sorted()
        guard let first = sorted.first, let last = sorted.last else {
            self.init(median: .nan, min: .nan, max: .nan)
            return
        }
        self.init(
            median: Self.quantile(0.5, sorted), min: first, max: last,
            q1: Self.quantile(0.25, sorted), q3: Self.quantile(0.75, sorted))
    }

    /// The value below which `share` of the sorted ones lie; between two, in proportion.
    private static func quantile(_ share: Double, _ sorted: [Double]) -> Double {
        let place = share * Double(sorted.count - 1)
        let lower = sorted[Int(place)]
        let upper = sorted[Swift.min(Int(place) + 1, sorted.count - 1)]
        // The first, where both are infinite, is not moved by a difference that is no number.
        return lower == upper ? lower : lower + (upper - lower) * (place - place.rounded(.down))
    }

    /// A figure that was no number is null in a file.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        median = try container.decodeIfPresent(Double.self, forKey: .median) ?? .nan
        min = try container.decodeIfPresent(Double.self, forKey: .min) ?? .nan
        max = try container.decodeIfPresent(Double.self, forKey: .max) ?? .nan
        q1 = try container.decodeIfPresent(Double.self, forKey: .q1)
        q3 = try container.decodeIfPresent(Double.self, forKey: .q3)
    }

    /// The range in which the middle half of the passes lies, or all of them where quartiles are
    /// not known.
    public var middle: ClosedRange<Double>? {
        let (low, high) = (q1 ?? min, q3 ?? max)
        return low <= high ? low...high : nil
    }

    /// Beyond this share of the median, the middle half of the passes says that something else ran,
    /// too: the median may be of that.
    public static let noiseBound = 0.1

    /// The width of `middle` as a share of the median; nil where that is nothing.
    public var noise: Double? {
        guard let middle, median != 0, median.isFinite else { return nil }
        let share = (middle.upperBound - middle.lowerBound) / abs(median)
        return share.isFinite ? share : nil
    }

    /// Whether the passes lie too far apart for their median to be a fact.
    public var isNoisy: Bool { (noise ?? 0) > Self.noiseBound }
}

/// The cycles of a poll, by stage.
public struct StageTable: Sendable {
    /// Median, 99th percentile and maximum.
    public struct Distribution: Codable, Sendable {
        public var median: Double?
        public var p99: Double?
        public var max: Double?
    }

    /// One stage, or the sum of all.
    public struct Row: Sendable {
        /// As in `RxStage.name`, or `sum`.
        public var name: String
        /// Mean cycles per packet of a pass: in the median pass, and the least and largest.
        public var cyclesPerPacket: ProfileSpread
        /// Mean over all passes.
        public var cyclesPerBurst: Double
        /// Cycles per packet over all measured polls.
        public var distribution: Distribution
        /// The same for cycles per burst.
        public var burstDistribution: Distribution
        public var traffic: StageTraffic
    }

    /// In the order of a poll.
    public let stages: [Row]
    /// Their sum.
    public let sum: Row
    /// Cycles per packet of polls that ran the ordinary code and were timed at both ends only: the
    /// reference for the sum.
    public let poll: ProfileSpread
    /// Everything measured.
    public let total: ProfileSnapshot

    /// - Parameter passes: of one case. The median pass is the one whose sum is the median: the
    ///   stages' medians are its figures, so that they add up.
    /// - Returns: nil if nothing was measured.
    public init?(passes: [ProfileSnapshot]) {
        let passes = passes.filter { $0.packets > 0 }
            .sorted {
                $0.cyclesPerPacket(ProfileBlock.pollRow) < $1.cyclesPerPacket(ProfileBlock.pollRow)
            }
        guard let total = ProfileSnapshot.sum(passes) else { return nil }
        self.total = total
        let median = passes[(passes.count - 1) / 2]
        func row(_ index: Int, _ name: String, _ traffic: StageTraffic) -> Row {
            let values = passes.map { $0.cyclesPerPacket(index) }
            // The stages' medians are those of one pass, so that they add up; the rest is each
            // stage's own.
            var spread = ProfileSpread(values) ?? ProfileSpread(median: 0, min: 0, max: 0)
            spread.median = median.cyclesPerPacket(index)
            let packet = total.perPacket[index]
            let burst = total.perBurst[index]
            return Row(
                name: name,
                cyclesPerPacket: spread,
                cyclesPerBurst: total.cyclesPerBurst(index),
                distribution: Distribution(
                    median: packet.quantile(0.5) / 16, p99: packet.quantile(0.99) / 16,
                    max: packet.maximum / 16),
                burstDistribution: Distribution(
                    median: burst.quantile(0.5), p99: burst.quantile(0.99), max: burst.maximum),
                traffic: traffic)
        }
        stages = RxStage.allCases.map { row($0.rawValue, $0.name, StageTraffic($0, total)) }
        let traffic = stages.reduce(StageTraffic()) {
            StageTraffic(
                read: $0.read + $1.traffic.read, written: $0.written + $1.traffic.written)
        }
        sum = row(ProfileBlock.pollRow, "sum", traffic)
        rawSumShare =
            total.wholeCyclesPerPacket.map {
                total.rawCyclesPerPacket(ProfileBlock.pollRow) / max(0.01, $0)
            } ?? 1
        poll =
            ProfileSpread(passes.compactMap(\.wholeCyclesPerPacket)) ?? sum.cyclesPerPacket
    }

    /// The stage that takes most, of those at all.
    public var costliest: Row {
        stages.max { $0.cyclesPerPacket.median < $1.cyclesPerPacket.median } ?? sum
    }

    /// `sumShare` before stages were scaled to polls without marks (`ProfileSnapshot.scale`).
    public let rawSumShare: Double

    /// The stages' sum as a share of the whole poll, by medians.
    public var sumShare: Double {
        poll.median == 0 ? 1 : sum.cyclesPerPacket.median / poll.median
    }
}
