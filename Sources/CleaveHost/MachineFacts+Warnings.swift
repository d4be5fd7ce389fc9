extension MachineFacts {
    /// Reasons why figures of this machine vary or mean less, one sentence each, worst first.
    public var warnings: [String] {
        var sentences: [String] = []
        if !invariantTSC {
            sentences.append(
                "The cycle counter is not invariant: cycles change length with the frequency.")
        }
        if cpusAllowed.cpus.count == 1 {
            sentences.append(
                "Only one CPU (\(cpusAllowed)) is allowed: threads take turns on it.")
        }
        if let quota = limits.cpuQuota, quota.value < Double(cpusAllowed.cpus.count) {
            sentences.append(
                "A quota of \(Self.cpus(quota.value)) (\(quota.source)): what takes more is "
                    + "stopped, and rates are too low by as much.")
        }
        if hugePages2M.total == 0 && hugePages1G.total == 0 {
            sentences.append(
                "No huge pages are reserved: reserve some with `sysctl vm.nr_hugepages="
                    + "\(HugePagePool.usualCount)`.")
        } else if hugePages2M.free == 0 && hugePages1G.free == 0 {
            sentences.append(
                "No reserved huge page is free: reserve more with "
                    + "`sysctl vm.nr_hugepages=\(hugePages2M.total + HugePagePool.usualCount)`.")
        }
        if let governor, governor != "performance" {
            sentences.append(
                "The frequency governor is \(governor), not performance: the core's clock moves.")
        }
        if numaBalancing {
            sentences.append(
                "The kernel moves pages between nodes: `sysctl kernel.numa_balancing=0` stops it.")
        }
        if smtActive == true {
            sentences.append(
                "SMT is on: a busy sibling takes a share of the core's units and caches.")
        }
        if virtualised {
            let name = hypervisor.map { " (\($0))" } ?? ""
            sentences.append(
                "This is a virtual machine\(name): neighbours move the figures; "
                    + "compare within one run.")
        }
        return sentences
    }

    /// `0.5 CPUs`, `1 CPU`.
    package static func cpus(_ count: Double) -> String {
        let hundredths = Int((count * 100).rounded())
        var text = "\(hundredths / 100)"
        if hundredths % 100 != 0 {
            let rest = hundredths % 100
            text += rest % 10 == 0 ? ".\(rest / 10)" : rest < 10 ? ".0\(rest)" : ".\(rest)"
        }
        return "\(text) CPU\(hundredths == 100 ? "" : "s")"
    }
}
