import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet

/// Cases arranged for comparing methods: a group for each traffic, in it a column for each method
/// on each ring.
struct Comparison {
    /// A method with its report, on a ring.
    struct Column: Hashable {
        var ring: String
        var method: String
        var report: String?

        /// As short as a heading has to be: `whole`, `A`, `D used`, `D net`.
        var label: String {
            guard method != RxMethod.Kind.whole.rawValue else { return method }
            let letter = method.uppercased()
            guard let report else { return letter }
            switch HeaderReport(rawValue: report) {
            case .usedLength: return "\(letter) used"
            case .netHeader: return "\(letter) net"
            // Results of another version, such as `usedElement`.
            case nil: return "\(letter) \(report)"
            }
        }

        /// Style class of the page; a method that this version has no colour for is drawn in ink.
        var colour: String {
            guard RxMethod.Kind(rawValue: method) != nil else { return "ink" }
            return "m-\(method)" + (report == HeaderReport.netHeader.rawValue ? "-net" : "")
        }

        /// Rings first, then methods from none to D; what this version does not know comes last.
        fileprivate var order: [Int] {
            func place(_ name: String, _ known: [String]) -> Int {
                known.firstIndex(of: name) ?? known.count
            }
            return [
                place(ring, RingFormat.allCases.map(\.rawValue)),
                place(method, RxMethod.Kind.allCases.map(\.rawValue)),
                place(report ?? "", HeaderReport.allCases.map(\.rawValue).reversed()),
            ]
        }
    }

    /// The same traffic under the same conditions.
    struct Group {
        var title: String
        var runs: [Column: RunRecord] = [:]
    }

    let columns: [Column]
    private(set) var groups: [Group] = []

    init(_ runs: [RunRecord]) {
        columns = Set(runs.map(\.column))
            .sorted { $0.order.lexicographicallyPrecedes($1.order) }
        let conditions = Self.conditions(runs.map(\.benchCase))
        for run in runs {
            let one = run.benchCase
            let traffic = Int(one.trafficName) == nil ? one.trafficName : "\(one.trafficName) B"
            let title = ([traffic] + conditions(one)).joined(separator: ", ")
            let column = run.column
            // Cases that differ only in the name that the user gave them go to a group of their
            // own.
            let index = groups.firstIndex { $0.title == title && $0.runs[column] == nil }
            if index == nil { groups.append(Group(title: title)) }
            groups[index ?? groups.count - 1].runs[column] = run
        }
    }

    var rings: [String] {
        columns.map(\.ring).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// The columns of one ring.
    func columns(of ring: String) -> [Column] { columns.filter { $0.ring == ring } }

    /// Nil unless there are methods to set side by side, and title and label tell all cases apart.
    static func telling(_ runs: [RunRecord]) -> Comparison? {
        let comparison = Comparison(runs)
        let titles = comparison.groups.map(\.title)
        let labels = Set(comparison.columns.map(\.label))
        return labels.count > 1 && Set(titles).count == titles.count ? comparison : nil
    }

    /// A case's description beside its traffic: the axes in which the cases differ.
    private static func conditions(_ cases: [BenchCase]) -> (BenchCase) -> [String] {
        var sayings: [(BenchCase) -> String?] = [{ $0.buffers.rawValue }]
        for axis in Axis.allCases where ![.packet, .method, .report, .ring].contains(axis) {
            sayings.append { axis.label(of: $0) }
        }
        let telling = sayings.filter { say in Set(cases.compactMap { say($0) }).count > 1 }
        return { one in telling.compactMap { $0(one) } }
    }
}

extension RunRecord {
    var column: Comparison.Column { .init(ring: ring, method: method, report: report) }
}

/// A figure of the comparison, for the table in either form.
struct ComparisonFigure {
    let name: String
    /// In words, for a legend.
    let meaning: String
    /// Part of the figure above it.
    var isPart = false
    let text: (RunRecord) -> String
    /// Of the passes, where there is a range.
    var range: (RunRecord) -> Spread? = { _ in nil }
    /// For the ends of the range.
    var format: (Double) -> String = Numbers.cycles
    /// A share from 0 to 1 of which more is better, for shading.
    var share: (RunRecord) -> Double? = { _ in nil }

