// What all files of results have in common. The properties of a record are the keys of its object
// in JSON, in their order, so a record is the schema. Nil is null there; keys that earlier versions
// did not write are optional, and keys that a version does not know are ignored.
import CleaveEngine
import CleaveHost
import CleaveProfiling

/// A record some of whose keys are left out where they have no value, instead of being null.
public protocol LeavesOutKeys {
    static var leftOut: Set<String> { get }
}

extension ProfileSpread: LeavesOutKeys {
    public static let leftOut: Set<String> = ["q1", "q3"]
}

/// A command line. The programs of Benchmarks write theirs as one string.
public struct CommandRecord: Codable, Sendable {
    public var arguments: [String]

    init(_ arguments: [String]) { self.arguments = arguments }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let line = (try? container.decode(String.self))?.split(separator: " ").map(String.init)
        arguments = try line ?? container.decode([String].self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(arguments)
    }
}

/// A size in bytes, or the name of a mix or capture.
public enum PacketRecord: Codable, Sendable, Hashable {
    case bytes(Int)
    case name(String)

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let bytes = try? container.decode(Int.self) {
            self = .bytes(bytes)
        } else {
            self = .name(try container.decode(String.self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .bytes(let count): try container.encode(count)
        case .name(let name): try container.encode(name)
        }
    }

    /// With the unit of a size.
    public var title: String {
        switch self {
        case .bytes(let count): "\(count) B"
        case .name(let name): name
        }
    }

    /// Without a unit.
    public var name: String {
        switch self {
        case .bytes(let count): "\(count)"
        case .name(let name): name
        }
    }
}

/// An object whose keys are names of things, in an order that a dictionary would lose.
public struct Named<Value: Codable & Sendable>: Codable, Sendable {
    public var pairs: [(name: String, value: Value)]

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    public init(_ pairs: [(String, Value)]) { self.pairs = pairs.map { ($0, $1) } }

    /// In no order: readers look values up by name.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        pairs = try container.allKeys.map {
            ($0.stringValue, try container.decode(Value.self, forKey: $0))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        for (name, value) in pairs { try container.encode(value, forKey: Key(stringValue: name)) }
    }

    public subscript(name: String) -> Value? { pairs.first { $0.name == name }?.value }
}

/// A file's facts about its machine.
public struct MachineRecord: Codable, Sendable {
    public struct Caches: Codable, Sendable {
        public var l1Data: Int?
        public var l2: Int?
        public var l3: Int?
    }

    /// What the operating system lets the program have; nil for what is not limited.
    public struct Limits: Codable, Sendable {
        /// CPUs' worth of time.
        public var cpuQuota: Double?
        public var cpuQuotaSource: String?
        public var cpuset: [Int]?
        public var memoryBytes: Int?
        public var memorySource: String?
        public var memoryLeftBytes: Int?
        public var hugePages2MLeftBytes: Int?
        public var hugePages1GLeftBytes: Int?
        public var lockedBytes: Int?
        public var addressSpaceBytes: Int?

        init(_ limits: ResourceLimits) {
            (cpuQuota, cpuQuotaSource) = (limits.cpuQuota?.value, limits.cpuQuota?.source)
            cpuset = limits.cpuset?.value.cpus
            (memoryBytes, memorySource) = (limits.memory?.value, limits.memory?.source)
            memoryLeftBytes = limits.memoryLeft
            hugePages2MLeftBytes = limits.huge2MLeft?.value
            hugePages1GLeftBytes = limits.huge1GLeft?.value
            (lockedBytes, addressSpaceBytes) = (limits.lockedMemory, limits.addressSpace)
        }
    }

    public struct Pages: Codable, Sendable {
        public var total: Int
        public var free: Int

        init(_ count: MachineFacts.HugePageCount) { (total, free) = (count.total, count.free) }
    }

    public var cpuModel: String?
    public var architecture: String?
    public var cpusOnline: [Int]?
    public var cpusAllowed: [Int]?
    public var smtActive: Bool?
    public var cacheBytes: Caches?
    public var kernel: String?
    public var memoryBytes: Int?
    public var numaNodes: Int?
    public var numaBalancing: Bool?
    public var hugePages2M: Pages?
    public var hugePages1G: Pages?
    public var transparentHugePages: String?
    public var governor: String?
    public var virtualised: Bool?
    public var hypervisor: String?
    public var tscHertz: Double?
    public var invariantTSC: Bool?
    public var autogroupEnabled: Bool?
    public var limits: Limits?
    public var compiler: String?

    public init(_ facts: MachineFacts) {
        cpuModel = facts.cpuModel
        architecture = facts.architecture
        cpusOnline = facts.cpusOnline.cpus
        cpusAllowed = facts.cpusAllowed.cpus
        smtActive = facts.smtActive
        cacheBytes = Caches(
            l1Data: facts.cacheSizes.l1Data, l2: facts.cacheSizes.l2, l3: facts.cacheSizes.l3)
        kernel = facts.kernel
        memoryBytes = facts.memoryBytes
        numaNodes = facts.numaNodes
        numaBalancing = facts.numaBalancing
        hugePages2M = Pages(facts.hugePages2M)
        hugePages1G = Pages(facts.hugePages1G)
        transparentHugePages = facts.transparentHugePages
        governor = facts.governor
        virtualised = facts.virtualised
        hypervisor = facts.hypervisor
        tscHertz = facts.tscHertz
        invariantTSC = facts.invariantTSC
        autogroupEnabled = facts.autogroupEnabled
        limits = Limits(facts.limits)
        compiler = facts.compiler
    }
}

/// Where RQs ran and where their memory lay.
public struct QueuePlanRecord: Codable, Sendable {
    public struct Place: Codable, Sendable {
        public var rq: Int
        public var cpu: Int?
        public var node: Int?
    }

    public struct Memory: Codable, Sendable {
        public var name: String
        public var node: Int?
        /// Pages by node.
        public var pages: Named<Int>?
        public var unknown: Int?
        public var misplaced: Int?
    }

    public var places: [Place]?
    public var memory: [Memory]?

    init?(_ plan: QueuePlan?, _ residence: [PageResidence]) {
        guard let plan else { return nil }
        places = plan.places.enumerated().map {
            Place(rq: $0, cpu: $1.cpu, node: $1.node)
        }
        memory = residence.map { part in
            Memory(
                name: part.name, node: part.node,
                pages: Named(part.pageCounts.sorted { $0.key < $1.key }.map { ("\($0)", $1) }),
                unknown: part.unknownCount, misplaced: part.misplacedCount)
        }
    }
}
