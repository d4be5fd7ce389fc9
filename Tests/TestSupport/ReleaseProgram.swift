// Programs of the release build, which these tests judge: a debug build retains, allocates and
// calls through witnesses where release code does not.
import Foundation

public struct ReleaseProgram {
    public struct Problem: Error, CustomStringConvertible {
        public let description: String
        public init(description: String) { self.description = description }
    }

    /// The top of the project.
    public static let root = (0..<3).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
        url.deletingLastPathComponent()
    }

    public let path: String

    /// - Parameter build: the folder of the build it belongs to.
    /// - Throws: if it has not been built; `make test` builds it before it runs the tests.
    public init(_ name: String, build: String = ".build") throws {
        let program = "\(build)/release/\(name)"
        path = Self.root.appendingPathComponent(program).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            let command =
                switch (name, build) {
                case ("cleave-bench", _): "make build"
                case (_, ".build"): "make probe"
                default: "make plain-probe"
                }
            throw Problem(description: "\(program) is missing: run `\(command)` first")
        }
    }

    /// Whether it was built with static probes, which needs a header that may have been missing.
    public func hasProbes() throws -> Bool {
        try Self.output("readelf", ["-SW", path]).contains(".note.stapsdt")
    }

    /// Output of a program on the search path, or at an absolute path.
    public static func output(_ command: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [command] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Problem(
                description: "\(command) \(arguments.joined(separator: " ")) ended with "
                    + "\(process.terminationStatus)")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
