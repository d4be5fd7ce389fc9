import CleaveEngine
import CleaveHost
import CleaveProfiling

/// Median, quartiles, least and largest of a figure over the timed passes.
public typealias Spread = ProfileSpread

/// What the verification pass found.
public struct Verification: Sendable, Codable, Equatable {
    /// Packets compared byte for byte with their source.
    public var packets = 0
    /// Packets of which a byte, a length or the split point was wrong.
    public var corrupt = 0
    /// Packets that were submitted, not dropped, and did not arrive.
    public var lost = 0

    /// Packets that arrived wrong or not at all.
    public var bad: Int { corrupt + lost }
}

/// Memory that the RQs of a case hold for receiving.
public struct BenchMemory: Sendable, Codable, Equatable {
    /// Bytes of posted data buffers.
    public var dataBytes = 0
    /// Bytes of header slots.
    public var headerBytes = 0
    /// Header bytes on top of data bytes, in percent.
    public var headerPercent: Double {
        dataBytes == 0 ? 0 : 100 * Double(headerBytes) / Double(dataBytes)
    }
}

/// Cycles per packet of the driver's side, each with the cost of reading the clock taken off.
public struct DriverCycles: Sendable, Codable, Equatable {
    /// Posting buffers.
    public var refill: Spread
    /// Finding and checking used buffers.
    public var harvest: Spread
    /// Retiring header slots, taking chains and buffers back.
    public var giveBack: Spread
    /// All three; taken pass by pass, so its median need not be the sum of theirs.
    public var total: Spread

    private enum CodingKeys: String, CodingKey {
        case refill, harvest
        case giveBack = "return"
        case total
    }
}

/// The driver's memory that receiving took, in the timed passes.
public struct BufferUse: Sendable, Equatable {
    /// Descriptors that the driver posted for each packet it harvested.
    public var descriptorsPerPacket = 0.0
    /// Bytes of buffers posted and header slots retired for each packet harvested: what a packet
    /// occupies while it is in flight, unused room included.
    public var bytesHeldPerPacket = 0.0
    /// The share of those bytes that holds no packet, 0 to 1.
    public var wastedShare = 0.0
}

/// Where payload lay, packet by packet, in the verification pass.
public struct PayloadPlaces: Sendable, Equatable {
    /// Packets with payload: bytes after the headers that the parser finds, or any if it finds
    /// none.
    public var packets = 0
    /// Of them, those whose data buffers held no byte of a virtio-net or packet header.
    public var alone = 0
    /// Of them, those whose first payload byte was at the start of a page of 4096 bytes.
    public var pageAligned = 0
    /// Contiguous areas that held all headers seen apart from payload; 0 if there were none.
    public var headerAreas = 0

    /// Contiguous areas that blocks of `byteCount` bytes form.
    static func areas(of starts: Set<UnsafeRawPointer>, byteCount: Int) -> Int {
        var areas = 0
        var end: UnsafeRawPointer?
        for start in starts.sorted() {
            if start != end { areas += 1 }
            end = start + byteCount
        }
        return areas
    }

    /// `alone` as a share, 0 to 1.
    public var aloneShare: Double { Double(alone) / Double(max(1, packets)) }
    /// `pageAligned` as a share, 0 to 1.
    public var pageAlignedShare: Double { Double(pageAligned) / Double(max(1, packets)) }
}

/// The figures of one case.
public struct BenchResult: Sendable {
    public var benchCase: BenchCase
    /// Bytes of each packet if all are of one size.
    public var uniformPacketBytes: Int?
    /// Mean bytes of a packet that is offered.
    public var meanPacketBytes: Double
    /// Million packets delivered per second; in `one-core`, of the one thread that does both sides.
    public var mpps: Spread
    /// Gigabits of delivered packets' bytes per second.
    public var gbps: Spread
    /// Cycles per packet of the RQs' threads in polls that delivered.
    public var deviceCyclesPerPacket: Spread
    /// Cycles per packet of the driver, by phase.
    public var driverCycles: DriverCycles
    /// Cycles per packet of the payload consumer.
    public var consumerCyclesPerPacket: Spread
    /// Packets delivered in the timed passes.
    public var packets: UInt64
    /// Of them, with headers in a slot.
    public var split: UInt64
    /// Of them, in a slot entirely.
    public var tiny: UInt64 = 0
    /// Mean packets of a device burst that moved any: how well the costs of a burst are shared.
    public var packetsPerBurst = 0.0
    public var fallback: [String: UInt64]
    public var dropped: [String: UInt64]
    /// What to try against packets that found no slot free; nil if all found one.
    public var noSlot: SlotAdvice?
    /// Claim retries of the timed passes.
    public var claimRetries: UInt64
    /// Small buffers that method C gave back empty within a packet.
    public var skippedBuffers: UInt64 = 0
    /// Packets of method C whose headers took a large buffer.
    public var misfits: UInt64 = 0
    public var verify: Verification
    public var memory: BenchMemory
    public var bufferUse = BufferUse()
    public var payload = PayloadPlaces()
    /// Each timed pass by itself.
    public var passes: [PassRecord] = []
    /// Events counted over the timed passes, port, device and driver together; nil if none were to
    /// be counted.
    public var events: Named<RunRecord.Counter>?
    /// The device's cycles by stage, if that was asked for.
    public var profile: BenchProfile?
    /// Things a reader should know about this case, such as what memory fell back to.
    public var notes: [String]

    /// Cycles per packet of harvest, return and refill together.
    public var driverCyclesPerPacket: Spread { driverCycles.total }
}

/// A whole benchmark.
public struct BenchReport: Sendable {
    public var machine: MachineFacts
    /// UTC, by ISO 8601.
    public var started: String?
    /// The mode that was used, after any fallback.
    public var mode: BenchMode
    public var repeats: Int
    public var results: [BenchResult]
    /// What makes figures less certain: the machine's warnings and the plan's fallbacks.
    public var warnings: [String]
    /// CPUs on which a busy thread ran beside the benchmark's own.
    public var preemptedCPUs: [Int] = []
    /// CPU and node of each RQ, in the case with the most of them.
    public var queuePlan: QueuePlan?
    /// Where the kernel says that the memory of that case lies.
    public var residence: [PageResidence] = []
    /// The signal that ended the benchmark before its time, if one did; the results are then those
    /// of the cases that were measured at least once.
    public var interruption: BenchInterruption?

    /// Whether every verification pass found every packet, whole and right.
    public var isVerified: Bool {
        results.allSatisfy { $0.verify.bad == 0 }
    }
}

/// What a benchmark is doing, for a progress line.
public struct BenchProgress: Sendable {
    public enum Phase: String, Sendable { case verifying, warmingUp, searching, measuring }
    public var phase: Phase
    /// Steps done and steps in all, over the whole benchmark.
    public var done: Int
    public var total: Int
    /// The current case.
    public var name: String

    public init(phase: Phase, done: Int, total: Int, name: String) {
        (self.phase, self.done, self.total, self.name) = (phase, done, total, name)
    }
}
