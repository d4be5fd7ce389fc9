// Text that does not belong in a repository that others clone.

enum HygieneRules {
    /// Directories that exist on one machine only. Each is written here in two parts, or this
    /// file would be the first to break the rule.
    private static let homes = ["work", "home", "root", "Users", "mnt", "opt", "srv", "builds"]

    static func machinePaths(_ file: SourceText) -> [Finding] {
        file.lines.indices.filter { index in
            homes.contains { home in
                let needle = "/" + home + "/"
                return file.lines[index].ranges(of: needle).contains {
                    startsPath(file.lines[index], at: $0.lowerBound)
                }
            }
        }.map { file.finding($0, "machine-path", "an absolute path of one machine") }
    }

    /// Whether the slash at `index` begins a path rather than continuing one.
    private static func startsPath(_ line: String, at index: String.Index) -> Bool {
        if index == line.startIndex { return true }
        let before = line[line.index(before: index)]
        return !(before.isLetter || before.isNumber || "._-/)}".contains(before))
    }

    /// Hosts that sources and pages may point to. Packages come from the first only.
    static let hosts: Set<String> = [
        "github.com", "www.apache.org", "www.swift.org", "swiftlang.github.io",
        "docs.oasis-open.org", "docs.kernel.org", "www.kernel.org", "datatracker.ietf.org",
        "www.rfc-editor.org", "www.qemu.org", "qemu.readthedocs.io", "doc.dpdk.org",
        "www.tcpdump.org", "www.w3.org", "www.boost.org", "json-schema.org", "prometheus.io",
        // This machine, and addresses that a test refuses.
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "h",
    ]

    static func foreignHosts(_ file: SourceText) -> [Finding] {
        file.lines.indices.filter { file.lines[$0].holds("://") }.flatMap { index in
            file.lines[index].matches(of: /[a-z][a-z+]*:\/\/(?:[^\/\s"@]*@)?([A-Za-z0-9.\-]+)/)
                .filter { !hosts.contains(String($0.1).lowercased()) }
                .map { file.finding(index, "host", "\($0.1) is not in HygieneRules.hosts") }
        }
    }

    static func resolvedVersions(_ tracked: [String]) -> [Finding] {
        tracked.filter { $0 == "Package.resolved" || $0.hasSuffix("/Package.resolved") }.map {
            Finding(path: $0, line: 1, rule: "resolved", message: "is not tracked in a library")
        }
    }
}
