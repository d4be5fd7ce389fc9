import Foundation
import Glibc
import Testing

/// The root of the package, relative to this file.
let packageRoot: String = {
    var url = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { url.deleteLastPathComponent() }
    return url.path
}()

/// A folder of its own for one test, with a short path, as sockets want it; removed with the value.
final class Scratch {
    let path: String

    init() throws {
        path = "/tmp/cleave-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Programs that tests run.
enum Tool {
    /// The built program, which is beside the test bundle.
    static let vhost: String = {
        let bundle = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        return bundle.deletingLastPathComponent().appendingPathComponent("cleave-vhost").path
    }()

    static func find(_ name: String) -> String? {
        let folders = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return folders.split(separator: ":").map { "\($0)/\(name)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// Runs a program to its end; what it says goes through files, so that no pipe is ever full.
    static func run(
        _ path: String, _ arguments: [String], input: String = "", directory: String = packageRoot,
        environment: [String: String] = [:]
    ) throws -> (code: Int32, output: String, error: String) {
        let scratch = try Scratch()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        for name in ["in", "out", "err"] {
            try (name == "in" ? input : "").write(
                toFile: "\(scratch.path)/\(name)", atomically: false, encoding: .utf8)
        }
        process.standardInput = FileHandle(forReadingAtPath: scratch.path + "/in")
        process.standardOutput = FileHandle(forWritingAtPath: scratch.path + "/out")
        process.standardError = FileHandle(forWritingAtPath: scratch.path + "/err")
        try process.run()
        process.waitUntilExit()
        return (
            process.terminationStatus,
            try String(contentsOfFile: scratch.path + "/out", encoding: .utf8),
            try String(contentsOfFile: scratch.path + "/err", encoding: .utf8)
        )
    }
}

/// Waits for a condition, with a generous end.
func eventually(
    _ what: String, seconds: Double = 60, _ isSo: () throws -> Bool
) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !isSo() {
        if ContinuousClock.now > end { throw Late(description: "not within \(seconds) s: \(what)") }
        usleep(20_000)
    }
}

struct Late: Error, CustomStringConvertible { let description: String }

/// A program that goes on until it is told to end.
final class Background {
    let process = Process()
    private let folder: String
    private let name: String

    init(
        _ path: String, _ arguments: [String], in scratch: Scratch, name: String
    ) throws {
        (folder, self.name) = (scratch.path, name)
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
        for stream in ["out", "err"] {
            _ = FileManager.default.createFile(atPath: "\(folder)/\(name).\(stream)", contents: nil)
        }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(forWritingAtPath: "\(folder)/\(name).out")
        process.standardError = FileHandle(forWritingAtPath: "\(folder)/\(name).err")
        try process.run()
    }

    deinit { stop() }

    func stop() {
        if process.isRunning { process.terminate() }
        process.waitUntilExit()
    }

    var output: String { text("out") }
    var error: String { text("err") }

    private func text(_ stream: String) -> String {
        (try? String(contentsOfFile: "\(folder)/\(name).\(stream)", encoding: .utf8)) ?? ""
    }
}

/// `cleave-vhost` with two wired generators: so many packets go each way, then all is at rest.
final class RunningSwitch {
    static let count = 30_000
    let scratch: Scratch
    let program: Background
    var control: [String] { ["--control", scratch.path + "/c.sock"] }

    /// - Parameter endless: packets never end.
    init(_ options: [String] = [], endless: Bool = false) throws {
        let scratch = try Scratch()
        let end = endless ? "" : ",count=\(Self.count)"
        program = try Background(
            Tool.vhost,
            [
                "--port", "type=generator,name=a,traffic=64/udp4,rate=50k" + end,
                "--port", "type=generator,name=b,traffic=1500/tcp4,rate=20k,queues=2,flows=8" + end,
                "--wire", "a,b", "--control", scratch.path + "/c.sock",
            ] + options, in: scratch, name: "switch")
        self.scratch = scratch
        let program = program
        try eventually("ready") {
            if !program.process.isRunning { throw Late(description: program.error) }
            return program.output.contains("ready\n")
        }
    }

    func run(_ arguments: [String]) throws -> (code: Int32, output: String, error: String) {
        try Tool.run(Tool.vhost, arguments + control)
    }

    /// Waits until nothing moves any more.
    func awaitRest() throws {
        var before = ""
        try eventually("all is at rest") {
            let line = try run(["top", "--once", "--json", "--interval", "0.3"]).output
            let activity = try #require(
                JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            let ports = try #require(activity["ports"] as? [[String: Any]])
            let counts = ports.map { port in
                ["in", "out"].map { direction in
                    ((port[direction] as? [String: Any])?["packets"] as? NSNumber)?.intValue ?? 0
                }
            }
            let now = "\(counts)"
            defer { before = now }
            return now == before && counts.allSatisfy { $0[0] >= Self.count }
        }
    }
}
