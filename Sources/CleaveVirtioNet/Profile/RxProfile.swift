// control path
import CleaveHost
import CleaveRings

/// The profile of one RQ: memory that other processes find and map, and a switch.
///
/// Off to begin with. Any thread, and any process that maps the memory, may switch it and read.
public final class RxProfile: @unchecked Sendable {
    // SAFETY: constants; the words that `block` refers to are shared ones.

    /// One poll in this many is measured by default. Measured polls of small packets take about a
    /// third longer than others.
    public static let defaultPeriod: UInt32 = 64

    /// The memory that others see; valid as long as the queue is.
    public let block: ProfileBlock
    private let arena: MemoryArena

    /// The profiled queue, as observers see it.
    struct Subject {
        /// Method, ring and burst, for people.
        let label: String
        let ringSize: Int
        let netHeaderByteCount: Int
        let isPacked: Bool
        /// Slots are named in used entries.
        let namesSlots: Bool
        /// Headers go to slots.
        let claimsSlots: Bool
    }

    /// Takes shared memory, or, where there is none, memory that only this process can read.
    init(_ subject: Subject, node: Int?) throws(SetupError) {
        do {
            arena =
                if let shared = try? MemoryArena(
                    byteCount: ProfileBlock.byteCount, node: node, pages: .small, shared: true,
                    name: ProfileBlock.memoryName)
                {
                    shared
                } else {
                    try MemoryArena(
                        byteCount: ProfileBlock.byteCount, node: node, pages: .small)
                }
            block = ProfileBlock(try arena.allocate(byteCount: ProfileBlock.byteCount))
        } catch { throw SetupError("profile memory: \(error)") }
        block.format(subject)
    }

    /// Whether other processes can attach.
    public var isShared: Bool { arena.fileDescriptor != nil }

    /// One poll in this many is measured, on average; 0 for none.
    public var period: UInt32 {
        get { block.period.load() }
        set { block.period.store(newValue) }
    }

    /// The number that observers show; nil for none.
    public var number: Int? {
        get { block.number }
        set {
            block.half(ProfileBlock.Offset.number).store(newValue.map(UInt32.init) ?? .max)
        }
    }
}

extension ProfileBlock {
    /// Flags of the header.
    enum Flags {
        static let packed: UInt32 = 1
        static let namesSlots: UInt32 = 2
        static let claimsSlots: UInt32 = 4
    }

    /// Makes zeroed memory a profile of a queue.
    func format(_ subject: RxProfile.Subject) {
        half(Offset.version).store(Self.version)
        half(Offset.stages).store(UInt32(RxStage.count))
        word(Offset.bytes).store(UInt64(Self.byteCount))
        half(Offset.buckets).store(UInt32(ProfileBuckets.count))
        half(Offset.traces).store(UInt32(Self.traceCount))
        half(Offset.number).store(.max)
        half(Offset.ringSize).store(UInt32(subject.ringSize))
        half(Offset.netHeader).store(UInt32(subject.netHeaderByteCount))
        var flags: UInt32 = subject.isPacked ? Flags.packed : 0
        if subject.namesSlots { flags |= Flags.namesSlots }
        if subject.claimsSlots { flags |= Flags.claimsSlots }
        half(Offset.flags).store(flags)
        let label = subject.label.utf8.prefix(Self.labelByteCount)
        UnsafeMutableRawBufferPointer(start: base + Offset.label, count: label.count)
            .copyBytes(from: label)
        // [P1 release -> an observer: the header before it]
        word(0).storeRelease(Self.magic)
    }

    /// Nothing was written yet: its queue is being made.
    public var isBlank: Bool {
        word(0).loadAcquire() == 0  // [P1 acquire <- the queue's making]
    }

    /// Why `byteCount` bytes at `base` are no profile that this version reads, or nil.
    public func problem(byteCount: Int) -> String? {
        guard byteCount >= Self.byteCount else {
            return "\(byteCount) bytes are too few for a profile"
        }
        // [P1 acquire <- the queue's making]
        guard word(0).loadAcquire() == Self.magic else { return "it is no profile of Cleave" }
        let version = half(Offset.version).load()
        guard version == Self.version else {
            return "layout version \(version), this program reads \(Self.version)"
        }
        guard half(Offset.stages).load() == UInt32(RxStage.count),
            word(Offset.bytes).load() == UInt64(Self.byteCount),
            half(Offset.buckets).load() == UInt32(ProfileBuckets.count),
            half(Offset.traces).load() == UInt32(Self.traceCount)
        else { return "the header contradicts layout version \(version)" }
        return nil
    }

    /// The RQ's number, if it has one.
    public var number: Int? {
        let number = half(Offset.number).load()
        return number == .max ? nil : Int(number)
    }

    public var isPacked: Bool { half(Offset.flags).load() & Flags.packed != 0 }
    /// Slots are named in used entries.
    public var namesSlots: Bool { half(Offset.flags).load() & Flags.namesSlots != 0 }
    /// Headers go to slots.
    public var claimsSlots: Bool { half(Offset.flags).load() & Flags.claimsSlots != 0 }
    public var netHeaderByteCount: Int { Int(half(Offset.netHeader).load()) }
    public var ringSize: Int { Int(half(Offset.ringSize).load()) }

    /// Method, ring and burst, for people.
    public var label: String {
        let bytes = (0..<Self.labelByteCount).map {
            (base + Offset.label + $0).load(as: UInt8.self)
        }
        // Another process may have written it: nothing that a terminal would interpret.
        return String(
            decoding: bytes.prefix { $0 != 0 }.map { (32..<127).contains($0) ? $0 : 63 },
            as: UTF8.self)
    }

    public func read(_ word: Word, _ index: Int = 0) -> UInt64 { counter(word, index).load() }
    public func readCycles(_ row: Int) -> UInt64 { cycles(row).load() }

    /// The counts of one histogram, a bucket after the other.
    public func readHistogram(_ row: Int, perBurst: Bool) -> [UInt32] {
        (0..<ProfileBuckets.count).map { bucket(row, perBurst: perBurst, $0).load() }
    }

    /// One measured poll.
    public struct Trace: Sendable, Equatable {
        public var number: UInt64
        /// The cycle counter when it began.
        public var start: UInt64
        public var packets: Int
        public var bytes: Int
        /// Of each stage.
        public var cycles: [UInt32]

        public init(number: UInt64, start: UInt64, packets: Int, bytes: Int, cycles: [UInt32]) {
            self.number = number
            self.start = start
            self.packets = packets
            self.bytes = bytes
            self.cycles = cycles
        }
    }

    /// The last traces, oldest first; without those that the worker may have been writing over.
    public func readTraces() -> [Trace] {
        // [P2 acquire <- the worker: the traces below it]
        let end = tracesWritten.loadAcquire()
        let first = end - min(end, UInt64(Self.traceCount))
        let traces = (first..<end).map { number in
            let entry = trace(number)
            let sizes = SharedWord64(entry + 8).load()
            return Trace(
                number: number, start: SharedWord64(entry).load(),
                packets: Int(UInt32(truncatingIfNeeded: sizes)), bytes: Int(sizes >> 32),
                cycles: (0..<RxStage.count).map { SharedWord32(entry + 16 + 4 * $0).load() })
        }
        let now = tracesWritten.loadAcquire()  // [P2]
        return traces.filter { $0.number &+ UInt64(Self.traceCount) > now }
    }
}
