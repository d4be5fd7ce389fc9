import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet

/// What the command line asks of a plan, beside the configuration it starts from.
struct PlanRequest {
    /// The configuration that was named, if one was.
    var configurationPath: String?
    var isQuick = false
    /// The configuration where none was named.
    var standard = DefaultConfiguration.bench
    /// Axes change the standard configuration instead of making cases by themselves.
    var startsFromStandard = false
    /// Combinations of axes that rule each other out are no cases, instead of no plan.
    var leavesOutContradictions = false
    /// Cases are measured with threads as well, whatever the mode.
    var measuresThreads = false
    /// Settings in the order given; `place` is the flag.
    var settings: [(setting: Setting, value: String)] = []
    /// Values for axes, commas already taken apart.
    var axes: [Axis: [String]] = [:]

    /// Nothing was asked for.
    var isBlank: Bool {
        configurationPath == nil && !isQuick && settings.isEmpty
            && axes.values.allSatisfy(\.isEmpty)
    }
}

/// Makes one plan of configuration and command line.
enum PlanBuilder {
    /// Repeats and packets per repeat of `--quick`.
    static let quick = (repeats: 3, packets: 50_000)

    /// The plan, every case named, checked as far as it can be without the machine.
    static func plan(
        _ request: PlanRequest
    ) throws(Failure) -> (BenchPlan, warnings: [String]) {
        let flags = try flagProduct(request.axes)
        var plan = BenchPlan()
        var warnings: [String] = []
        if let path = request.configurationPath {
            let configuration = try ConfigurationReader.read(path: path)
            plan = configuration.plan
            plan.cases = try override(try configuration.cases(), by: flags)
        } else if flags.entries.isEmpty || request.startsFromStandard {
            let configuration: BenchConfiguration
            (configuration, warnings) = try request.standard.read()
            plan = configuration.plan
            plan.cases = try override(try configuration.cases(), by: flags)
        } else {
            plan.cases = try casesFromFlags(flags)
        }
        if request.leavesOutContradictions {
            warnings += leaveOut(from: &plan.cases)
        }
        plan.cases = CaseNames.assign(to: plan.cases)
        let (settled, unused) = try settle(plan, request)
        return (settled, warnings + unused)
    }

    /// Removes impossible cases, unless all are impossible.
    /// - Returns: a sentence for each reason.
    private static func leaveOut(from cases: inout [BenchCase]) -> [String] {
        let reasons = cases.compactMap(\.contradiction)
        guard !reasons.isEmpty, reasons.count < cases.count else { return [] }
        cases.removeAll { $0.contradiction != nil }
        return Set(reasons).sorted().map { reason in
            let count = reasons.count { $0 == reason }
            return "left out (\(count) \(count == 1 ? "case" : "cases")): \(reason)"
        }
    }

    /// The plan of given cases, with the request's settings.
    static func plan(
        cases: [BenchCase], _ request: PlanRequest
    ) throws(Failure) -> (BenchPlan, warnings: [String]) {
        var plan = BenchPlan()
        plan.cases = cases
        return try settle(plan, request)
    }

    /// The plan with the request's settings, checked; and what of them changes nothing.
    private static func settle(
        _ plan: BenchPlan, _ request: PlanRequest
    ) throws(Failure) -> (BenchPlan, warnings: [String]) {
        var plan = plan
        if request.isQuick {
            plan.repeats = quick.repeats
            plan.packetsPerRepeat = quick.packets
        }
        for (setting, value) in request.settings {
            do { try setting.set(SettingValue(text: value), in: &plan) } catch {
                throw .usage("--\(setting.rawValue): \(error.problem)")
            }
        }
        try FlagNames.checkCases(plan, request)
        try FlagNames.checkUse(plan, request)
        do { try plan.validate() } catch { throw .usage(FlagNames.words(error.description)) }
        return (plan, FlagNames.unused(plan, request))
    }

    private static func flagProduct(_ axes: [Axis: [String]]) throws(Failure) -> CaseProduct {
        var product = CaseProduct()
        // In a fixed order, so that of two mistakes the same one is always reported.
        for axis in Axis.allCases {
            guard let texts = axes[axis], !texts.isEmpty else { continue }
            var entries: [CaseProduct.Entry] = []
            for text in texts {
                var value = SettingValue(text: text)
                do {
                    if axis == .packet {
                        value = SettingValue(text: try PacketSpec.resolve(text, directory: ""))
                    }
                    var trial = BenchCase()
                    try axis.set(value, in: &trial)
                } catch {
                    let problem = error.problem
                    throw .usage("--\(axis.rawValue): \(problem)")
                }
                entries.append(.init(value: value, place: "--\(axis.rawValue)"))
            }
            product.entries[axis] = entries
        }
        return product
    }

    /// Every case with the flags' values in place of its own. A case that this changes loses the
    /// name it was given, which may no longer be true of it.
    private static func override(
        _ cases: [BenchCase], by flags: CaseProduct
    ) throws(Failure) -> [BenchCase] {
        if flags.entries.isEmpty { return cases }
        var changed: [BenchCase] = []
        for one in cases {
            for var other in try flags.cases(from: one) {
                if other != one { other.name = "" }
                changed.append(other)
            }
            guard changed.count <= CaseProduct.maximumCaseCount else {
                throw .usage("more than \(CaseProduct.maximumCaseCount) cases")
            }
        }
        return CaseProduct.unique(changed)
    }

    /// The product of the flags alone: whole beside D unless a method was named.
    private static func casesFromFlags(_ flags: CaseProduct) throws(Failure) -> [BenchCase] {
        var product = flags
        if product.entries[.method] == nil {
            product.entries[.method] = [RxMethod.Kind.whole, .d].map {
                .init(value: SettingValue(text: $0.rawValue), place: "--method")
            }
        }
        return CaseProduct.unique(try product.cases(from: BenchCase()))
    }
}
