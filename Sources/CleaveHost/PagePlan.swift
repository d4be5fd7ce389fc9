// Which kinds of page to try, in which order, and how to say why the best one is not used.

import Glibc

/// The kind of page that backs an arena.
public enum PageKind: String, Sendable {
    /// Reserved 1 GiB pages.
    case huge1G
    /// Reserved 2 MiB pages.
    case huge2M
    /// Base pages that the kernel merges into 2 MiB pages.
    case transparent
    /// The kernel's base pages.
    case small

    /// Mappings of this kind are whole multiples of this, and aligned to it.
    var granularity: Int {
        switch self {
        case .huge1G: 1 << 30
        case .huge2M, .transparent: 1 << 21
        case .small: PageKind.basePageByteCount
        }
    }

    /// Logarithm of the page size, for the mapping calls; 0 for base pages.
    var pageShift: Int32 {
        switch self {
        case .huge1G: 30
        case .huge2M: 21
        case .transparent, .small: 0
        }
    }

    /// Bytes of one page as the kernel places it: base pages also for `.transparent`.
    var pageByteCount: Int { pageShift == 0 ? PageKind.basePageByteCount : 1 << Int(pageShift) }

    var isReserved: Bool { pageShift != 0 }

    /// As in "got ...".
    var words: String {
        switch self {
        case .huge1G: "1 GiB pages"
        case .huge2M: "2 MiB pages"
        case .transparent: "transparent huge pages"
        case .small: "small pages"
        }
    }

    static let basePageByteCount = Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// Which kind of page an arena asks for.
public enum PagePreference: Sendable {
    /// The best there is: 1 GiB pages for requests of at least 1 GiB where enough are free,
    /// then 2 MiB pages, then transparent huge pages, then small ones.
    case automatic
    /// Base pages, and no merging.
    case small
    /// 2 MiB pages, then transparent, then small ones.
    case huge2M
    /// 1 GiB pages, then as `huge2M`.
    case huge1G
}

/// The decisions behind an arena, apart from the calls that carry them out.
struct PagePlan {
    let byteCount: Int
    let node: Int?
    let isShared: Bool
    /// Whether `node` is one of several, and so has less memory than the machine.
    let isOneOfMany: Bool
    let probe: HostProbe

    /// Kinds to try, best first.
    func candidates(for preference: PagePreference) -> [PageKind] {
        switch preference {
        case .small: [.small]
        case .huge2M: [.huge2M, .transparent, .small]
        case .huge1G: [.huge1G, .huge2M, .transparent, .small]
        case .automatic:
            byteCount >= 1 << 30 && obstacle(to: .huge1G) == nil
                ? [.huge1G, .huge2M, .transparent, .small]
                : [.huge2M, .transparent, .small]
        }
    }

    /// Why pages of `kind` are not worth trying; nil when they are.
    func obstacle(to kind: PageKind) -> String? {
        switch kind {
        case .small: nil
        case .transparent: transparentObstacle()
        case .huge2M, .huge1G: reservedObstacle(kind)
        }
    }

    /// Bytes that `kind` takes for this request: a whole number of pages.
    func mappedByteCount(_ kind: PageKind) -> Int {
        (byteCount + kind.granularity - 1) / kind.granularity * kind.granularity
    }

    /// Why the machine cannot give this much of its ordinary memory; nil when it can. Checked
    /// beforehand, because touching more than there is invokes the out-of-memory killer.
    func memoryObstacle(_ kind: PageKind) -> String? {
        let needed = mappedByteCount(kind)
        if let obstacle = ResourceLimits.current(probe: probe).memoryObstacle(needed) {
            return obstacle
        }
        if let free = probe.kibibyteField("MemAvailable", in: "/proc/meminfo"), needed > free {
            return "\(needed) bytes are asked for and \(free) are available"
        }
        guard let node, isOneOfMany else { return nil }
        let path = "/sys/devices/system/node/node\(node)/meminfo"
        guard let free = probe.kibibyteField("MemFree", in: path) else { return nil }
        let reclaimable = probe.kibibyteField("FilePages", in: path) ?? 0
        if needed <= free + reclaimable { return nil }
        return "\(needed) bytes are asked for and node \(node) has \(free + reclaimable)"
    }

