import CleaveVirtioNet

/// Cycles by the code that spent them, as stacks: the input of flame graphs.
public struct FoldedStacks: Sendable {
    /// A stack, outermost frame first, and its cycles.
    public struct Stack: Sendable, Equatable {
        public var frames: [String]
        public var cycles: UInt64
    }

    public private(set) var stacks: [Stack] = []

    public init() {}

    /// Adds one RQ.
    /// - Parameters:
    ///   - profile: of one RQ.
    ///   - frames: the outer frames.
    ///   - period: one poll in `period` was measured, so each stands for `period` polls. Every wait
    ///     was seen.
    public mutating func add(_ profile: ProfileSnapshot, under frames: [String], period: UInt32) {
        add(profile, under: frames, period: period) { profile.cyclesPerPacket($0.rawValue) }
    }

    /// Adds the RQs of a run, whose stages take as much of all polls together as `table` says: the
    /// picture and the table are of one source. What the RQs measured tells how the cycles of a
    /// stage are spread among them.
    /// - Parameters:
    ///   - rqs: outer frames and profile of each.
    ///   - table: cycles per packet of each stage, over all RQs.
    ///   - period: as for one RQ.
    public mutating func add(
        _ rqs: [(frames: [String], profile: ProfileSnapshot)], as table: StageTable,
        period: UInt32
    ) {
        let packets = rqs.reduce(0.0) { $0 + Self.packets($1.profile) }
        let factors = zip(RxStage.allCases, table.stages).map { stage, row in
            let measured = rqs.reduce(0.0) {
                $0 + $1.profile.cyclesPerPacket(stage.rawValue) * Self.packets($1.profile)
            }
            return measured > 0 ? row.cyclesPerPacket.median * packets / measured : 0
        }
        for (frames, profile) in rqs {
            add(profile, under: frames, period: period) {
                profile.cyclesPerPacket($0.rawValue) * factors[$0.rawValue]
            }
        }
    }

    /// Polls measured as a whole carried packets as well.
    private static func packets(_ profile: ProfileSnapshot) -> Double {
        Double(profile.packets &+ profile.count(.wholePackets))
    }

    private mutating func add(
        _ profile: ProfileSnapshot, under frames: [String], period: UInt32,
        _ cyclesPerPacket: (RxStage) -> Double
    ) {
        let packets = Self.packets(profile) * Double(max(1, period))
        for stage in RxStage.allCases {
            let isPlacing = RxStage.isPlacing(stage.rawValue)
            let inner = isPlacing ? ["poll", "place", stage.name] : ["poll", stage.name]
            add(frames + inner, UInt64(min(max(0, cyclesPerPacket(stage) * packets), 1e18)))
        }
        for wait in RxWait.allCases {
            add(frames + ["idle", wait.words], profile.count(.waitCycles, wait.rawValue))
        }
    }

    private mutating func add(_ frames: [String], _ cycles: UInt64) {
        if cycles > 0 { stacks.append(Stack(frames: frames, cycles: cycles)) }
    }

    /// A line for each stack: frames separated by semicolons, a blank, cycles.
    public var text: String {
        stacks.map { stack in
            let frames = stack.frames.map { frame in
                String(frame.map { $0 == ";" || $0.isNewline ? "," : $0 })
            }
            return frames.joined(separator: ";") + " \(stack.cycles)\n"
        }.joined()
    }
}
