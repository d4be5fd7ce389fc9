import CleaveBench
import CleaveHost
import CleaveProgramSupport
import CleaveTraffic

/// What is wrong with a plan, by the flags that say it.
enum FlagNames {
    /// A sentence about a key of configurations (`cpus: ...`), as one about the flag of that name.
    static func words(_ sentence: String) -> String {
        let keys =
            Setting.allCases.map(\.rawValue) + Axis.allCases.map(\.rawValue)
            + LatencySetting.allCases.map(\.rawValue)
        return keys.contains { sentence.hasPrefix("\($0): ") } ? "--" + sentence : sentence
    }

    /// The first case that is impossible, by the flags without which it would be possible; if there
    /// are none, by its number in the configuration.
    static func checkCases(_ plan: BenchPlan, _ request: PlanRequest) throws(Failure) {
        for (index, one) in plan.cases.enumerated() {
            let problem: String
            do {
                try one.validate()
                continue
            } catch { problem = error.description }
            let flags = Axis.allCases.compactMap { axis -> String? in
                guard let texts = request.axes[axis], !texts.isEmpty else { return nil }
                var other = one
                axis.copy(from: BenchCase(), to: &other)
                do throws(SetupError) { try other.validate() } catch {
                    if error.description == problem { return nil }
                }
                return flag(axis, of: one, texts)
            }
            if flags.isEmpty {
                let place = request.configurationPath.map { "\($0): " } ?? ""
                throw .usage("\(place)case \(index + 1) (\(one.displayName)): \(problem)")
            }
            throw .usage("\(flags.joined(separator: " ")): \(problem)")
        }
    }

    /// A flag with the one of its values that a case has.
    private static func flag(_ axis: Axis, of one: BenchCase, _ texts: [String]) -> String {
        let value = texts.first { text in
            var other = one
            try? axis.set(SettingValue(text: text), in: &other)
            return other == one
        }
        return "--\(axis.rawValue)" + (value.map { " \($0)" } ?? "")
    }

    /// An axis that was given and changes nothing in any case is a mistake.
    static func checkUse(_ plan: BenchPlan, _ request: PlanRequest) throws(Failure) {
        for axis in Axis.allCases where !(request.axes[axis] ?? []).isEmpty {
            let missing = plan.cases.map { axis.missingCondition(in: $0) }
            guard let need = missing.first, let need, !missing.contains(nil) else { continue }
            throw .usage("--\(axis.rawValue) is for \(need), and no case here is that")
        }
    }

    /// Settings that were given and change nothing, in sentences.
    static func unused(_ plan: BenchPlan, _ request: PlanRequest) -> [String] {
        let given = Set(request.settings.map(\.setting))
        return Setting.allCases.filter(given.contains).compactMap { setting in
            missingCondition(setting, plan, request).map {
                "--\(setting.rawValue) changes nothing: it is for \($0)."
            }
        }
    }

    private static func missingCondition(
        _ setting: Setting, _ plan: BenchPlan, _ request: PlanRequest
    ) -> String? {
        let hasThreads = plan.mode == .threads || request.measuresThreads
        let need: (Bool, String)
        switch setting {
        case .rqCPUs, .oversubscribe:
            need = (hasThreads || plan.mode == .cores, "modes threads and cores")
        case .idle: need = (hasThreads, "mode threads, in which an RQ's thread waits")
        case .parkAfter, .wakeLatency:
            need = (hasThreads && plan.idle.kind == .park, "mode threads with --idle park")
        case .flows, .sourcePackets:
            let isGenerated = plan.cases.contains {
                (try? TrafficProfile.parse($0.packet)) != nil
            }
            need = (isGenerated, "generated traffic")
        case .indirectionSize: need = (plan.cases.contains { $0.rqs > 1 }, "several RQs")
        case .mode, .repeats, .packets, .verifyPackets, .cpus, .node, .preempt: return nil
        }
        return need.0 ? nil : need.1
    }
}
