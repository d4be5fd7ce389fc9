import CleaveHost

/// What `scale` found: cases measured on one core and with threads, pairs of them that differ in
/// sharing alone, and stall curves.
public struct ScaleReport: Sendable {
    public var machine: MachineFacts
    /// UTC, by ISO 8601.
    public var started: String?
    public var warnings: [String]
    public var oneCore: BenchReport?
    public var cores: BenchReport?
    public var threads: BenchReport?
    public var stall: [StallPoint] = []
    /// What ended it before its time, if anything did.
    public var interruption: String?

    public init(machine: MachineFacts, warnings: [String]) {
        (self.machine, self.warnings) = (machine, warnings)
    }

    public var parts: [BenchReport] { [oneCore, cores, threads].compactMap { $0 } }

    /// Two cases of one run that differ in sharing alone.
    public struct Pair: Sendable {
        public let mode: BenchMode
        public let shared: BenchResult
        public let own: BenchResult

        /// Device cycles per packet that sharing adds, in percent; by the fastest passes, because
        /// neighbours can only add cycles. Nil where passes lie too far apart to tell.
        public var overheadPercent: Double? {
            let shared = shared.deviceCyclesPerPacket.min
            let own = own.deviceCyclesPerPacket.min
            return isNoisy || !(own > 0) ? nil : 100 * (shared - own) / own
        }

        /// The same pass by pass: passes of one number ran next to each other.
        public var overheadByPass: Spread? {
            Spread(
                zip(shared.passes, own.passes).compactMap { shared, own in
                    guard let one = shared.deviceCyclesPerPacket,
                        let other = own.deviceCyclesPerPacket, other > 0
                    else { return nil }
                    return 100 * (one / other - 1)
                })
        }

        /// Whether the cycles of one of the two lie too far apart to be a fact.
        public var isNoisy: Bool {
            shared.deviceCyclesPerPacket.isNoisy || own.deviceCyclesPerPacket.isNoisy
        }
    }

    /// All pairs of cases with one header queue for all RQs and with one for each.
    public var pairs: [Pair] {
        parts.flatMap { part in
            part.results.compactMap { shared in
                guard shared.benchCase.sharing == .all, shared.benchCase.rqs > 1 else { return nil }
                var wanted = shared.benchCase
                wanted.sharing = .perRQ
                let own = part.results.first { other in
                    var one = other.benchCase
                    one.name = wanted.name
                    return one == wanted
                }
                return own.map { Pair(mode: part.mode, shared: shared, own: $0) }
            }
        }
    }

    /// Compare-and-swaps lost to other RQs, for each hundred bursts.
    public static func retries(_ result: BenchResult) -> Double {
        let bursts = Double(result.packets) / max(1, result.packetsPerBurst)
        return bursts > 0 ? 100 * Double(result.claimRetries) / bursts : 0
    }

    /// CPUs on which a busy thread ran beside the benchmark's own.
    public var preemptedCPUs: [Int] { Set(parts.flatMap(\.preemptedCPUs)).sorted() }

    public var allWarnings: [String] {
        var all = warnings
        for part in parts { all += part.warnings.filter { !all.contains($0) } }
        return all
    }
}
