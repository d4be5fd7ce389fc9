// Where a file of figures comes from: what every result of these programs carries.
import CleaveHost

/// The command line, as one would type it again.
public var commandLine: String { CommandLine.arguments.joined(separator: " ") }

/// What a reader must know about the machine, by the keys that cleave-bench uses.
public struct Machine: Encodable, Sendable {
    public let cpuModel: String
    public let architecture: String
    public let cpusAllowed: [Int]
    public let kernel: String
    public let memoryBytes: Int
    public let governor: String?
    public let virtualised: Bool
    public let hypervisor: String?
    public let tscHertz: Double
    public let compiler: String

    /// Asks the machine; the first call calibrates the cycle counter.
    public static func current() -> Machine {
        let facts = MachineFacts.current()
        return Machine(
            cpuModel: facts.cpuModel, architecture: facts.architecture,
            cpusAllowed: facts.cpusAllowed.cpus, kernel: facts.kernel,
            memoryBytes: facts.memoryBytes, governor: facts.governor,
            virtualised: facts.virtualised, hypervisor: facts.hypervisor,
            tscHertz: facts.tscHertz, compiler: facts.compiler)
    }
}
