import CleaveBench

/// A figure that two files of results of one kind may both have.
struct ComparedFigure {
    /// Which of two figures is the better one.
    enum Better { case more, less }

    /// The case, or what else it is of.
    let subject: String
    let name: String
    let unit: String
    let spread: Spread
    let better: Better

    /// Nil for no figure, and for one that is no number.
    init?(
        _ subject: String, _ name: String, _ unit: String, _ spread: Spread?, better: Better
    ) {
        guard let spread, !spread.median.isNaN else { return nil }
        (self.subject, self.name, self.unit) = (subject, name, unit)
        (self.spread, self.better) = (spread, better)
    }

    /// A count, or a share that follows from counts: the same in every pass.
    init?(_ subject: String, _ name: String, _ unit: String, _ value: Double?, better: Better) {
        self.init(
            subject, name, unit, value.map { Spread(median: $0, min: $0, max: $0) },
            better: better)
    }
}

extension RunRecord {
    /// - Parameter prefix: before the name, where a file has a case several times.
    func compared(_ prefix: String = "") -> [ComparedFigure] {
        let subject = prefix + name
        let offered = packets + droppedTotal
        let all: [ComparedFigure?] = [
            .init(subject, "rate", "Mpps", mpps, better: .more),
            .init(subject, "device", "cycles/packet", deviceCyclesPerPacket, better: .less),
            .init(subject, "driver", "cycles/packet", driverCyclesPerPacket, better: .less),
            consumerCyclesPerPacket.flatMap {
                $0.max > 0
                    ? .init(subject, "consumer", "cycles/packet", $0, better: .less) : nil
            },
            .init(subject, "split", "%", 100 * splitShare, better: .more),
            .init(
                subject, "dropped", "%",
                offered == 0 ? nil : 100 * Double(droppedTotal) / Double(offered), better: .less),
            .init(subject, "corrupt or lost", "packets", Double(verify.bad), better: .less),
            .init(subject, "held", "bytes/packet", bytesHeldPerPacket, better: .less),
            .init(subject, "descriptors", "/packet", descriptorsPerPacket, better: .less),
        ]
        return all.compactMap(\.self)
    }
}

extension Claim {
    fileprivate var comparedFigure: ComparedFigure? {
        .init("claim \(id)", "holds", "", holds ? 1 : 0, better: .more)
    }
}

extension BenchDocument {
    var comparedFigures: [ComparedFigure] {
        (claims ?? []).compactMap(\.comparedFigure) + runs.flatMap { $0.compared() }
    }
}

extension ScaleDocument {
    var comparedFigures: [ComparedFigure] {
        let parts = [("one-core", turns), ("cores", cores ?? []), ("threads", threads)]
        let cases = parts.flatMap { mode, runs in runs.flatMap { $0.compared("\(mode): ") } }
        return cases
            + stall.flatMap { point -> [ComparedFigure] in
                let subject =
                    "stall of \(point.offered) packets, \(point.slots) slots, "
                    + "by the \(point.slotReturn.rawValue)"
                return [
                    .init(subject, "split", "%", 100 * point.splitShare, better: .more),
                    .init(subject, "lost", "packets", Double(point.lost), better: .less),
                ].compactMap(\.self)
            }
    }
}

extension ProfileDocument {
    var comparedFigures: [ComparedFigure] {
        runs.flatMap { run -> [ComparedFigure] in
            let polls: [ComparedFigure?] = [
                .init(run.name, "poll", "cycles/packet", run.turnCyclesPerPacket, better: .less),
                .init(
                    run.name, "plain poll", "cycles/packet", run.plainTurnCyclesPerPacket,
                    better: .less),
            ]
            let stages = run.stages.map {
                ComparedFigure(
                    run.name, $0.name, "cycles/packet", $0.cyclesPerPacket, better: .less)
            }
            return (polls + stages).compactMap(\.self)
        }
    }
}

extension ZeroCopyDocument {
    var comparedFigures: [ComparedFigure] {
        [("by copy", copied), ("mapped", mapped)].flatMap { name, way -> [ComparedFigure] in
            guard let way else { return [] }
            return [
                .init(name, "throughput", "GB/s", way.gigabytesPerSecond, better: .more),
                .init(
                    name, "receiver's CPU", "s/GB", way.cpuSecondsPerGigabyte, better: .less),
                .init(
                    name, "copied", "bytes/byte", way.copiedBytesPerByte, better: .less),
            ].compactMap(\.self)
        }
    }
}

extension DpdkResults {
    var comparedFigures: [ComparedFigure] {
        let cycles = runs.map {
            ComparedFigure(
                "\($0.op) \($0.ring) \($0.title) \($0.packetBytes) B, \($0.shape)", "Cleave",
                "cycles/packet", $0.cleave, better: .less)
        }
        let rates = (threads ?? []).map {
            ComparedFigure(
                "threads \($0.ring) ring of \($0.ringSize), \($0.packetBytes) B", "Cleave",
                "Mpps", $0.cleave, better: .more)
        }
        return (cycles + rates).compactMap(\.self)
    }
}

extension ParserResults {
    var comparedFigures: [ComparedFigure] {
        results.compactMap {
            ComparedFigure(
                "\($0.mix), \($0.orderWords)", "Cleave", unit, $0.cleave, better: .less)
        }
    }
}

extension RingResults {
    var comparedFigures: [ComparedFigure] {
        results.compactMap {
            ComparedFigure(
                "\($0.ring), bursts of \($0.burst)", "throughput", unit, $0.spread,
                better: .more)
        }
    }
}
