import CleaveHost

/// Machine facts and warnings as lines.
enum MachineText {
    static func facts(_ facts: MachineFacts) -> [String] {
        var processor = "\(facts.cpuModel) (\(facts.architecture)), CPUs \(facts.cpusAllowed)"
        if facts.cpusAllowed != facts.cpusOnline { processor += " of \(facts.cpusOnline)" }
        if let smt = facts.smtActive { processor += ", SMT \(smt ? "on" : "off")" }
        let caches = [
            ("L1d", facts.cacheSizes.l1Data), ("L2", facts.cacheSizes.l2),
            ("L3", facts.cacheSizes.l3),
        ].compactMap { name, size in size.map { "\(name) \(Numbers.bytes($0))" } }
        if !caches.isEmpty { processor += ", " + caches.joined(separator: ", ") }

        let nodes = facts.numaNodes == 1 ? "1 NUMA node" : "\(facts.numaNodes) NUMA nodes"
        var memory = "\(Numbers.bytes(facts.memoryBytes)) on \(nodes)"
        memory += ", huge pages free: \(pages(facts.hugePages2M)) of 2 MiB, "
        memory += "\(pages(facts.hugePages1G)) of 1 GiB"
        memory += ", transparent: \(facts.transparentHugePages ?? "none")"

        let gigahertz = Numbers.fixed(facts.tscHertz / 1e9, 3)
        var system = "\(facts.kernel), governor \(facts.governor ?? "none")"
        system += ", TSC \(gigahertz) GHz\(facts.invariantTSC ? "" : ", not invariant")"
        if facts.virtualised {
            system += ", virtual machine"
            if let hypervisor = facts.hypervisor { system += " (\(hypervisor))" }
        }
        return [
            "cpu      \(processor)", "memory   \(memory)", "system   \(system)",
            "built by \(facts.compiler)",
        ]
    }

    static func warnings(_ sentences: [String], _ style: Style) -> [String] {
        sentences.map { style.yellow("warning: \($0)") }
    }

    private static func pages(_ count: MachineFacts.HugePageCount) -> String {
        "\(count.free)/\(count.total)"
    }
}