    private func reservedObstacle(_ kind: PageKind) -> String? {
        let needed = mappedByteCount(kind) / kind.granularity
        let pool = HugePagePool(kind: kind, probe: probe)
        guard pool.exists else { return "this kernel has no \(kind.words)" }
        if pool.available < needed {
            let missing = needed - pool.available
            let usual = kind == .huge2M ? HugePagePool.usualCount : 0
            let target = pool.total + max(usual, missing)
            return "\(kind.words): \(needed) needed, \(pool.available) free "
                + "(\(pool.advice(total: target)))"
        }
        let limits = ResourceLimits.current(probe: probe)
        if let obstacle = limits.hugePageObstacle(mappedByteCount(kind), of: kind) {
            return obstacle
        }
        guard let node, let free = pool.free(onNode: node) else { return nil }
        if free + pool.overcommit >= needed { return nil }
        return "\(kind.words): \(needed) needed on node \(node), \(free) free there "
            + "(write a larger number to \(pool.nodePath(node))/nr_hugepages)"
    }

    private func transparentObstacle() -> String? {
        let file = isShared ? "shmem_enabled" : "enabled"
        let path = "/sys/kernel/mm/transparent_hugepage/\(file)"
        guard let mode = TransparentHugePages.mode(probe.line(path)) else {
            return "this kernel has no transparent huge pages"
        }
        return mode == "never" || mode == "deny" ? "\(path) is set to \(mode)" : nil
    }
}

/// The kernel's pool of reserved huge pages of one size.
struct HugePagePool {
    /// Pages to reserve where some are missing: 1 GiB, in pages of 2 MiB. One number, so that all
    /// advice of one run is the same, whatever each piece of memory needs by itself.
    static let usualCount = 512

    let kind: PageKind
    private let probe: HostProbe
    private let directory: String

    init(kind: PageKind, probe: HostProbe) {
        self.kind = kind
        self.probe = probe
        directory = "hugepages-\(kind.granularity / 1024)kB"
    }

    /// Whether the kernel knows pages of this size.
    var exists: Bool { count("nr_hugepages") != nil }
    /// Pages in the pool.
    var total: Int { count("nr_hugepages") ?? 0 }
    /// Unused pages in the pool; some may be reserved already.
    var free: Int { count("free_hugepages") ?? 0 }
    /// Pages that the kernel would still make on demand.
    var overcommit: Int {
        max(0, (count("nr_overcommit_hugepages") ?? 0) - (count("surplus_hugepages") ?? 0))
    }
    /// Pages a new mapping can have.
    var available: Int { max(0, free - (count("resv_hugepages") ?? 0)) + overcommit }

    /// Free pages on one node; nil where the kernel does not tell.
    func free(onNode node: Int) -> Int? { probe.number("\(nodePath(node))/free_hugepages") }

    func nodePath(_ node: Int) -> String {
        "/sys/devices/system/node/node\(node)/hugepages/\(directory)"
    }

    /// How to get a pool of `total` pages.
    func advice(total: Int) -> String {
        kind == .huge2M
            ? "sysctl vm.nr_hugepages=\(total)"
            : "write \(total) to /sys/kernel/mm/hugepages/\(directory)/nr_hugepages, or boot with "
                + "hugepagesz=1G hugepages=\(total)"
    }

    private func count(_ file: String) -> Int? {
        probe.number("/sys/kernel/mm/hugepages/\(directory)/\(file)")
    }
}

enum TransparentHugePages {
    /// The chosen word of a line such as `always [madvise] never`.
    static func mode(_ line: String?) -> String? {
        guard let line, let open = line.firstIndex(of: "["), let close = line.firstIndex(of: "]"),
            open < close
        else { return nil }
        return String(line[line.index(after: open)..<close])
    }

    /// Bytes that huge pages back now, of the mapping that starts at `base`; nil when unknown.
    static func coveredByteCount(base: UInt, probe: HostProbe) -> Int? {
        guard let text = probe.readText("/proc/self/smaps"),
            let mapping = entry("\(String(base, radix: 16))-", of: text)
        else { return nil }
        for line in mapping.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ")
            guard words.count >= 2 else { continue }
            if words[0] == "AnonHugePages:" || words[0] == "ShmemPmdMapped:",
                let kibibytes = Int(words[1]), kibibytes > 0
            {
                return kibibytes * 1024
            }
        }
        return 0
    }

    /// The lines from the one that starts with `start` to the one before VmFlags. Searched as
    /// bytes: a process with thousands of mappings has a megabyte of text, of which only a few
    /// lines are wanted.
    private static func entry(_ start: String, of text: String) -> String? {
        text.withCString { whole -> String? in
            var first = UnsafePointer<CChar>?(whole)
            if strncmp(whole, start, start.utf8.count) != 0 {
                first = strstr(whole, "\n\(start)").map { UnsafePointer<CChar>($0 + 1) }
            }
            guard let first, let last = strstr(first, "\nVmFlags:") else { return nil }
            // SAFETY: both are found in `whole`, which lasts for this closure.
            let bytes = UnsafeRawBufferPointer(
                start: first, count: UnsafePointer(last) - first)
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
