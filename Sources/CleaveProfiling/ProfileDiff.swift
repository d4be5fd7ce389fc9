/// Two runs of one case, stage by stage.
public struct ProfileDiff: Sendable {
    /// Cycles per packet in a run, of a stage or of a whole poll.
    public struct Figure: Sendable, Equatable {
        public var name: String
        public var cyclesPerPacket: ProfileSpread

        public init(name: String, cyclesPerPacket: ProfileSpread) {
            self.name = name
            self.cyclesPerPacket = cyclesPerPacket
        }
    }

    public struct Row: Sendable {
        public var name: String
        public var before: ProfileSpread
        public var after: ProfileSpread
        /// The passes of one run all lie on the same side of those of the other, and the medians
        /// differ by more than `leastShare` of the poll.
        public var isChange: Bool

        public var difference: Double { after.median - before.median }
    }

    /// Less than this share of a poll is no change, however steady.
    public static let leastShare = 0.01

    /// Stages that both runs have, in the order of the second.
    public let stages: [Row]
    public let poll: Row

    /// - Parameters:
    ///   - before: stages of the older profile.
    ///   - after: stages of the newer one.
    ///   - polls: the whole poll, in both.
    public init(
        before: [Figure], after: [Figure], polls: (before: ProfileSpread, after: ProfileSpread)
    ) {
        let least = Self.leastShare * polls.before.median
        func row(_ name: String, _ before: ProfileSpread, _ after: ProfileSpread) -> Row {
            let isApart = after.min > before.max || after.max < before.min
            return Row(
                name: name, before: before, after: after,
                isChange: isApart && abs(after.median - before.median) > least)
        }
        stages = after.compactMap { figure in
            before.first { $0.name == figure.name }
                .map { row(figure.name, $0.cyclesPerPacket, figure.cyclesPerPacket) }
        }
        poll = row("poll", polls.before, polls.after)
    }

    /// Stages that changed, the largest difference first.
    public var changes: [Row] {
        stages.filter(\.isChange).sorted { abs($0.difference) > abs($1.difference) }
    }
}
