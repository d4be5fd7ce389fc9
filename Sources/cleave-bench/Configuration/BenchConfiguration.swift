import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// A setting of the whole benchmark. The raw value is both the flag and the key.
enum Setting: String, CaseIterable {
    case mode, repeats, packets
    case sourcePackets = "source-packets"
    case verifyPackets = "verify-packets"
    case flows, cpus, node
    case rqCPUs = "rq-cpus"
    case oversubscribe, idle
    case parkAfter = "park-after"
    case wakeLatency = "wake-latency"
    case indirectionSize = "indirection-size"
    case preempt

    /// Puts a value into a plan.
    /// - Throws: a sentence that starts with the value and says what was expected.
    func set(_ value: SettingValue, in plan: inout BenchPlan) throws(SettingError) {
        switch self {
        case .mode: plan.mode = try value.choice()
        case .repeats: plan.repeats = try value.count(kilo: 1000)
        case .packets: plan.packetsPerRepeat = try value.count(kilo: 1000)
        case .sourcePackets: plan.sourcePackets = try value.count(kilo: 1000)
        case .verifyPackets: plan.verifyPackets = try value.count(kilo: 1000)
        case .flows: plan.flows = try value.count(kilo: 1000)
        case .cpus:
            do { plan.cpus = try CPUSet(parsing: value.text).cpus } catch {
                throw SettingError(problem: error.description)
            }
            if plan.cpus.isEmpty { throw SettingError(problem: "the list of CPUs is empty") }
        case .node: plan.node = try value.count(kilo: 1000)
        case .rqCPUs:
            do { plan.rqCPUs = try CPUSet.numbers(parsing: value.text) } catch {
                throw SettingError(problem: error.description)
            }
            if plan.rqCPUs.isEmpty { throw SettingError(problem: "the list of CPUs is empty") }
        case .oversubscribe: plan.oversubscribe = try value.bool()
        case .idle: plan.idle.kind = try value.choice()
        case .parkAfter: plan.idle.pollsBeforePark = try value.count(kilo: 1000)
        case .wakeLatency: plan.idle.wakeMicroseconds = try value.count(kilo: 1000)
        case .indirectionSize: plan.indirectionSize = try value.count(kilo: 1024)
        case .preempt: plan.preempts = try value.bool()
        }
    }
}

/// What a configuration file holds, in the order it was written.
struct BenchConfiguration {
    /// Settings of the plan; the cases are in `products`.
    var plan = BenchPlan()
    /// One for each element of `cases`, with the name that the user gave it.
    var products: [(name: String, product: CaseProduct)] = []

    /// All cases, unnamed ones without a name, none twice.
    func cases() throws(Failure) -> [BenchCase] {
        var cases: [BenchCase] = []
        for (name, product) in products {
            var base = BenchCase()
            base.name = name
            cases += try product.cases(from: base)
            guard cases.count <= CaseProduct.maximumCaseCount else {
                throw .usage("more than \(CaseProduct.maximumCaseCount) cases")
            }
        }
        return CaseProduct.unique(cases)
    }
}
