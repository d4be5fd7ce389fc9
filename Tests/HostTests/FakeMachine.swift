import Glibc
import Testing

@testable import CleaveHost

/// Builds probes that answer like machines that are not available.
enum FakeMachine {
    /// The running machine with some files replaced; nil hides a file.
    static func with(_ files: [String: String?], numa: Bool = true) -> HostProbe {
        var probe = HostProbe.live
        let live = probe.readText
        probe.readText = { path in
            if let replaced = files[path] { return replaced }
            return live(path)
        }
        if !numa { probe.isNUMAAvailable = { false } }
        return probe
    }

    /// A pool of huge pages as the kernel's files describe it.
    static func pool(_ size: String, total: Int, free: Int) -> [String: String?] {
        let directory = "/sys/kernel/mm/hugepages/hugepages-\(size)"
        return [
            "\(directory)/nr_hugepages": "\(total)\n",
            "\(directory)/free_hugepages": "\(free)\n",
            "\(directory)/resv_hugepages": "0\n",
            "\(directory)/nr_overcommit_hugepages": "0\n",
            "\(directory)/surplus_hugepages": "0\n",
        ]
    }

    static let noHugePages = pool("2048kB", total: 0, free: 0)
        .merging(pool("1048576kB", total: 0, free: 0)) { $1 }

    static let transparentPath = "/sys/kernel/mm/transparent_hugepage/enabled"
}

/// The error that `body` throws.
func error(of body: () throws -> Void) -> HostError? {
    do {
        try body()
        return nil
    } catch {
        return error as? HostError
    }
}
