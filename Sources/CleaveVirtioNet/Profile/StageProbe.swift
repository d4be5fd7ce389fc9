/// The stages on which a poll spends its cycles, in order.
public enum RxStage: Int, Sendable, CaseIterable {
    /// References are taken from the submission ring.
    case pull
    /// Packets are found among them, and the end of their headers.
    case parse
    /// Buffers are popped from the virtqueue, checked and translated; their used entries shadowed.
    case reserve
    /// Header slots are claimed.
    case claim
    /// Slots are named in the shadowed used entries.
    case shadow
    /// Net headers are written, and packet headers that lie apart.
    case placeHeaders
    /// The rest of the packets is copied.
    case placePayload
    /// Shadowed entries are made visible.
    case publish
    /// Packets are counted, and their references given back to the port.
    case complete
    /// The driver is called if it asked for it.
    case notify

    public static var count: Int { 10 }

    /// Whether stage number `stage` is a part of place: all three are one pass of an ordinary poll.
    @inline(__always)
    public static func isPlacing(_ stage: Int) -> Bool {
        stage >= shadow.rawValue && stage <= placePayload.rawValue
    }
}

/// Why a poll did nothing.
public enum RxWait: Int, Sendable, CaseIterable {
    /// No packet was submitted.
    case packets
    /// The driver had posted no buffers.
    case buffers
    /// The port had not reaped completions.
    case completions

    public static var count: Int { 3 }
}

/// Observes how far a poll is: the compile-time policy that polls and bursts are specialised for.
protocol StageProbe: BitwiseCopyable {
    /// Stages are measured.
    static var isOn: Bool { get }
    /// The work since the last mark was `stage`.
    func mark(_ stage: RxStage)
    /// A burst is to be placed in passes, one for each of `shadow`, `headers` and `payload`.
    var isApart: Bool { get }
    /// The work since the last mark was those three in one pass.
    func markPlace()
    /// Records the sizes of a burst; belongs to no stage.
    func note(_ burst: MeasuredBurst)
}

/// Sizes of a measured burst.
struct MeasuredBurst {
    let packets: Int
    let bytes: Int
    let references: Int
    let buffers: Int
    var splitPackets = 0
    var headerBytes = 0
    /// A packet was placed whole because no header slot was free.
    var isShortOfSlots = false
}

/// Observes nothing: polls that are not measured are specialised for this.
struct NoProbe: StageProbe {
    @inline(__always) static var isOn: Bool { false }
    @inline(__always) func mark(_ stage: RxStage) {}
    @inline(__always) var isApart: Bool { false }
    @inline(__always) func markPlace() {}
    @inline(__always) func note(_ burst: MeasuredBurst) {}
}
