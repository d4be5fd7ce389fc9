import CleaveBench
import CleaveVirtioNet

/// Judges the nine claims by the results of `ClaimCases.all`.
///
/// Cycles are the least of the passes, phase by phase: a disturbance can only add to a phase.
struct ClaimJudge {
    private let results: [String: BenchResult]

    /// - Parameter results: for `ClaimCases.all`, or those of them that were measured.
    init(_ results: [BenchResult]) {
        self.results = Dictionary(
            results.map { ($0.benchCase.name, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Claims that there are.
    static let count = 9

    /// Those whose cases were all measured.
    var claims: [Claim] {
        [
            claim(1, "Data buffers are used fully and can be mapped as they are", ClaimCases.page) {
                mapping + zeroCopy
            },
            claim(
                2, "Headers of any size are split whatever the descriptors' sizes",
                ClaimCases.sizes
            ) { sizes },
            claim(
                3, "Header buffers are never reposted; the driver's side costs half",
                ClaimCases.driver
            ) { driver },
            claim(4, "One header queue serves several RQs", ClaimCases.sharing) { sharing },
            claim(
                5, "Tiny packets can lie in their slot entirely; off by default",
                ClaimCases.slots
            ) { tiny },
            claim(
                6, "No slot, or headers too long: placed whole, nothing dropped",
                ClaimCases.slots
            ) { fallback },
            claim(7, "Header memory is one contiguous area", ClaimCases.driver) { areas },
            claim(8, "Works with chained and with mergeable buffers", ClaimCases.shapes) { shapes },
            claim(
                9, "Header memory on top of data memory is small",
                ClaimCases.memory + ClaimCases.driver
            ) { memory },
        ].compactMap(\.self)
    }

    private func claim(
        _ id: Int, _ title: String, _ cases: [BenchCase], _ figures: () -> [ClaimFigure]
    ) -> Claim? {
        guard cases.allSatisfy({ results[$0.name] != nil }) else { return nil }
        return Claim(id: id, title: title, figures: figures())
    }

    // MARK: Reading results

    private func result(_ name: String) -> BenchResult {
        guard let result = results[name] else { preconditionFailure("no case \"\(name)\"") }
        return result
    }

    private func driver(
        _ method: RxMethod.Kind, _ packet: Int, _ ring: RingFormat,
        _ report: HeaderReport = .usedLength
    ) -> BenchResult {
        result(ClaimCases.driverName(ClaimCases.how(method, report), packet, ring))
    }

    private func page(
        _ method: RxMethod.Kind, _ consumer: PayloadConsumer = .none, reads: Bool = false
    ) -> BenchResult {
        result(ClaimCases.pageName(ClaimCases.how(method), consumer, reads: reads))
    }

    /// Percent of packets that were split.
    private func splitPercent(_ result: BenchResult) -> Double {
        100 * Double(result.split) / Double(max(1, result.packets))
    }

    private func damaged(_ result: BenchResult) -> Double {
        Double(result.verify.corrupt + result.verify.lost)
    }

    private func dropped(_ result: BenchResult) -> Double {
        Double(result.dropped.values.reduce(0, +))
    }

    private func leastDriverCycles(_ result: BenchResult) -> Double {
        let cycles = result.driverCycles
        return cycles.refill.min + cycles.harvest.min + cycles.giveBack.min
    }

    private func claimed(
        _ name: String, _ unit: String, _ bound: ClaimFigure.Bound, _ value: Double,
        _ measured: Double
    ) -> ClaimFigure {
        ClaimFigure(name: name, unit: unit, claim: (bound, value), measured: measured)
    }

    private func beside(_ name: String, _ unit: String, _ measured: Double) -> ClaimFigure {
        ClaimFigure(name: name, unit: unit, claim: nil, measured: measured)
    }

    private static let splitting = RxMethod.Kind.allCases.filter { $0 != .whole }
    private static let others = splitting.filter { $0 != .d }

    // MARK: Claims

    private var mapping: [ClaimFigure] {
        let queue = page(.d)
        let slots = Double(queue.split) / Double(max(1, queue.packets))
        let dataBytes =
            queue.bufferUse.bytesHeldPerPacket - slots * Double(queue.benchCase.slotSize)
        let payloadBytes = queue.meanPacketBytes - Double(ClaimCases.headerByteCount)
        let figures = [
            claimed(
                "D: data buffer bytes that are payload, 4096 B of payload", "%", .equal, 100,
                100 * payloadBytes / dataBytes),
            claimed(
                "D: payload alone in its buffers", "%", .equal, 100,
                100 * queue.payload.aloneShare),
            claimed(
                "D: payload page-aligned", "%", .equal, 100, 100 * queue.payload.pageAlignedShare),
        ]
        let reports = [
            ("D net: page-aligned", ClaimCases.unaligned),
            ("D net, a descriptor in front for what precedes payload", ClaimCases.aligned),
        ].map { beside($0, "%", 100 * result($1).payload.pageAlignedShare) }
        return figures + reports
            + Self.others.flatMap { method in
                let other = page(method)
                let how = ClaimCases.how(method)
                return [
                    beside("\(how): payload alone", "%", 100 * other.payload.aloneShare),
                    beside("\(how): page-aligned", "%", 100 * other.payload.pageAlignedShare),
                ]
            }
    }

    /// The report that the design starts from saw 3.3 against 1.9 GB/s in a guest, whose core does
    /// the driver's and the application's work and not the device's.
    private var zeroCopy: [ClaimFigure] {
        func guestCycles(_ result: BenchResult) -> Double {
            leastDriverCycles(result) + result.consumerCyclesPerPacket.min
        }
        func guestRatio(reads: Bool) -> Double {
            guestCycles(page(.d, .copy, reads: reads)) / guestCycles(page(.d, .take, reads: reads))
        }
        func rateRatio(reads: Bool) -> Double {
            page(.d, .take, reads: reads).mpps.max / page(.d, .copy, reads: reads).mpps.max
        }
        return [
            claimed(
                "take against copy, guest's core, nothing read", "x", .atLeast, 1.75,
                guestRatio(reads: false)),
            beside("  every byte read", "x", guestRatio(reads: true)),
            beside("  guest and device on one core, nothing read", "x", rateRatio(reads: false)),
            beside("  guest and device on one core, every byte read", "x", rateRatio(reads: true)),
        ]
    }

    private var sizes: [ClaimFigure] {
        func percent(_ method: RxMethod.Kind, _ size: Int) -> Double {
            splitPercent(result(ClaimCases.sizeName(ClaimCases.how(method), size)))
        }
        return [64, 256, 4096].map { size in
            claimed("D: split, data buffers of \(size) B", "%", .equal, 100, percent(.d, size))
        } + [
            beside("A: split, header descriptors of 64 B", "%", percent(.a, 64)),
            beside("C: split, small buffers of 64 B", "%", percent(.c, 64)),
        ]
    }

    private var driver: [ClaimFigure] {
        var figures: [ClaimFigure] = []
        for ring in RingFormat.allCases {
            for packet in ClaimCases.driverPackets {
                func cycles(_ method: RxMethod.Kind, _ report: HeaderReport = .usedLength)
                    -> Double
                { leastDriverCycles(driver(method, packet, ring, report)) }
                let place = "\(packet) B, \(ring.rawValue) ring"
                for other in [RxMethod.Kind.a, .c] {
                    figures.append(
                        claimed(
                            "D used against \(ClaimCases.how(other)): driver cycles, \(place)",
                            "x", .atMost, 0.5, cycles(.d) / cycles(other)))
                    figures.append(
                        beside(
                            "  D net against \(ClaimCases.how(other))", "x",
                            cycles(.d, .netHeader) / cycles(other)))
                }
            }
        }
        let descriptors = Self.splitting.map { method -> (String, Double) in
            let use = driver(method, 1500, .split).bufferUse
            return (
                "\(ClaimCases.how(method)): descriptors posted beyond those of whole, 1500 B",
                use.descriptorsPerPacket
                    - driver(.whole, 1500, .split).bufferUse.descriptorsPerPacket
            )
        }
        return figures
            + descriptors.map { name, count in
                name.hasPrefix("D")
                    ? claimed(name, "", .equal, 0, count) : beside(name, "", count)
            }
    }

    private var sharing: [ClaimFigure] {
        let shared = result(ClaimCases.shared)
        let apart = result(ClaimCases.apart)
        let rqs = ClaimCases.sharingRQs
        return [
            claimed("\(rqs) RQs on one queue: split", "%", .equal, 100, splitPercent(shared)),
            claimed("  corrupt or lost", "", .equal, 0, damaged(shared)),
            claimed(
                "  header memory against a queue each", "x", .equal, 1 / Double(rqs),
                Double(shared.memory.headerBytes) / Double(apart.memory.headerBytes)),
            beside("  areas that the headers lay in", "", Double(shared.payload.headerAreas)),
        ]
    }

    private var tiny: [ClaimFigure] {
        func percent(_ name: String) -> Double {
            100 * Double(result(name).tiny) / Double(max(1, result(name).packets))
        }
        return [
            claimed("64 B packets in their slot, on", "%", .equal, 100, percent(ClaimCases.tiny)),
            claimed(
                "  as it comes", "%", .equal, 0, percent(ClaimCases.untouched)),
        ]
    }

    private var fallback: [ClaimFigure] {
        let slots = ClaimCases.fewSlots
        let cases = [
            ("\(slots) slots for bursts of 32", ClaimCases.shortOfSlots, FallbackReason.noSlot),
            ("slots of 64 B", ClaimCases.smallSlots, .headerTooLong),
        ]
        return cases.flatMap { what, name, reason in
            let result = result(name)
            let whole = Double(result.fallback[reason.name, default: 0])
            return [
                claimed(
                    "\(what): placed whole (\(reason.name))", "%", .moreThan, 0,
                    100 * whole / Double(max(1, result.packets))),
                claimed(
                    "  dropped, corrupt or lost", "", .equal, 0, dropped(result) + damaged(result)),
            ]
        }
    }

    private var areas: [ClaimFigure] {
        let queue = driver(.d, 1500, .split)
        return [
            claimed(
                "D: areas that all headers lay in", "", .equal, 1,
                Double(queue.payload.headerAreas)),
            beside("  its bytes", "B", Double(queue.memory.headerBytes)),
        ]
            + Self.others.map { method in
                beside(
                    "\(ClaimCases.how(method)): areas", "",
                    Double(driver(method, 1500, .split).payload.headerAreas))
            }
    }

    private var shapes: [ClaimFigure] {
        ClaimCases.shapeKinds.flatMap { buffers in
            let all = RingFormat.allCases.flatMap { ring in
                HeaderReport.allCases.map { report in
                    result(ClaimCases.shapeName(buffers, ring, report))
                }
            }
            return [
                claimed(
                    "\(buffers.rawValue), 9000 B, both rings and reports: split", "%", .equal, 100,
                    all.map(splitPercent).min() ?? 0),
                claimed(
                    "  dropped, corrupt or lost", "", .equal, 0,
                    all.map { dropped($0) + damaged($0) }.reduce(0, +)),
            ]
        }
    }

    private var memory: [ClaimFigure] {
        let twoPages = result(ClaimCases.twoPages)
        let ethernet = result(ClaimCases.ethernet)
        let figures = [
            claimed(
                "256 buffers of 4 KiB, slots of 128 B: header memory", "%", .atMostCut, 3.1,
                driver(.d, 1500, .split).memory.headerPercent),
            claimed(
                "packets of 8 KiB, a slot each: header memory", "%", .atMostCut, 1.5,
                twoPages.memory.headerPercent),
            claimed("  split", "%", .equal, 100, splitPercent(twoPages)),
            claimed(
                "1500-byte buffers (1536): header memory", "%", .atMost, 10,
                ethernet.memory.headerPercent),
            claimed("  split", "%", .equal, 100, splitPercent(ethernet)),
        ]
        return figures
            + RxMethod.Kind.allCases.map { method in
                beside(
                    "\(ClaimCases.how(method)): bytes that a 1500 B packet holds", "B",
                    driver(method, 1500, .split).bufferUse.bytesHeldPerPacket)
            }
    }
}
