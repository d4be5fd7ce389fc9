import CleaveVirtioNet

/// A figure over passes: median, least and largest.
public struct ProfileSpread: Sendable, Codable, Equatable {
    public var median: Double
    public var min: Double
    public var max: Double

    public init(median: Double, min: Double, max: Double) {
        self.median = median
        self.min = min
        self.max = max
    }

    /// Median, least and largest of `values`; nil for none.
    public init?(_ values: [Double]) {
        let sorted = values.sorted()
        guard let first = sorted.first, let last = sorted.last else { return nil }
        let middle = sorted.count / 2
        let median =
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        self.init(median: median, min: first, max: last)
    }

    /// A figure that was no number is null in a file.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        median = try container.decodeIfPresent(Double.self, forKey: .median) ?? .nan
        min = try container.decodeIfPresent(Double.self, forKey: .min) ?? .nan
        max = try container.decodeIfPresent(Double.self, forKey: .max) ?? .nan
    }
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
            let packet = total.perPacket[index]
            let burst = total.perBurst[index]
            return Row(
                name: name,
                cyclesPerPacket: ProfileSpread(
                    median: median.cyclesPerPacket(index), min: values.min() ?? 0,
                    max: values.max() ?? 0),
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
