/// What `zerocopy` writes.
public struct ZeroCopyDocument: Codable, Sendable {
    public static let schema = "cleave-zerocopy/1"

    /// The figures of one way of receiving, over all pairs.
    public struct Way: Codable, Sendable {
        public var gigabytesPerSecond: Spread
        /// Seconds of the receiver's thread.
        public var cpuSecondsPerGigabyte: Spread
        public var bytes: Int
        public var copiedBytesPerByte: Double
        public var mappedPages: Int
        /// 0 to 1.
        public var mappedShare: Double
        /// Of the pass with the least.
        public var leastMappedShare: Double

        /// Nil for no pairs.
        init?(_ receipts: [StreamReceipt]) {
            guard let speed = Spread(receipts.map(\.gigabytesPerSecond)),
                let cost = Spread(receipts.map(\.cpuSecondsPerGigabyte)),
                let least = receipts.map(\.mappedShare).min()
            else { return nil }
            (gigabytesPerSecond, cpuSecondsPerGigabyte, leastMappedShare) = (speed, cost, least)
            bytes = receipts.map(\.bytes).reduce(0, +)
            mappedPages = receipts.map(\.mappedPages).reduce(0, +)
            let mapped = receipts.map(\.mappedBytes).reduce(0, +)
            mappedShare = Double(mapped) / Double(bytes)
            copiedBytesPerByte = Double(bytes - mapped) / Double(bytes)
        }
    }

    /// Mapped over copied, pair by pair.
    public struct Ratio: Codable, Sendable {
        public var throughput: Spread
        public var cpu: Spread
        public var isMeaningful: Bool
        /// Why it is not.
        public var note: String?

        init?(_ pairs: [ZeroCopyPair], _ path: ZeroCopyPath) {
            guard
                let throughput = Spread(
                    pairs.map { $0.mapped.gigabytesPerSecond / $0.copied.gigabytesPerSecond }),
                let cpu = Spread(
                    pairs.map { $0.mapped.cpuSecondsPerGigabyte / $0.copied.cpuSecondsPerGigabyte })
            else { return nil }
            (self.throughput, self.cpu) = (throughput, cpu)
            note = path.meaninglessRatio
            isMeaningful = note == nil
        }
    }

    /// The figures of those who proposed split headers for virtio, in a guest on their machine.
    public struct Proposal: Codable, Sendable {
        public var copiedGigabytesPerSecond = 1.9
        public var mappedGigabytesPerSecond = 3.3

        public init() {}

        public var ratio: Double { mappedGigabytesPerSecond / copiedGigabytesPerSecond }
    }

    /// A pass that was compared byte by byte with what was sent, and not timed.
    public struct Comparison: Codable, Sendable {
        public var way: ReceiveWay
        public var bytes: Int
        public var wrong: Int
    }

    public var schema: String
    public var program: ProgramRecord?
    public var started: String?
    public var machine: MachineRecord?
    public var command: CommandRecord?
    public var warnings: [String]?
    public var interrupted: String?
    public var through: ZeroCopyPath
    public var segmentBytes: Int?
    public var passBytes: Int
    public var bufferBytes: Int
    public var reads: Bool
    public var compared: [Comparison]
    /// Nil, as `mapped` and `ratio`, if no pair was measured.
    public var copied: Way?
    public var mapped: Way?
    public var ratio: Ratio?
    public var proposal: Proposal
    public var pairs: [ZeroCopyPair]

    /// - Parameter command: the command line that gave the report.
    public init(_ report: ZeroCopyReport, command: [String]) {
        schema = Self.schema
        (program, started) = (.current, report.started)
        machine = MachineRecord(report.machine)
        self.command = CommandRecord(command)
        (warnings, interrupted) = (report.warnings, report.interruption)
        through = report.path
        segmentBytes = report.segmentByteCount
        (passBytes, bufferBytes) = (report.passByteCount, report.bufferByteCount)
        reads = report.reads
        compared = ReceiveWay.allCases.compactMap { way in
            report.compared[way].map {
                Comparison(way: way, bytes: $0.bytes, wrong: $0.wrongBytes)
            }
        }
        copied = Way(report.pairs.map(\.copied))
        mapped = Way(report.pairs.map(\.mapped))
        ratio = Ratio(report.pairs, report.path)
        proposal = Proposal()
        pairs = report.pairs
    }
}
