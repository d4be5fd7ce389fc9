import CleaveBench
import CleaveProgramSupport
import CleaveVirtioNet
import Glibc

/// A configuration that runs when none is named.
struct DefaultConfiguration {
    let relativePath: String
    /// Used if the file is not found, as when the program was copied out of its build directory:
    /// the same without recorded traffic.
    let builtIn: String

    /// What `run` runs.
    static let bench = DefaultConfiguration(
        relativePath: "configs/bench/default.yaml",
        builtIn: """
            defaults: {ring: split, buffers: mergeable}
            cases:
              - packet: [64, 1500]
                method: [whole, d]
                report: [usedLength, netHeader]
              - packet: [4096, 9000, imix]
                method: [whole, d]
                report: usedLength
            """)

    /// What `compare-methods` runs.
    static let methods = DefaultConfiguration(
        relativePath: "configs/bench/methods.yaml",
        builtIn: """
            repeats: 7
            defaults: {ring: [split, packed], buffers: mergeable}
            cases:
              - packet: [64, 256, 1024, 1500, 4096, 8192, 9000, imix]
                method: [\(RxMethod.Kind.allCases.map(\.rawValue).joined(separator: ", "))]
                report: [usedLength, netHeader]
            """)

    /// What `scale` runs.
    static let scale = DefaultConfiguration(
        relativePath: "configs/bench/scale.yaml",
        builtIn: """
            flows: 256
            defaults: {method: d, report: usedLength, slots: 512}
            cases:
              - packet: 64
                rqs: [1, 2, 4, 8]
                sharing: [all, private]
            """)

    /// What `profile` runs.
    static let profile = DefaultConfiguration(
        relativePath: "configs/profile/default.yaml",
        builtIn: """
            defaults: {method: d, report: usedLength}
            cases: [{packet: [1500, 64]}]
            """)

    /// A path that leads from the current directory, or from a folder above the program.
    /// - Parameter program: the program's absolute path.
    func find(program: String? = programPath()) -> String? {
        if access(relativePath, R_OK) == 0 { return relativePath }
        var folder = program ?? ""
        while let slash = folder.lastIndex(of: "/") {
            folder = String(folder[..<slash])
            let path = "\(folder)/\(relativePath)"
            if access(path, R_OK) == 0 { return path }
        }
        return nil
    }

    /// Reads the file, or the built-in text with a warning.
    func read() throws(Failure) -> (BenchConfiguration, warnings: [String]) {
        if let path = find() { return (try ConfigurationReader.read(path: path), []) }
        let warning =
            "\(relativePath) is neither in the current directory nor above the program: "
            + "running generated traffic only."
        return (
            try ConfigurationReader.parse(
                Array(builtIn.utf8), file: "built-in configuration", directory: ""),
            [warning]
        )
    }

    private static func programPath() -> String? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &bytes, bytes.count)
        guard count > 0 else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
