// What the operating system lets this process have: control groups (cgroup v1 and v2, every level
// up to the root) and resource limits. Read from files, so that a test can imitate any of them.

/// Limits that bound what a benchmark measures, or whether it can run; nil for those that are not
/// set.
package struct ResourceLimits: Sendable, Equatable {
    /// A number, and the file or limit that it comes from.
    package struct Limit<Value: Sendable & Equatable>: Sendable, Equatable {
        package var value: Value
        package var source: String
    }

    /// CPUs' worth of time: the least of all levels.
    package var cpuQuota: Limit<Double>?
    /// CPUs of the control group; the affinity mask never has others.
    package var cpuset: Limit<CPUSet>?
    /// Bytes of memory: the level that leaves least.
    package var memory: Limit<Int>?
    /// What that level leaves, memory that the kernel can take back included.
    package var memoryLeft: Int?
    /// Bytes of huge pages that the control groups leave, by size.
    package var huge2MLeft: Limit<Int>?
    package var huge1GLeft: Limit<Int>?
    /// RLIMIT_MEMLOCK.
    package var lockedMemory: Int?
    /// RLIMIT_AS.
    package var addressSpace: Int?
    /// What RLIMIT_AS leaves.
    package var addressSpaceLeft: Int?

    package static func current() -> ResourceLimits { current(probe: .live) }

    static func current(probe: HostProbe) -> ResourceLimits {
        let groups = ControlGroups(probe: probe)
        var limits = ResourceLimits()
        limits.cpuQuota = groups.cpuQuota
        limits.cpuset = groups.cpuset
        if let (limit, left) = groups.memory {
            (limits.memory, limits.memoryLeft) = (limit, left)
        }
        limits.huge2MLeft = groups.hugePagesLeft("2MB")
        limits.huge1GLeft = groups.hugePagesLeft("1GB")
        limits.lockedMemory = limit("Max locked memory", probe)
        limits.addressSpace = limit("Max address space", probe)
        if let space = limits.addressSpace,
            let used = probe.kibibyteField("VmSize", in: "/proc/self/status")
        {
            limits.addressSpaceLeft = max(0, space - used)
        }
        return limits
    }

    /// The soft limit of a line of /proc/self/limits; nil for unlimited.
    private static func limit(_ name: String, _ probe: HostProbe) -> Int? {
        let lines = (probe.readText("/proc/self/limits") ?? "").split(separator: "\n")
        guard let line = lines.first(where: { $0.hasPrefix(name) }) else { return nil }
        return line.dropFirst(name.count).split(separator: " ").first.flatMap { Int($0) }
    }

    /// Why `byteCount` bytes of ordinary memory cannot be had within the limits; nil if they can.
    /// Beyond its control group's limit, the kernel would end the process as soon as it writes.
    func memoryObstacle(_ byteCount: Int) -> String? {
        if let memory, let memoryLeft, byteCount > memoryLeft {
            return "\(byteCount) bytes are asked for, and \(memory.source) (\(memory.value)) "
                + "leaves \(memoryLeft)"
        }
        guard let addressSpace, let addressSpaceLeft, byteCount > addressSpaceLeft else {
            return nil
        }
        return "\(byteCount) bytes are asked for, and RLIMIT_AS (ulimit -v, \(addressSpace)) "
            + "leaves \(addressSpaceLeft)"
    }

    /// The same for reserved huge pages: beyond such a limit, the first write to a page is SIGBUS.
    func hugePageObstacle(_ byteCount: Int, of kind: PageKind) -> String? {
        let left = kind == .huge1G ? huge1GLeft : huge2MLeft
        guard let left, byteCount > left.value else { return nil }
        return "\(kind.words): \(byteCount) bytes are needed, and \(left.source) leaves "
            + "\(left.value)"
    }

    /// How often, and for how many seconds, the quotas of all levels have stopped this process's
    /// group by now; nil without a quota.
    package static func stops() -> Stops? { stops(probe: .live) }

    static func stops(probe: HostProbe) -> Stops? { ControlGroups(probe: probe).stops }

    package struct Stops: Sendable, Equatable {
        package var count = 0
        package var seconds = 0.0

        package static func - (left: Self, right: Self) -> Self {
            Self(count: left.count - right.count, seconds: left.seconds - right.seconds)
        }
    }
}

