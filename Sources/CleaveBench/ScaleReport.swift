import CleaveHost

/// What `scale` found: cases measured on one core and with threads, pairs of them that differ in
/// sharing alone, and stall curves.
public struct ScaleReport: Sendable {
    public var machine: MachineFacts
    public var warnings: [String]
    public var oneCore: BenchReport?
    public var cores: BenchReport?
    public var threads: BenchReport?
    public var stall: [StallPoint] = []

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
        /// neighbours can only add cycles.
        public var overheadPercent: Double {
            let shared = shared.deviceCyclesPerPacket.min
            let own = own.deviceCyclesPerPacket.min
            return own > 0 ? 100 * (shared - own) / own : 0
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

    public var allWarnings: [String] {
        var all = warnings
        for part in parts { all += part.warnings.filter { !all.contains($0) } }
        return all
    }
}
