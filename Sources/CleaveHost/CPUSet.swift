import CCleaveHost
import Glibc

/// A set of logical CPU numbers in the kernel's CPU-list syntax, such as `0-3,8`.
public struct CPUSet: Sendable, Hashable, CustomStringConvertible {
    /// Members in ascending order.
    public let cpus: [Int]

    /// Largest CPU number that is accepted; larger numbers are typing errors.
    public static let maximumCPU = 8191

    /// The set of `cpus`; order and repetition do not matter.
    public init(_ cpus: some Sequence<Int>) {
        self.cpus = Set(cpus).sorted()
    }

    /// Parses a CPU list: numbers and ascending ranges, separated by commas.
    ///
    /// Blanks around the list are ignored; an empty list is an empty set, as in the kernel's files.
    /// - Throws: what was expected and at which position, counted from 1.
    public init(parsing text: String) throws(HostError) {
        var parser = CPUListParser(text)
        self.init(try parser.parse())
    }

    /// The numbers of a CPU list in the order in which they are written, repetitions included:
    /// `3,0-1` is 3, 0, 1. For plans, where the order decides which RQ gets which CPU.
    public static func numbers(parsing text: String) throws(HostError) -> [Int] {
        var parser = CPUListParser(text)
        return try parser.parse()
    }

    public var isEmpty: Bool { cpus.isEmpty }

    public func contains(_ cpu: Int) -> Bool { cpus.contains(cpu) }

    /// The shortest CPU list, such as `0-3,8`; `none` for the empty set.
    public var description: String {
        if cpus.isEmpty { return "none" }
        var parts: [String] = []
        var first = cpus[0]
        var last = first
        for cpu in cpus.dropFirst() {
            if cpu == last + 1 {
                last = cpu
                continue
            }
            parts.append(first == last ? "\(first)" : "\(first)-\(last)")
            first = cpu
            last = cpu
        }
        parts.append(first == last ? "\(first)" : "\(first)-\(last)")
        return parts.joined(separator: ",")
    }

    /// CPUs this process may use: the affinity mask it was started with.
    ///
    /// Read once, at first use (pinning reads it too), because pinning the main thread narrows the
    /// mask that the kernel reports while every other CPU remains usable.
    public static func allowed() -> CPUSet { initiallyAllowed }

    /// CPUs that the kernel has online.
    public static func online() -> CPUSet { online(probe: .live) }

    /// CPUs the calling thread may run on now.
    public static func ofCurrentThread() -> CPUSet { affinity(ofThread: 0) ?? allowed() }

    static func online(probe: HostProbe) -> CPUSet {
        list(at: "/sys/devices/system/cpu/online", probe: probe)
            ?? CPUSet(0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    }

    /// CPUs that the machine has, online or not.
    static func present(probe: HostProbe) -> CPUSet {
        list(at: "/sys/devices/system/cpu/present", probe: probe) ?? online(probe: probe)
    }

    private static let initiallyAllowed = affinity(ofThread: getpid()) ?? online()

    private static func list(at path: String, probe: HostProbe) -> CPUSet? {
        guard let line = probe.line(path), let set = try? CPUSet(parsing: line) else { return nil }
        return set.isEmpty ? nil : set
    }

    private static func affinity(ofThread id: pid_t) -> CPUSet? {
        var bits = [UInt8](repeating: 0, count: (maximumCPU + 1) / 8)
        guard cleave_affinity_get(id, &bits, bits.count) == 0 else { return nil }
        return CPUSet((0...maximumCPU).filter { bits[$0 / 8] & (1 << ($0 % 8)) != 0 })
    }
}

/// Recursive descent over the bytes of a CPU list.
private struct CPUListParser {
    private let text: String
    private let bytes: [UInt8]
    private var offset = 0

    init(_ text: String) {
        self.text = text
        bytes = Array(text.utf8)
    }

    mutating func parse() throws(HostError) -> [Int] {
        var cpus: [Int] = []
        skipBlanks()
        if offset == bytes.count { return [] }
        while true {
            let start = offset
            let first = try number()
            var last = first
            if next == UInt8(ascii: "-") {
                offset += 1
                last = try number()
                if last < first { throw failure("range \(first)-\(last) descends", at: start) }
            }
            cpus.append(contentsOf: first...last)
            if next != UInt8(ascii: ",") { break }
            offset += 1
        }
        skipBlanks()
        if offset < bytes.count { throw failure("expected ',' or the end", at: offset) }
        return cpus
    }

    private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 32 || (9...13).contains(byte) { offset += 1 }
    }

    private mutating func number() throws(HostError) -> Int {
        let start = offset
        var value = 0
        while let byte = next, (48...57).contains(byte) {
            value = value * 10 + Int(byte - 48)
            if value > CPUSet.maximumCPU {
                throw failure("CPU number exceeds \(CPUSet.maximumCPU)", at: start)
            }
            offset += 1
        }
        if offset == start { throw failure("expected a CPU number", at: start) }
        return value
    }

    private func failure(_ what: String, at offset: Int) -> HostError {
        HostError("CPU list \"\(text)\"", "\(what) at position \(offset + 1)")
    }
}
