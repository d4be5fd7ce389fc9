/// A case with its figures: every axis, and everything that was measured.
public struct RunRecord: Codable, Sendable {
    public var name: String
    public var method: String
    public var report: String?
    public var ring: String
    public var buffers: String?
    public var ringSize: Int?
    public var burst: Int?
    public var rqs: Int
    public var sharedHeaderQueue: Bool?
    public var sharing: String?
    public var imbalance: Int?
    public var slotReturn: String?
    public var slotSize: Int?
    public var slots: Int?
    public var bufferBytes: Int?
    public var headerBufferBytes: Int?
    public var inOrder: Bool?
    public var hashReport: Bool?
    public var splitThreshold: Int?
    public var tiny: Bool?
    public var tinyPackets: UInt64?
    public var zeroPad: Bool?
    public var alignPayload: Bool?
    public var consumer: String?
    public var reads: Bool?
    public var packetBytes: PacketRecord
    public var mpps: Spread
    public var gbps: Spread
    public var deviceCyclesPerPacket: Spread
    public var driverCyclesPerPacket: Spread
    public var consumerCyclesPerPacket: Spread?
    public var driverCycles: DriverCycles?
    public var descriptorsPerPacket: Double?
    public var bytesHeldPerPacket: Double?
    public var wastedShare: Double?
    public var payloadAloneShare: Double?
    public var pageAlignedShare: Double?
    public var headerAreas: Int?
    public var packets: UInt64
    public var split: UInt64
    public var fallback: [String: UInt64]?
    public var dropped: [String: UInt64]?
    public var noSlot: SlotAdvice?
    public var packetsPerBurst: Double?
    public var claimRetries: UInt64?
    public var skippedBuffers: UInt64?
    public var misfits: UInt64?
    public var verify: Verification
    public var memory: Memory
    public var counters: Named<Counter>?
    public var notes: [String]?
    /// Each timed pass by itself.
    public var passes: [PassRecord]?

    public struct Memory: Codable, Sendable {
        public var dataBytes: Int?
        public var headerBytes: Int
        public var headerPercent: Double?
    }

    /// The processor's count of one event, port, device and driver together.
    public enum Counter: Codable, Sendable {
        case perPacket(Spread)
        /// With the reason.
        case unavailable(String)

        private enum CodingKeys: String, CodingKey { case unavailable }

        public init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            if let reason = try container.decodeIfPresent(String.self, forKey: .unavailable) {
                self = .unavailable(reason)
            } else {
                self = .perPacket(try Spread(from: decoder))
            }
        }

        public func encode(to encoder: any Encoder) throws {
            switch self {
            case .perPacket(let spread): try spread.encode(to: encoder)
            case .unavailable(let reason):
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(reason, forKey: .unavailable)
            }
        }
    }
}

extension RunRecord {
    public init(_ result: BenchResult) {
        let one = result.benchCase
        name = one.displayName
        method = one.method.rawValue
        report = one.effectiveReport?.rawValue
        ring = one.ring.rawValue
        buffers = one.buffers.rawValue
        ringSize = one.ringSize
        burst = one.burst
        rqs = one.rqs
        (sharedHeaderQueue, sharing) = (one.sharedHeaderQueue, one.sharing.description)
        imbalance = one.imbalance
        slotReturn = one.slotReturn.rawValue
        (slotSize, slots) = (one.slotSize, one.slots)
        bufferBytes = one.bufferByteCount
        headerBufferBytes = one.headerBufferByteCount
        (inOrder, hashReport) = (one.inOrder, one.hashReport)
        splitThreshold = one.splitThreshold
        (tiny, tinyPackets) = (one.tiny, result.tiny)
        (zeroPad, alignPayload) = (one.zeroPad, one.alignsPayload)
        consumer = one.consumer.rawValue
        reads = one.readsPayload
        packetBytes = Int(one.packet).map(PacketRecord.bytes) ?? .name(one.packetName)
        (mpps, gbps) = (result.mpps, result.gbps)
        deviceCyclesPerPacket = result.deviceCyclesPerPacket
        driverCyclesPerPacket = result.driverCyclesPerPacket
        consumerCyclesPerPacket = result.consumerCyclesPerPacket
        driverCycles = result.driverCycles
        descriptorsPerPacket = result.bufferUse.descriptorsPerPacket
        bytesHeldPerPacket = result.bufferUse.bytesHeldPerPacket
        wastedShare = result.bufferUse.wastedShare
        payloadAloneShare = result.payload.aloneShare
        pageAlignedShare = result.payload.pageAlignedShare
        headerAreas = result.payload.headerAreas
        (packets, split) = (result.packets, result.split)
        (fallback, dropped) = (result.fallback, result.dropped)
        noSlot = result.noSlot
        packetsPerBurst = result.packetsPerBurst
        claimRetries = result.claimRetries
        skippedBuffers = result.skippedBuffers
        misfits = result.misfits
        verify = result.verify
        memory = Memory(
            dataBytes: result.memory.dataBytes, headerBytes: result.memory.headerBytes,
            headerPercent: result.memory.headerPercent)
        counters = result.events
        notes = result.notes
        passes = result.passes
    }

    /// Whether the passes lie too far apart for a rate or a side's cycles to be a fact.
    public var isNoisy: Bool {
        [mpps, deviceCyclesPerPacket, driverCyclesPerPacket].contains(where: \.isNoisy)
    }

    /// Of the packets delivered; no number if there were none.
    public var splitShare: Double { packets > 0 ? Double(split) / Double(packets) : .nan }
    public var fallbackTotal: UInt64 { fallback?.values.reduce(0, &+) ?? 0 }
    public var droppedTotal: UInt64 { dropped?.values.reduce(0, &+) ?? 0 }
}