/// The control groups that this process is in.
private struct ControlGroups {
    let probe: HostProbe
    /// Folders of the unified hierarchy, this process's group first, then up to the root.
    private let unified: [String]
    /// The same of the older hierarchies, by controller.
    private let older: [String: [String]]

    init(probe: HostProbe) {
        self.probe = probe
        let mounts = (probe.readText("/proc/self/mountinfo") ?? "").split(separator: "\n")
            .compactMap(Mount.init)
        var unified: [String] = []
        var older: [String: [String]] = [:]
        for line in (probe.readText("/proc/self/cgroup") ?? "").split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let path = String(fields[2])
            if fields[1].isEmpty {
                unified = mounts.first { $0.kind == "cgroup2" }?.levels(of: path) ?? []
            }
            for controller in fields[1].split(separator: ",") {
                let mount = mounts.first {
                    $0.kind == "cgroup" && $0.options.contains(controller)
                }
                older[String(controller)] = mount?.levels(of: path) ?? []
            }
        }
        (self.unified, self.older) = (unified, older)
    }

    /// A mounted hierarchy.
    private struct Mount {
        let root: String
        let point: String
        let kind: Substring
        let options: [Substring]

        /// A line of mountinfo: `36 35 98:0 ROOT POINT options [tags] - KIND source options`.
        init?(_ line: Substring) {
            let words = line.split(separator: " ")
            guard let dash = words.firstIndex(of: "-"), dash >= 6, words.count > dash + 1,
                words[dash + 1].hasPrefix("cgroup")
            else { return nil }
            (root, point) = (Self.plain(words[3]), Self.plain(words[4]))
            kind = words[dash + 1]
            options = words.count > dash + 3 ? words[dash + 3].split(separator: ",") : []
        }

        /// With blanks, which are written as `\040`.
        private static func plain(_ word: Substring) -> String {
            var text = ""
            var rest = word
            // By hand: what replaces text in the standard library brings the regular expressions
            // into libcleave, two megabytes.
            while let backslash = rest.firstIndex(of: "\\") {
                text += rest[..<backslash]
                rest = rest[backslash...]
                let isBlank = rest.hasPrefix("\\040")
                text += isBlank ? " " : "\\"
                rest = rest.dropFirst(isBlank ? 4 : 1)
            }
            return text + rest
        }

        /// The folder of the group `path`, and those above it up to the mount. A container sees a
        /// part of the hierarchy: the mount's root is then a beginning of the path, or the path
        /// lies outside (`/..`), and the mount is all there is to see.
        func levels(of path: String) -> [String] {
            var inner = Substring(path)
            if root != "/" {
                inner = path == root || path.hasPrefix(root + "/") ? path.dropFirst(root.count) : ""
            }
            if inner.hasPrefix("/..") { inner = "" }
            var names = inner.split(separator: "/")
            var levels: [String] = []
            while true {
                levels.append(
                    ([Substring(point == "/" ? "" : point)] + names)
                        .joined(separator: "/"))
                if names.isEmpty { return levels }
                names.removeLast()
            }
        }
    }

    private func levels(_ controller: String) -> [String] { older[controller] ?? [] }

    /// Quota and period of each level that has a quota.
    private var quotas: [(folder: String, cpus: Double, source: String)] {
        let current = unified.compactMap { folder -> (String, Double, String)? in
            let words = (probe.line("\(folder)/cpu.max") ?? "").split(separator: " ")
            guard words.count == 2, let quota = Int(words[0]), let period = Int(words[1]),
                period > 0
            else { return nil }
            return (
                folder, Double(quota) / Double(period),
                "\(folder)/cpu.max \(quota) of \(period) us"
            )
        }
        return current
            + levels("cpu").compactMap { folder in
                guard let quota = probe.number("\(folder)/cpu.cfs_quota_us"), quota > 0,
                    let period = probe.number("\(folder)/cpu.cfs_period_us"), period > 0
                else { return nil }
                return (
                    folder, Double(quota) / Double(period),
                    "\(folder)/cpu.cfs_quota_us \(quota) of \(period) us"
                )
            }
    }

    var cpuQuota: ResourceLimits.Limit<Double>? {
        quotas.min { $0.cpus < $1.cpus }.map { .init(value: $0.cpus, source: $0.source) }
    }

    var stops: ResourceLimits.Stops? {
        let folders = quotas.map(\.folder)
        if folders.isEmpty { return nil }
        var stops = ResourceLimits.Stops()
        for folder in folders {
            stops.count += statistic("nr_throttled", in: "\(folder)/cpu.stat") ?? 0
            // Microseconds in the unified hierarchy, nanoseconds in the older one.
            let micro = statistic("throttled_usec", in: "\(folder)/cpu.stat")
            let nano = statistic("throttled_time", in: "\(folder)/cpu.stat")
            stops.seconds +=
                (micro.map { Double($0) / 1e6 }) ?? (nano.map { Double($0) / 1e9 }) ?? 0
        }
        return stops
    }

    var cpuset: ResourceLimits.Limit<CPUSet>? {
        let files =
            unified.map { "\($0)/cpuset.cpus.effective" }
            + levels("cpuset").flatMap { ["\($0)/cpuset.effective_cpus", "\($0)/cpuset.cpus"] }
        for file in files {
            guard let text = probe.line(file), !text.isEmpty,
                let set = try? CPUSet(parsing: text)
            else { continue }
            return .init(value: set, source: file)
        }
        return nil
    }

    /// The level that leaves least, and how much that is.
    var memory: (limit: ResourceLimits.Limit<Int>, left: Int)? {
        let current = unified.map { ($0, "memory.max", "memory.current", "") }
        let older = levels("memory").map {
            ($0, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        }
        let all = (current + older).compactMap {
            folder, file, usage, prefix
                -> (limit: ResourceLimits.Limit<Int>, left: Int)? in
            guard let limit = Self.bytes(probe.line("\(folder)/\(file)")) else { return nil }
            let used = probe.number("\(folder)/\(usage)") ?? 0
            // Pages of files go when others are asked for.
            let reclaimable = ["inactive_file", "active_file"].reduce(0) {
                $0 + (statistic(prefix + $1, in: "\(folder)/memory.stat") ?? 0)
            }
            return (
                .init(value: limit, source: "\(folder)/\(file)"),
                max(0, limit - max(0, used - reclaimable))
            )
        }
        return all.min { $0.left < $1.left }
    }

    /// - Parameter size: as the kernel's files name it.
    func hugePagesLeft(_ size: String) -> ResourceLimits.Limit<Int>? {
        let current = unified.flatMap { folder in
            ["hugetlb.\(size)", "hugetlb.\(size).rsvd"].map {
                ("\(folder)/\($0).max", "\(folder)/\($0).current")
            }
        }
        let older = levels("hugetlb").map {
            ("\($0)/hugetlb.\(size).limit_in_bytes", "\($0)/hugetlb.\(size).usage_in_bytes")
        }
        let all = (current + older).compactMap { file, usage -> ResourceLimits.Limit<Int>? in
            Self.bytes(probe.line(file)).map {
                .init(value: max(0, $0 - (probe.number(usage) ?? 0)), source: file)
            }
        }
        return all.min { $0.value < $1.value }
    }

    /// Nil for `max`, and for the number near 2^63 that the older hierarchies write in its place.
    private static func bytes(_ text: String?) -> Int? {
        text.flatMap { Int($0) }.flatMap { $0 < 1 << 60 ? $0 : nil }
    }

    /// The value of a `name value` line.
    private func statistic(_ name: String, in path: String) -> Int? {
        for line in (probe.readText(path) ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == name { return Int(words[1]) }
        }
        return nil
    }
}