    static func all(_ document: BenchDocument) -> [ComparisonFigure] {
        let who =
            document.mode.flatMap(BenchMode.init) == .oneCore
            ? "of one thread that does both sides" : "of all RQs' threads together"
        var figures = [
            ComparisonFigure(
                name: "Mpps", meaning: "million packets delivered per second \(who)",
                text: { Numbers.marked($0.mpps, Numbers.rate) }, range: \.mpps,
                format: Numbers.rate),
            cycles("device cycles", "parse, translate, check, place, publish") {
                $0.deviceCyclesPerPacket
            },
            cycles("driver cycles", "refill, harvest and return") { $0.driverCyclesPerPacket },
            cycles("refill", "post buffers", isPart: true) { $0.driverCycles?.refill },
            cycles("harvest", "find and check used buffers", isPart: true) {
                $0.driverCycles?.harvest
            },
            cycles("return", "retire header slots, take buffers back", isPart: true) {
                $0.driverCycles?.giveBack
            },
        ]
        if document.runs.contains(where: { $0.consumerCyclesPerPacket?.max ?? 0 > 0 }) {
            figures.append(
                cycles("consumer cycles", "what the application does") {
                    $0.consumerCyclesPerPacket
                })
        }
        figures += [
            number("descriptors", "posted by the driver for each packet", Numbers.rate) {
                $0.descriptorsPerPacket
            },
            number(
                "bytes held", "buffers and header slot that a packet occupies",
                { Numbers.fixed($0, 0) }
            ) { $0.bytesHeldPerPacket },
            number("wasted %", "of those, what is not packet", Numbers.percent) { $0.wastedShare },
        ]
        if document.runs.contains(where: { $0.skippedBuffers ?? 0 > 0 }) {
            figures.append(
                number(
                    "given back empty", "small buffers in the way of payload, per packet",
                    Numbers.rate
                ) { Double($0.skippedBuffers ?? 0) / Double(max(1, $0.packets)) })
        }
        return figures + shares
    }

    private static var shares: [ComparisonFigure] {
        [
            ComparisonFigure(
                name: "split %", meaning: "headers and payload apart",
                text: { Numbers.percent($0.split, of: $0.packets) }, share: { $0.splitShare }),
            ComparisonFigure(
                name: "left whole %", meaning: "not split though the method splits",
                text: {
                    $0.method == RxMethod.Kind.whole.rawValue
                        ? "-" : Numbers.percent($0.fallbackTotal, of: $0.packets)
                }),
            number(
                "payload alone %", "no virtio-net or packet header in the payload's buffers",
                isShare: true, Numbers.percent
            ) { $0.payloadAloneShare },
            number(
                "page-aligned %", "payload starts at the start of a page", isShare: true,
                Numbers.percent
            ) { $0.pageAlignedShare },
        ]
    }

    private static func number(
        _ name: String, _ meaning: String, isShare: Bool = false,
        _ format: @escaping (Double) -> String, _ value: @escaping (RunRecord) -> Double?
    ) -> ComparisonFigure {
        ComparisonFigure(
            name: name, meaning: meaning, text: { format(value($0) ?? .nan) },
            share: isShare ? value : { _ in nil })
    }

    private static func cycles(
        _ name: String, _ meaning: String, isPart: Bool = false,
        _ figure: @escaping (RunRecord) -> Spread?
    ) -> ComparisonFigure {
        ComparisonFigure(
            name: name, meaning: meaning, isPart: isPart,
            text: { figure($0).map { Numbers.marked($0, Numbers.cycles) } ?? "-" },
            range: figure)
    }
}
