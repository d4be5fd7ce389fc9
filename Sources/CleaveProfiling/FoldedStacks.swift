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
    ///   - frames: the outer frames.
    ///   - period: one poll in `period` was measured, so each stands for `period` polls. Every wait
    ///     was seen.
    public mutating func add(_ profile: ProfileSnapshot, under frames: [String], period: UInt32) {
        // Polls measured as a whole carried packets as well.
        let packets =
            Double(profile.packets &+ profile.count(.wholePackets)) * Double(max(1, period))
        for stage in RxStage.allCases {
            let isPlacing = RxStage.isPlacing(stage.rawValue)
            let inner = isPlacing ? ["poll", "place", stage.name] : ["poll", stage.name]
            let cycles = profile.cyclesPerPacket(stage.rawValue) * packets
            add(frames + inner, UInt64(min(cycles, 1e18)))
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
