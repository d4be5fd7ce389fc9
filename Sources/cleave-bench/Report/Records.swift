// What several schemas have in common, as far as the page shows it. Keys that older files lack are
// optional; other keys are passed over.

/// Median and ends of the passes. A figure that was no number is null in the file.
struct SpreadRecord: Decodable {
    var median: Double?
    var min: Double?
    var max: Double?

    var value: Double { median ?? .nan }

    /// `38.2–41.0`; empty where there was one pass.
    var range: String {
        guard let min, let max, min != max else { return "" }
        return "\(Numbers.cycles(min))–\(Numbers.cycles(max))"
    }
}

/// A command line: a list of arguments, or one string.
struct CommandRecord: Decodable {
    let text: String

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let whole = try? container.decode(String.self) {
            text = whole
            return
        }
        text = try container.decode([String].self).map(Self.quoted).joined(separator: " ")
    }

    /// As a shell would have to read it.
    private static func quoted(_ argument: String) -> String {
        let isPlain = argument.allSatisfy {
            $0.isLetter || $0.isNumber || "_-+=:,./@%".contains($0)
        }
        if isPlain && !argument.isEmpty { return argument }
        return "'" + argument.replacing("'", with: #"'\''"#) + "'"
    }
}

/// A size in bytes, or the name of a mix or capture.
struct PacketRecord: Decodable {
    /// `64 B`, `imix`.
    let text: String

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let bytes = try? container.decode(Int.self) {
            text = "\(bytes) B"
        } else {
            text = try container.decode(String.self)
        }
    }
}

/// What a file says of its machine.
struct MachineRecord: Decodable {
    struct Caches: Decodable {
        var l1Data: Int?
        var l2: Int?
        var l3: Int?
    }

    struct Pages: Decodable {
        var total: Int
        var free: Int
    }

    var cpuModel: String?
    var architecture: String?
    var cpusAllowed: [Int]?
    var smtActive: Bool?
    var cacheBytes: Caches?
    var kernel: String?
    var memoryBytes: Int?
    var numaNodes: Int?
    var hugePages2M: Pages?
    var hugePages1G: Pages?
    var transparentHugePages: String?
    var governor: String?
    var virtualised: Bool?
    var hypervisor: String?
    var tscHertz: Double?
    var invariantTSC: Bool?
    var compiler: String?

    /// What tells one machine from another.
    var identity: String { "\(cpuModel ?? "unknown CPU"), \(kernel ?? "unknown kernel")" }

    var facts: [(name: String, text: String)] {
        [
            ("cpu", Self.joined(processor)), ("memory", Self.joined(memory)),
            ("system", Self.joined(system)), ("built by", compiler ?? ""),
        ].filter { !$0.1.isEmpty }
    }

    private static func joined(_ parts: [String?]) -> String {
        parts.compactMap(\.self).joined(separator: ", ")
    }

    private var processor: [String?] {
        let caches = [
            ("L1d", cacheBytes?.l1Data), ("L2", cacheBytes?.l2), ("L3", cacheBytes?.l3),
        ].map { name, size in size.map { "\(name) \(Numbers.bytes($0))" } }
        return [
            cpuModel, architecture,
            cpusAllowed.map { "CPUs " + $0.map(String.init).joined(separator: " ") },
            smtActive.map { "SMT \($0 ? "on" : "off")" },
        ] + caches
    }

    private var memory: [String?] {
        func pages(_ record: Pages?, _ size: String) -> String? {
            record.map { "huge pages of \(size) free: \($0.free)/\($0.total)" }
        }
        return [
            memoryBytes.map(Numbers.bytes),
            numaNodes.map { $0 == 1 ? "1 NUMA node" : "\($0) NUMA nodes" },
            pages(hugePages2M, "2 MiB"), pages(hugePages1G, "1 GiB"),
            transparentHugePages.map { "transparent: \($0)" },
        ]
    }

    private var system: [String?] {
        let host = hypervisor.map { " (\($0))" } ?? ""
        return [
            kernel, governor.map { "governor \($0)" },
            tscHertz.map { "TSC \(Numbers.fixed($0 / 1e9, 3)) GHz" },
            invariantTSC == false ? "TSC not invariant" : nil,
            virtualised == true ? "virtual machine\(host)" : nil,
        ]
    }
}
