import Testing

@testable import CleaveHost

@Suite struct ResourceLimitsTests {
    /// A machine of which nothing but these files can be read.
    private static func probe(_ files: [String: String]) -> HostProbe {
        var probe = HostProbe.live
        probe.readText = { files[$0] }
        return probe
    }

    private static let limits = """
        Limit                     Soft Limit           Hard Limit           Units
        Max locked memory         65536                8388608              bytes
        Max address space         1000000000           unlimited            bytes

        """

    /// One hierarchy, three levels below its mount; the middle one is the tightest.
    private static let unified = [
        "/proc/self/cgroup": "0::/a/b/c\n",
        "/proc/self/mountinfo":
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
        "/sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/a/b/cpu.max": "50000 100000\n",
        "/sys/fs/cgroup/a/cpu.max": "150000 100000\n",
        "/sys/fs/cgroup/a/b/cpu.stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n",
        "/sys/fs/cgroup/a/cpu.stat": "nr_throttled 1\nthrottled_usec 500000\n",
        "/sys/fs/cgroup/a/b/c/cpuset.cpus.effective": "0-1\n",
        "/sys/fs/cgroup/a/b/c/memory.max": "max\n",
        "/sys/fs/cgroup/a/b/memory.max": "1000\n",
        "/sys/fs/cgroup/a/b/memory.current": "900\n",
        "/sys/fs/cgroup/a/b/memory.stat": "anon 1\ninactive_file 100\nactive_file 50\n",
        "/sys/fs/cgroup/a/memory.max": "5000\n",
        "/sys/fs/cgroup/a/memory.current": "100\n",
        "/sys/fs/cgroup/a/b/c/hugetlb.2MB.max": "max\n",
        "/sys/fs/cgroup/a/hugetlb.2MB.max": "4194304\n",
        "/sys/fs/cgroup/a/hugetlb.2MB.current": "2097152\n",
        "/proc/self/limits": limits,
        "/proc/self/status": "Name:\tx\nVmSize:\t  500000 kB\n",
    ]

    @Test func readsEveryLevelOfTheUnifiedHierarchy() {
        let limits = ResourceLimits.current(probe: Self.probe(Self.unified))
        #expect(limits.cpuQuota?.value == 0.5)
        #expect(limits.cpuQuota?.source == "/sys/fs/cgroup/a/b/cpu.max 50000 of 100000 us")
        #expect(limits.cpuset?.value == CPUSet(0...1))
        #expect(limits.memory?.value == 1000 && limits.memoryLeft == 250)
        #expect(limits.huge2MLeft?.value == 2_097_152 && limits.huge1GLeft == nil)
        #expect(limits.lockedMemory == 65536 && limits.addressSpace == 1_000_000_000)
        #expect(limits.addressSpaceLeft == 1_000_000_000 - 500_000 * 1024)
        let stops = ResourceLimits.stops(probe: Self.probe(Self.unified))
        #expect(stops == ResourceLimits.Stops(count: 4, seconds: 3))
    }

    @Test func readsTheOlderHierarchies() {
        let cpu = "/sys/fs/cgroup/cpu,cpuacct"
        let limits = ResourceLimits.current(
            probe: Self.probe([
                "/proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/x/y\n3:hugetlb:/\n0::/\n",
                "/proc/self/mountinfo": """
                31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
                32 31 0:29 / \(cpu) rw shared:9 - cgroup cgroup rw,cpu,cpuacct
                33 31 0:30 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory
                34 31 0:31 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb

                """,
                "\(cpu)/x/y/cpu.cfs_quota_us": "-1\n", "\(cpu)/x/y/cpu.cfs_period_us": "100000\n",
                "\(cpu)/x/cpu.cfs_quota_us": "25000\n", "\(cpu)/x/cpu.cfs_period_us": "100000\n",
                "\(cpu)/x/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 1500000000\n",
                "\(cpu)/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/my memory/x/memory.limit_in_bytes": "4096\n",
                "/sys/fs/cgroup/my memory/x/memory.usage_in_bytes": "96\n",
                "/sys/fs/cgroup/my memory/memory.limit_in_bytes": "9223372036854771712\n",
                "/sys/fs/cgroup/hugetlb/hugetlb.1GB.limit_in_bytes": "0\n",
                "/sys/fs/cgroup/hugetlb/hugetlb.1GB.usage_in_bytes": "0\n",
            ]))
        #expect(limits.cpuQuota?.value == 0.25)
        #expect(limits.cpuQuota?.source == "\(cpu)/x/cpu.cfs_quota_us 25000 of 100000 us")
        #expect(limits.memory?.value == 4096 && limits.memoryLeft == 4000)
        #expect(limits.huge1GLeft?.value == 0)
        #expect(limits.lockedMemory == nil && limits.addressSpace == nil)
    }

