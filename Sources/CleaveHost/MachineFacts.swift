import CCleaveHost
import Glibc

/// Facts about the machine that a reader needs to compare a figure measured on it.
public struct MachineFacts: Sendable {
    /// Data or unified cache sizes of CPU 0 in bytes, nil where unknown.
    public struct CacheSizes: Sendable, Equatable {
        public var l1Data: Int?
        public var l2: Int?
        public var l3: Int?
    }

    /// Reserved huge pages of one size.
    public struct HugePageCount: Sendable, Equatable {
        public var total: Int
        public var free: Int
    }

    public var cpuModel: String
    /// `x86_64` or `arm64`, as the compiler names it.
    public var architecture: String
    public var cpusOnline: CPUSet
    public var cpusAllowed: CPUSet
    /// Whether two logical CPUs share a core; nil where the kernel does not tell.
    public var smtActive: Bool?
    public var cacheSizes: CacheSizes
    /// Name and release, such as `Linux 6.1.0`.
    public var kernel: String
    public var memoryBytes: Int
    public var numaNodes: Int
    /// Whether the kernel moves pages between nodes by itself.
    public var numaBalancing: Bool
    public var hugePages2M: HugePageCount
    public var hugePages1G: HugePageCount
    /// `always`, `madvise` or `never`; nil where the kernel has none.
    public var transparentHugePages: String?
    /// Frequency governor of CPU 0; nil where there is none, as in most virtual machines.
    public var governor: String?
    public var virtualised: Bool
    /// The hypervisor's signature or name, where it gives one.
    public var hypervisor: String?
    /// Counts per second of `CycleClock`.
    public var tscHertz: Double
    public var invariantTSC: Bool
    /// Whether the scheduler weighs sessions instead of threads.
    public var autogroupEnabled: Bool
    /// What the operating system lets this process have.
    package var limits: ResourceLimits
    /// Version of the Swift compiler this was built with, and of its C compiler.
    public var compiler: String

    /// Asks the machine; the first call calibrates `CycleClock`.
    public static func current() -> MachineFacts { current(probe: .live) }

    static func current(probe: HostProbe) -> MachineFacts {
        let (virtualised, hypervisor) = hypervisor(probe: probe)
        return MachineFacts(
            cpuModel: cpuModel(probe: probe),
            architecture: architecture,
            cpusOnline: .online(probe: probe),
            cpusAllowed: .allowed(),
            smtActive: probe.number("/sys/devices/system/cpu/smt/active").map { $0 == 1 },
            cacheSizes: cacheSizes(probe: probe),
            kernel: kernel(probe: probe),
            memoryBytes: probe.kibibyteField("MemTotal", in: "/proc/meminfo") ?? 0,
            numaNodes: NUMATopology.current(probe: probe).nodes.count,
            numaBalancing: (probe.number("/proc/sys/kernel/numa_balancing") ?? 0) != 0,
            hugePages2M: hugePages(.huge2M, probe: probe),
            hugePages1G: hugePages(.huge1G, probe: probe),
            transparentHugePages: TransparentHugePages.mode(
                probe.line("/sys/kernel/mm/transparent_hugepage/enabled")),
            governor: probe.line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtualised: virtualised,
            hypervisor: hypervisor,
            tscHertz: CycleClock.hertz,
            invariantTSC: CycleClock.isInvariant,
            autogroupEnabled: probe.number("/proc/sys/kernel/sched_autogroup_enabled") == 1,
            limits: .current(probe: probe), compiler: compiler)
    }

    private static var architecture: String {
        #if arch(x86_64)
        "x86_64"
        #elseif arch(arm64)
        "arm64"
        #else
        "unknown"
        #endif
    }

    private static var compiler: String {
        #if compiler(>=6.4)
        let swift = "Swift 6.4 or later"
        #elseif compiler(>=6.3)
        let swift = "Swift 6.3"
        #else
        let swift = "Swift 6.2"
        #endif
        return "\(swift), \(String(cString: cleave_compiler()))"
    }

    private static func cpuModel(probe: HostProbe) -> String {
        var text = [CChar](repeating: 0, count: 64)
        if cleave_cpu_brand(&text, text.count) != 0 {
            let brand = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.trimmed
            if !brand.isEmpty { return brand }
        }
        for field in ["model name", "Model", "CPU part"] {
            if let value = colonField(field, in: "/proc/cpuinfo", probe: probe) { return value }
        }
        return "unknown"
    }

    /// Value of a `name : value` line.
    private static func colonField(_ name: String, in path: String, probe: HostProbe) -> String? {
        guard let text = probe.readText(path) else { return nil }
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].trimmed == name { return parts[1].trimmed }
        }
        return nil
    }

    private static func kernel(probe: HostProbe) -> String {
        let name = probe.line("/proc/sys/kernel/ostype") ?? "Linux"
        return "\(name) \(probe.line("/proc/sys/kernel/osrelease") ?? "of unknown release")"
    }

    private static func hugePages(_ kind: PageKind, probe: HostProbe) -> HugePageCount {
        let pool = HugePagePool(kind: kind, probe: probe)
        return HugePageCount(total: pool.total, free: pool.free)
    }

    private static func cacheSizes(probe: HostProbe) -> CacheSizes {
        var sizes = CacheSizes()
        for index in 0..<8 {
            let directory = "/sys/devices/system/cpu/cpu0/cache/index\(index)"
            guard let level = probe.number("\(directory)/level"),
                let type = probe.line("\(directory)/type"), type != "Instruction",
                let size = probe.line("\(directory)/size").flatMap(byteCount(ofCacheSize:))
            else { continue }
            switch level {
            case 1: sizes.l1Data = size
            case 2: sizes.l2 = size
            case 3: sizes.l3 = size
            default: break
            }
        }
        return sizes
    }

    /// Bytes of a size such as `32K` or `1M`.
    static func byteCount(ofCacheSize text: String) -> Int? {
        let factor =
            switch text.last {
            case "K": 1 << 10
            case "M": 1 << 20
            default: 1
            }
        guard let value = Int(factor == 1 ? text[...] : text.dropLast()) else { return nil }
        return value * factor
    }

    private static func hypervisor(probe: HostProbe) -> (Bool, String?) {
        var text = [CChar](repeating: 0, count: 16)
        if cleave_hypervisor(&text, text.count) != 0 {
            let name = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.trimmed
            return (true, name.isEmpty ? nil : name)
        }
        // For processors without such a bit: device tree and Xen name it, firmware may.
        let paths = ["/proc/device-tree/hypervisor/compatible", "/sys/hypervisor/type"]
        for path in paths {
            if let name = probe.line(path), !name.isEmpty { return (true, name) }
        }
        let vendor = probe.line("/sys/class/dmi/id/sys_vendor")
        return vendor == "QEMU" ? (true, vendor) : (false, nil)
    }
}
