import CleaveBench
import CleaveHost

/// What `scale` found: cases measured in turns and with threads, pairs of them that differ in
/// sharing alone, and stall curves.
struct ScaleReport {
    static let schema = "cleave-bench-scale/1"

    var machine: MachineFacts
    var warnings: [String]
    var turns: BenchReport?
    var cores: BenchReport?
    var threads: BenchReport?
    var stall: [StallPoint] = []

    var parts: [BenchReport] { [turns, cores, threads].compactMap { $0 } }

    /// Two cases of one run that differ in sharing alone.
    struct Pair {
        let mode: BenchMode
        let shared: BenchResult
        let own: BenchResult

        /// Device cycles per packet that sharing adds, in percent; by the least of the passes, as
        /// neighbours only add.
        var overheadPercent: Double {
            let shared = shared.deviceCyclesPerPacket.min
            let own = own.deviceCyclesPerPacket.min
            return own > 0 ? 100 * (shared - own) / own : 0
        }
    }

    /// All pairs of a header queue for all and one for each.
    var pairs: [Pair] {
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
    static func retries(_ result: BenchResult) -> Double {
        let bursts = Double(result.packets) / max(1, result.packetsPerBurst)
        return bursts > 0 ? 100 * Double(result.claimRetries) / bursts : 0
    }

    // MARK: JSON

    func json(command: [String]) -> String {
        JSONValue.object([
            ("schema", .string(Self.schema)),
            ("machine", ReportJSON.machine(machine)),
            ("command", .array(command.map(JSONValue.string))),
            ("warnings", .array(allWarnings.map(JSONValue.string))),
            ("queuePlan", (threads ?? turns).map(PlacementText.json) ?? .null),
            ("turns", .array(turns?.results.map(ReportJSON.run) ?? [])),
            ("cores", .array(cores?.results.map(ReportJSON.run) ?? [])),
            ("threads", .array(threads?.results.map(ReportJSON.run) ?? [])),
            ("sharing", .array(pairs.map(Self.json))),
            ("stall", .array(stall.map(Self.json))),
        ]).text + "\n"
    }

    private static func json(_ pair: Pair) -> JSONValue {
        .object([
            ("mode", .string(pair.mode.rawValue)),
            ("shared", .string(pair.shared.benchCase.displayName)),
            ("private", .string(pair.own.benchCase.displayName)),
            ("rqs", .int(pair.shared.benchCase.rqs)),
            ("burst", .int(pair.shared.benchCase.burst)),
            ("deviceOverheadPercent", .number(pair.overheadPercent)),
            ("claimRetriesPer100Bursts", .number(retries(pair.shared))),
            ("sharedHeaderBytes", .int(pair.shared.memory.headerBytes)),
            ("privateHeaderBytes", .int(pair.own.memory.headerBytes)),
        ])
    }

    private static func json(_ point: StallPoint) -> JSONValue {
        .object([
            ("slotReturn", .string(point.slotReturn.rawValue)),
            ("slots", .int(point.slots)),
            ("offered", .int(point.offered)),
            ("delivered", .int(point.delivered)),
            ("split", .int(point.split)),
            ("expectedSplit", .int(point.expectedSplit)),
            ("splitShare", .number(point.splitShare)),
            ("lost", .int(point.lost)),
        ])
    }

    private var allWarnings: [String] {
        var all = warnings
        for part in parts { all += part.warnings.filter { !all.contains($0) } }
        return all
    }

    // MARK: Text

    func text(style: Style, isQuiet: Bool) -> String {
        var sections: [String] = []
        if !isQuiet {
            var lines = MachineText.facts(machine)
            if let part = threads ?? turns { lines += PlacementText.lines(part) }
            lines += MachineText.warnings(allWarnings, style)
            sections.append(lines.map { $0 + "\n" }.joined())
        }
        for part in parts { sections.append(table(part, style)) }
        if !pairs.isEmpty { sections.append(pairTable(style)) }
        if !stall.isEmpty { sections.append(stallTable(style)) }
        if !isQuiet { sections.append(Self.legend) }
        return sections.joined(separator: "\n")
    }

    private func table(_ part: BenchReport, _ style: Style) -> String {
        var table = TextTable(columns: [
            .init(part.mode.rawValue, alignment: .left), .init("rate", "Mpps"),
            .init("device", "cycles/packet"), .init("driver", "cycles/packet"),
            .init("split", "%"), .init("retries", "/100 bursts"), .init("headers", "KiB"),
            .init("", "KiB/RQ"), .init("verified", "packets/bad"),
        ])
        for result in part.results {
            let kibibytes = Double(result.memory.headerBytes) / 1024
            let bad = result.verify.corrupt + result.verify.lost
            table.append(
                [
                    result.benchCase.displayName, Numbers.rate(result.mpps.median),
                    Numbers.cycles(result.deviceCyclesPerPacket),
                    Numbers.cycles(result.driverCyclesPerPacket),
                    Numbers.percent(result.split, of: result.packets),
                    Numbers.fixed(Self.retries(result), 2), Numbers.rate(kibibytes),
                    Numbers.rate(kibibytes / Double(result.benchCase.rqs)),
                    "\(result.verify.packets)/\(bad)",
                ], isBad: bad > 0)
        }
        return table.text(style: style)
    }

    private func pairTable(_ style: Style) -> String {
        var table = TextTable(columns: [
            .init("shared against private", alignment: .left), .init("mode", alignment: .left),
            .init("device", "least c/p"), .init("", "least c/p"), .init("sharing", "%"),
            .init("headers", "KiB"), .init("", "KiB"),
        ])
        for pair in pairs {
            table.append([
                pair.shared.benchCase.displayName, pair.mode.rawValue,
                Numbers.cycles(pair.shared.deviceCyclesPerPacket.min),
                Numbers.cycles(pair.own.deviceCyclesPerPacket.min),
                (pair.overheadPercent < 0 ? "" : "+") + Numbers.fixed(pair.overheadPercent, 1),
                Numbers.rate(Double(pair.shared.memory.headerBytes) / 1024),
                Numbers.rate(Double(pair.own.memory.headerBytes) / 1024),
            ])
        }
        return table.text(style: style)
    }

    private func stallTable(_ style: Style) -> String {
        var table = TextTable(columns: [
            .init("stall", "slots"), .init("length", "packets"), .init("tail", "split %"),
            .init("", "model %"), .init("ring", "split %"), .init("", "model %"), .init("lost"),
        ])
        func share(_ split: Int, _ point: StallPoint) -> String {
            Numbers.percent(UInt64(split), of: UInt64(point.offered))
        }
        for tail in stall where tail.slotReturn == .tail {
            let ring = stall.first {
                $0.slotReturn == .ring && $0.slots == tail.slots && $0.offered == tail.offered
            }
            guard let ring else { continue }
            table.append(
                [
                    "\(tail.slots)", "\(tail.offered)", share(tail.split, tail),
                    share(tail.expectedSplit, tail), share(ring.split, ring),
                    share(ring.expectedSplit, ring), "\(tail.lost + ring.lost)",
                ], isBad: tail.lost + ring.lost > 0)
        }
        return table.text(style: style)
    }

    private static let legend = """
        turns: one thread works for all RQs in turn, the claims of the others in between; cores: \
        each RQ and its driver on a CPU of their own; threads: a CPU for all drivers, one per RQ.
        retries: claims that another RQ's claim sent round again; sharing: device cycles that a \
        shared header queue adds, by the least of the passes.
        stall: RQ 0's driver stops harvesting; length: packets of the healthy RQs meanwhile; \
        model: by the tail, what was free when the stalled RQ had filled its ring; by the ring, \
        all while slots are left.

        """
}
