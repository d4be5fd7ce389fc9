import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// Machine facts and warnings as lines.
enum MachineText {
    /// Those of this program and machine.
    static func facts(_ facts: MachineFacts) -> [String] {
        (Self.facts(MachineRecord(facts)) + [("program", ProgramRecord.current.words)])
            .map { TextTable.pad($0, to: 9, .left) + $1 }
    }

    /// The recorded facts of a machine, by topic.
    static func facts(_ machine: MachineRecord) -> [(name: String, text: String)] {
        [
            ("cpu", processor(machine)), ("memory", memory(machine)),
            ("limits", limits(machine.limits)), ("system", system(machine)),
            ("built by", [machine.compiler]),
        ].map { ($0, $1.compactMap(\.self).joined(separator: ", ")) }.filter { !$1.isEmpty }
    }

    private static func processor(_ machine: MachineRecord) -> [String?] {
        let model = [machine.cpuModel, machine.architecture.map { "(\($0))" }]
        var cpus = machine.cpusAllowed.map { "CPUs \(CPUSet($0))" }
        if let online = machine.cpusOnline, online != machine.cpusAllowed {
            cpus? += " of \(CPUSet(online))"
        }
        let caches = [
            ("L1d", machine.cacheBytes?.l1Data), ("L2", machine.cacheBytes?.l2),
            ("L3", machine.cacheBytes?.l3),
        ].map { name, size in size.map { "\(name) \(Numbers.bytes($0))" } }
        return [
            model.compactMap(\.self).joined(separator: " "), cpus,
            machine.smtActive.map { "SMT \($0 ? "on" : "off")" },
        ] + caches
    }

    private static func memory(_ machine: MachineRecord) -> [String?] {
        let nodes = machine.numaNodes.map { " on \($0) NUMA node\($0 == 1 ? "" : "s")" } ?? ""
        let pages = [("2 MiB", machine.hugePages2M), ("1 GiB", machine.hugePages1G)]
            .compactMap { size, count in count.map { "\($0.free)/\($0.total) of \(size)" } }
        return [machine.memoryBytes.map { Numbers.bytes($0) + nodes }]
            + (pages.isEmpty
                ? []
                : [
                    "huge pages free: " + pages.joined(separator: ", "),
                    "transparent: \(machine.transparentHugePages ?? "none")",
                ])
    }

    /// What is limited.
    private static func limits(_ limits: MachineRecord.Limits?) -> [String?] {
        guard let limits else { return [] }
        let quota = limits.cpuQuota.map { quota in
            "\(MachineFacts.cpus(quota)) (\(limits.cpuQuotaSource ?? "quota"))"
        }
        let memory = limits.memoryBytes.map { bytes in
            "memory \(Numbers.bytes(bytes)), \(Numbers.bytes(limits.memoryLeftBytes ?? 0)) left "
                + "(\(limits.memorySource ?? "limit"))"
        }
        func words(_ name: String, _ bytes: Int?) -> String? {
            bytes.map { "\(name) \(Numbers.bytes($0))" }
        }
        return [
            quota, memory, words("2 MiB pages left", limits.hugePages2MLeftBytes),
            words("1 GiB pages left", limits.hugePages1GLeftBytes),
            words("locked memory", limits.lockedBytes),
            words("address space", limits.addressSpaceBytes),
        ]
    }

    private static func system(_ machine: MachineRecord) -> [String?] {
        let clock = machine.tscHertz.map { "TSC \(Numbers.fixed($0 / 1e9, 3)) GHz" }
        let host = machine.hypervisor.map { " (\($0))" } ?? ""
        return [
            machine.kernel, clock.map { _ in "governor \(machine.governor ?? "none")" }, clock,
            machine.invariantTSC == false ? "not invariant" : nil,
            machine.virtualised == true ? "virtual machine\(host)" : nil,
        ]
    }

    /// Facts, whose labels have 9 columns, and warnings, each once, as lines that fit.
    static func lines(_ facts: [String], warnings: [String], _ style: Style) -> String {
        func wrapped(_ line: String) -> String {
            TextWrap.text(line, width: style.width, indentation: 9)
        }
        var said: Set<String> = []
        let lines =
            facts.map(wrapped)
            + warnings.filter { said.insert($0).inserted }
            .map { style.yellow(wrapped("warning: \($0)")) }
        return lines.map { $0 + "\n" }.joined()
    }
}
