import CleaveBench
import CleaveVirtioNet

/// Results arranged for comparing methods: a group for each traffic, in it a column for each
/// method on each ring.
struct Comparison {
    /// A method with its report, on a ring.
    struct Column: Hashable {
        var ring: RingFormat
        var method: RxMethod.Kind
        var report: HeaderReport?

        init(_ one: BenchCase) {
            ring = one.ring
            method = one.method
            report = one.effectiveReport
        }

        /// As short as a heading has to be: `whole`, `A`, `D used`, `D net`.
        var label: String {
            guard method != .whole else { return "whole" }
            let letter = method.rawValue.uppercased()
            switch report {
            case nil: return letter
            case .usedElement: return "\(letter) used"
            case .netHeader: return "\(letter) net"
            }
        }

        /// Rings first, then methods from none to D.
        fileprivate var order: [Int] {
            [
                RingFormat.allCases.firstIndex(of: ring) ?? 0,
                RxMethod.Kind.allCases.firstIndex(of: method) ?? 0,
                report == .netHeader ? 1 : 0,
            ]
        }
    }

    /// The same traffic under the same conditions.
    struct Group {
        var title: String
        var results: [Column: BenchResult] = [:]
    }

    let columns: [Column]
    private(set) var groups: [Group] = []

    init(_ results: [BenchResult]) {
        columns = Set(results.map { Column($0.benchCase) })
            .sorted { $0.order.lexicographicallyPrecedes($1.order) }
        let conditions = Self.conditions(results.map(\.benchCase))
        for result in results {
            let name = result.benchCase.trafficName
            let traffic = Int(name) == nil ? name : "\(name) B"
            let title = ([traffic] + conditions(result.benchCase))
                .joined(separator: ", ")
            let column = Column(result.benchCase)
            // Twins that a user named apart go to a group of their own.
            let index = groups.firstIndex { $0.title == title && $0.results[column] == nil }
            if index == nil { groups.append(Group(title: title)) }
            groups[index ?? groups.count - 1].results[column] = result
        }
    }

    var rings: [RingFormat] {
        RingFormat.allCases.filter { ring in columns.contains { $0.ring == ring } }
    }

    /// The columns of one ring.
    func columns(of ring: RingFormat) -> [Column] { columns.filter { $0.ring == ring } }

    /// What to say of a case beside its traffic: the axes in which the cases differ.
    private static func conditions(_ cases: [BenchCase]) -> (BenchCase) -> [String] {
        var sayings: [(BenchCase) -> String?] = [{ $0.buffers.rawValue }]
        for axis in Axis.allCases where ![.packet, .method, .report, .ring].contains(axis) {
            sayings.append { axis.label(of: $0) }
        }
        let telling = sayings.filter { say in Set(cases.compactMap { say($0) }).count > 1 }
        return { one in telling.compactMap { $0(one) } }
    }
}

/// A figure of the comparison, for the table in either form.
struct ComparisonFigure {
    let name: String
    /// In words, for a legend.
    let meaning: String
    /// Part of the figure above it.
    var isPart = false
    let text: (BenchResult) -> String
    /// Least and largest, where there are some.
    var range: (BenchResult) -> Spread? = { _ in nil }

    static func all(_ report: BenchReport) -> [ComparisonFigure] {
        let hasConsumer = report.results.contains { $0.consumerCyclesPerPacket.max > 0 }
        let skips = report.results.contains { $0.skippedBuffers > 0 }
        return rates(report.mode) + cycles + (hasConsumer ? [consumer] : [])
            + memory + (skips ? [skipped] : []) + shares
    }

    private static func cycles(
        _ name: String, _ meaning: String, isPart: Bool = false,
        _ figure: @escaping (BenchResult) -> Spread
    ) -> ComparisonFigure {
        ComparisonFigure(
            name: name, meaning: meaning, isPart: isPart,
            text: { Numbers.cycles(figure($0).median) }, range: { figure($0) })
    }

    private static func rates(_ mode: BenchMode) -> [ComparisonFigure] {
        let who =
            mode == .turns ? "of one thread that does both sides" : "of all RQs' threads together"
        return [
            ComparisonFigure(
                name: "Mpps", meaning: "million packets per second \(who)",
                text: { Numbers.rate($0.mpps.median) })
        ]
    }

    private static var cycles: [ComparisonFigure] {
        [
            cycles(
                "device cycles", "parse, translate, check, place, publish",
                \.deviceCyclesPerPacket),
            cycles("driver cycles", "refill, harvest and return", \.driverCycles.total),
            cycles("refill", "post buffers", isPart: true, \.driverCycles.refill),
            cycles("harvest", "find and check used buffers", isPart: true, \.driverCycles.harvest),
            cycles(
                "return", "retire header slots, take buffers back", isPart: true,
                \.driverCycles.giveBack),
        ]
    }

    private static var consumer: ComparisonFigure {
        cycles("consumer cycles", "what the application does", \.consumerCyclesPerPacket)
    }

    private static var memory: [ComparisonFigure] {
        [
            ComparisonFigure(
                name: "descriptors", meaning: "posted by the driver for each packet",
                text: { Numbers.rate($0.bufferUse.descriptorsPerPacket) }),
            ComparisonFigure(
                name: "bytes held", meaning: "buffers and header slot that a packet occupies",
                text: { Numbers.fixed($0.bufferUse.bytesHeldPerPacket, 0) }),
            ComparisonFigure(
                name: "wasted %", meaning: "of those, what is not packet",
                text: { Numbers.percent($0.bufferUse.wastedShare) }),
        ]
    }

    private static var skipped: ComparisonFigure {
        ComparisonFigure(
            name: "given back empty", meaning: "small buffers in the way of payload, per packet",
            text: {
                Numbers.rate(Double($0.skippedBuffers) / Double(max(1, $0.packets)))
            })
    }

    private static var shares: [ComparisonFigure] {
        [
            ComparisonFigure(
                name: "split %", meaning: "headers and payload apart",
                text: { Numbers.percent($0.split, of: $0.packets) }),
            ComparisonFigure(
                name: "left whole %", meaning: "not split though the method splits",
                text: {
                    $0.benchCase.method == .whole
                        ? "-" : Numbers.percent($0.fallback.values.reduce(0, &+), of: $0.packets)
                }),
            ComparisonFigure(
                name: "payload alone %",
                meaning: "no virtio-net or packet header in the payload's buffers",
                text: { Numbers.percent($0.payload.aloneShare) }),
            ComparisonFigure(
                name: "page-aligned %", meaning: "payload starts at the start of a page",
                text: { Numbers.percent($0.payload.pageAlignedShare) }),
        ]
    }
}