    /// A container's mounts show a part: its root is the container's own group, or all is outside.
    @Test(arguments: [
        ("0::/docker/id", "/docker/id", ""), ("0::/docker/id/sub", "/docker/id", "/sub"),
        ("0::/../other", "/", ""), ("0::/elsewhere", "/docker/id", ""),
    ])
    func findsTheGroupInAContainer(group: String, root: String, folder: String) {
        let limits = ResourceLimits.current(
            probe: Self.probe([
                "/proc/self/cgroup": group + "\n",
                "/proc/self/mountinfo": "3 2 0:2 \(root) /cg ro - cgroup2 none rw\n",
                "/cg\(folder)/cpu.max": "200000 100000\n",
            ]))
        #expect(limits.cpuQuota?.value == 2)
    }

    @Test func nothingIsLimitedWhereNothingCanBeRead() {
        #expect(ResourceLimits.current(probe: Self.probe([:])) == ResourceLimits())
        #expect(ResourceLimits.stops(probe: Self.probe([:])) == nil)
        let odd = [
            "/proc/self/cgroup": "x\n0::/\n::\n", "/proc/self/mountinfo": "- cgroup2\n1 2 3\n",
            "/proc/self/limits": "Max locked memory\n",
        ]
        #expect(ResourceLimits.current(probe: Self.probe(odd)) == ResourceLimits())
    }

    @Test func memoryBeyondALimitIsRefusedWithTheNumbers() {
        let limited = FakeMachine.with([
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": "3 2 0:2 / /cg ro - cgroup2 none rw\n",
            "/cg/memory.max": "1048576\n", "/cg/memory.current": "0\n",
        ])
        func plan(_ byteCount: Int, _ probe: HostProbe) -> PagePlan {
            PagePlan(
                byteCount: byteCount, node: nil, isShared: false, isOneOfMany: false, probe: probe)
        }
        #expect(plan(4096, limited).memoryObstacle(.small) == nil)
        #expect(
            plan(2 << 20, limited).memoryObstacle(.small)
                == "2097152 bytes are asked for, and /cg/memory.max (1048576) leaves 1048576")
        let narrow = FakeMachine.with([
            "/proc/self/limits": "Max address space         2000000    unlimited  bytes\n",
            "/proc/self/status": "VmSize: 1000 kB\n",
        ])
        #expect(
            plan(1 << 20, narrow).memoryObstacle(.small)
                == "1048576 bytes are asked for, and RLIMIT_AS (ulimit -v, 2000000) leaves 976000")
    }

    @Test func hugePagesBeyondAControlGroupAreNotTried() {
        var files = FakeMachine.pool("2048kB", total: 8, free: 8)
        files["/proc/self/cgroup"] = "0::/\n"
        files["/proc/self/mountinfo"] = "3 2 0:2 / /cg ro - cgroup2 none rw\n"
        files["/cg/hugetlb.2MB.max"] = "4194304\n"
        files["/cg/hugetlb.2MB.current"] = "0\n"
        let probe = FakeMachine.with(files)
        func obstacle(_ byteCount: Int) -> String? {
            PagePlan(
                byteCount: byteCount, node: nil, isShared: false, isOneOfMany: false, probe: probe
            ).obstacle(to: .huge2M)
        }
        #expect(obstacle(4 << 20) == nil)
        #expect(
            obstacle(5 << 20)
                == "2 MiB pages: 6291456 bytes are needed, and /cg/hugetlb.2MB.max leaves 4194304")
    }
}
