import Glibc
import Testing

@testable import CleaveHost

@Suite struct MachineFactsTests {
    @Test func knowsThisMachine() {
        let facts = MachineFacts.current()
        #expect(!facts.cpuModel.isEmpty)
        #expect(["x86_64", "arm64"].contains(facts.architecture))
        #expect(!facts.cpusOnline.isEmpty && !facts.cpusAllowed.isEmpty)
        #expect(facts.memoryBytes > 1 << 20)
        #expect(facts.numaNodes >= 1)
        #expect(facts.kernel.hasPrefix("Linux "))
        #expect(facts.tscHertz == CycleClock.hertz)
        #expect(facts.hugePages2M.free <= facts.hugePages2M.total)
        #expect(facts.compiler.hasPrefix("Swift 6."))
    }

    @Test func readsTheKernelsFiles() {
        let cpu = "/sys/devices/system/cpu/cpu0"
        var files: [String: String?] = [
            "\(cpu)/cpufreq/scaling_governor": "powersave\n",
            "/proc/sys/kernel/numa_balancing": "1\n",
            "/proc/sys/kernel/sched_autogroup_enabled": "0\n",
            "/sys/devices/system/cpu/smt/active": "1\n",
            "/proc/sys/kernel/osrelease": "6.1.0-test\n",
            "/proc/meminfo": "MemTotal:       1024 kB\nMemAvailable: 1 kB\n",
            FakeMachine.transparentPath: "[always] madvise never\n",
        ]
        let caches = [
            ("1", "Data", "32K"), ("1", "Instruction", "64K"), ("2", "Unified", "1M"),
            ("3", "Unified", "32768K"),
        ]
        for (index, (level, type, size)) in caches.enumerated() {
            files["\(cpu)/cache/index\(index)/level"] = "\(level)\n"
            files["\(cpu)/cache/index\(index)/type"] = "\(type)\n"
            files["\(cpu)/cache/index\(index)/size"] = "\(size)\n"
        }
        files.merge(FakeMachine.pool("2048kB", total: 9, free: 4)) { $1 }
        let facts = MachineFacts.current(probe: FakeMachine.with(files))
        #expect(facts.governor == "powersave")
        #expect(facts.numaBalancing && !facts.autogroupEnabled && facts.smtActive == true)
        #expect(facts.kernel == "Linux 6.1.0-test")
        #expect(facts.memoryBytes == 1 << 20)
        #expect(facts.transparentHugePages == "always")
        #expect(facts.hugePages2M == MachineFacts.HugePageCount(total: 9, free: 4))
        #expect(
            facts.cacheSizes
                == MachineFacts.CacheSizes(l1Data: 32 << 10, l2: 1 << 20, l3: 32 << 20))
    }

    @Test func readsNothingAndStillAnswers() {
        var probe = FakeMachine.with([:], numa: false)
        probe.readText = { _ in nil }
        let facts = MachineFacts.current(probe: probe)
        #expect(facts.governor == nil && facts.smtActive == nil)
        #expect(facts.transparentHugePages == nil)
        #expect(facts.cacheSizes == MachineFacts.CacheSizes())
        #expect(facts.numaNodes == 1 && facts.memoryBytes == 0)
        #expect(!facts.cpusOnline.isEmpty)
    }

    @Test(arguments: [("32K", 32_768), ("1M", 1 << 20), ("512", 512), ("K", nil), ("", nil)])
    func readsCacheSizes(text: String, expected: Int?) {
        #expect(MachineFacts.byteCount(ofCacheSize: text) == expected)
    }

    static func calm() -> MachineFacts {
        var facts = MachineFacts.current()
        facts.invariantTSC = true
        facts.cpusAllowed = CPUSet(0...3)
        facts.hugePages2M = .init(total: 64, free: 64)
        facts.hugePages1G = .init(total: 0, free: 0)
        facts.governor = nil
        facts.numaBalancing = false
        facts.smtActive = false
        facts.virtualised = false
        facts.limits = ResourceLimits()
        return facts
    }

    @Test func aQuietMachineHasNoWarnings() {
        var facts = Self.calm()
        #expect(facts.warnings == [])
        facts.governor = "performance"
        facts.smtActive = nil
        #expect(facts.warnings == [])
    }

    @Test func warnsOfEachThingThatMovesFigures() {
        func warning(_ change: (inout MachineFacts) -> Void) -> String {
            var facts = Self.calm()
            change(&facts)
            #expect(facts.warnings.count == 1)
            return facts.warnings.first ?? ""
        }
        #expect(
            warning { $0.hugePages2M = .init(total: 0, free: 0) }
                .contains("sysctl vm.nr_hugepages=512"))
        #expect(
            warning { $0.hugePages2M = .init(total: 64, free: 0) }
                .contains("sysctl vm.nr_hugepages=576"))
        #expect(warning { $0.governor = "powersave" }.contains("powersave"))
        #expect(warning { $0.invariantTSC = false }.contains("not invariant"))
        #expect(warning { $0.cpusAllowed = CPUSet([3]) }.contains("one CPU (3)"))
        #expect(warning { $0.numaBalancing = true }.contains("kernel.numa_balancing=0"))
        #expect(warning { $0.smtActive = true }.contains("SMT"))
        #expect(
            warning { $0.limits.cpuQuota = .init(value: 0.5, source: "f 5 of 10 us") }
                == "A quota of 0.5 CPUs (f 5 of 10 us): what takes more is stopped, and rates are "
                + "too low by as much.")
        var facts = Self.calm()
        facts.limits.cpuQuota = .init(value: 4, source: "all that there are")
        #expect(facts.warnings == [])
        #expect(
            [0.25, 1, 1.05, 12].map(MachineFacts.cpus)
                == ["0.25 CPUs", "1 CPU", "1.05 CPUs", "12 CPUs"])
        #expect(
            warning {
                $0.virtualised = true
                $0.hypervisor = "KVMKVMKVM"
            }
            .contains("(KVMKVMKVM)"))
    }
}
