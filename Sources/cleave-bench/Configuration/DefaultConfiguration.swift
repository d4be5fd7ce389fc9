import CCleaveDefaults
import CleaveHost
import CleaveProgramSupport
import Glibc

/// A configuration that runs when none is named.
struct DefaultConfiguration {
    let relativePath: String
    /// The file as it was when the program was built.
    let builtIn: [UInt8]

    /// - Parameter file: what the build embedded of it.
    private init(relativePath: String, _ file: cleave_file) {
        self.relativePath = relativePath
        builtIn = Array(UnsafeBufferPointer(start: file.bytes, count: file.byte_count))
    }

    /// What `run` runs.
    static let bench = DefaultConfiguration(
        relativePath: "configs/bench/default.yaml", cleave_defaults_bench())

    /// What `compare-methods` runs.
    static let methods = DefaultConfiguration(
        relativePath: "configs/bench/methods.yaml", cleave_defaults_methods())

    /// What `scale` runs.
    static let scale = DefaultConfiguration(
        relativePath: "configs/bench/scale.yaml", cleave_defaults_scale())

    /// What `latency` runs.
    static let latency = DefaultConfiguration(
        relativePath: "configs/bench/latency.yaml", cleave_defaults_latency())

    /// What `profile` runs.
    static let profile = DefaultConfiguration(
        relativePath: "configs/profile/default.yaml", cleave_defaults_profile())

    /// A path that leads from the current directory, or from a folder above the program: the
    /// project's, or `share/cleave` of an installation.
    /// - Parameter program: the program's absolute path.
    func find(program: String? = programPath()) -> String? {
        if access(relativePath, R_OK) == 0 { return relativePath }
        var folder = program ?? ""
        while let slash = folder.lastIndex(of: "/") {
            folder = String(folder[..<slash])
            for path in ["\(folder)/\(relativePath)", "\(folder)/share/cleave/\(relativePath)"]
            where PathText.withBytes(path, { access($0, R_OK) }) == 0 { return path }
        }
        return nil
    }

    /// Reads the file, or the built-in bytes with a warning: captures are not built in.
    func read() throws(Failure) -> (BenchConfiguration, warnings: [String]) {
        if let path = find() { return (try ConfigurationReader.read(path: path), []) }
        let warning =
            "\(relativePath) is neither in the current directory nor above the program: "
            + "running generated traffic only."
        return (try readBuiltIn(), [warning])
    }

    func readBuiltIn() throws(Failure) -> BenchConfiguration {
        try ConfigurationReader.parse(
            builtIn, file: "built-in \(relativePath)", directory: "", leavesOutCaptures: true)
    }

    /// The absolute path of this program.
    static func programPath() -> String? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &bytes, bytes.count)
        guard count > 0 else { return nil }
        return PathText.text(Array(bytes[..<count]))
    }
}
