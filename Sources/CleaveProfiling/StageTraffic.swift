import CleaveVirtioNet

/// Bytes that a stage reads and writes for a packet: computed from the packets of the polls and the
/// memory that the code touches, not measured.
public struct StageTraffic: Sendable, Equatable {
    public var read = 0.0
    public var written = 0.0

    public var total: Double { read + written }

    public init(read: Double = 0, written: Double = 0) {
        self.read = read
        self.written = written
    }

    /// Bytes of a reference in a ring.
    private static let reference = 16.0
    /// Bytes of a plain packet's entry in the plan: the room that it needs.
    private static let plan = 8.0
    /// Bytes of a descriptor, and of a translated piece of buffer.
    private static let descriptor = 16.0
    private static let segment = 16.0

    /// Traffic of one stage, per packet of `profile`; 0 if it has none.
    public init(_ stage: RxStage, _ profile: ProfileSnapshot) {
        let packets = Double(profile.packets)
        if packets == 0 {
            self.init()
            return
        }
        func each(_ word: ProfileBlock.Word) -> Double { Double(profile.count(word)) / packets }
        let bursts = each(.bursts)
        let references = each(.references) * Self.reference
        let buffers = each(.buffers)
        let headers = each(.headerBytes)
        let payload = each(.bytes) - headers
        // A used entry is 8 bytes, or a descriptor of the packed ring.
        let used = buffers * (profile.isPacked ? Self.descriptor : 8)
        switch stage {
        case .pull, .complete:
            // A queue that is handed its bursts by call pulls nothing and completes nothing.
            let isWorker = profile.cycles[RxStage.pull.rawValue] > 0
            self.init(read: isWorker ? references : 0, written: isWorker ? references : 0)
        case .parse: self.init(read: references + headers, written: Self.plan)
        case .reserve:
            // The split ring's driver also writes a 16-bit entry for each buffer.
            let posted = buffers * (Self.descriptor + (profile.isPacked ? 0 : 2))
            self.init(read: posted + Self.plan, written: used + buffers * Self.segment)
        case .claim:
            let words = profile.claimsSlots ? 12 * bursts : 0
            self.init(read: words, written: words)
        case .shadow:
            let words = profile.namesSlots ? 4 * each(.splitPackets) : 0
            self.init(read: words, written: words)
        case .placeHeaders:
            let tail = profile.claimsSlots && !profile.namesSlots ? 8.0 : 0
            self.init(
                read: headers, written: headers + Double(profile.netHeaderByteCount) + tail)
        case .placePayload: self.init(read: payload, written: payload)
        case .publish: self.init(read: used, written: used + 2 * bursts)
        case .notify: self.init(read: 2 * bursts, written: 0)
        }
    }
}
