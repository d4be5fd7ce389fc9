import CleaveBench
import CleaveHost

// What several schemas have in common, in words for a page.

enum Facts {
    static func preempted(_ cpus: [Int]) -> String {
        "by a busy thread on each of CPUs \(CPUSet(cpus))"
    }
}

extension Spread {
    /// `38.2–41.0`; empty where there was one pass.
    func range(_ format: (Double) -> String) -> String {
        guard min.isFinite, max.isFinite, min != max else { return "" }
        return "\(format(min))–\(format(max))"
    }
}

extension CommandRecord {
    /// As a shell would have to read it.
    var text: String {
        arguments.map(Self.quoted).joined(separator: " ")
    }

    private static func quoted(_ argument: String) -> String {
        let isPlain = argument.allSatisfy {
            $0.isLetter || $0.isNumber || "_-+=:,./@%".contains($0)
        }
        if isPlain && !argument.isEmpty { return argument }
        return "'" + argument.replacing("'", with: #"'\''"#) + "'"
    }
}

extension MachineRecord {
    /// The facts that tell one machine from another.
    var identity: String { "\(cpuModel ?? "unknown CPU"), \(kernel ?? "unknown kernel")" }
}
