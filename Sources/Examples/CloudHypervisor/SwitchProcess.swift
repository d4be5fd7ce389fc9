import Foundation

/// Why a container gets no interface.
public struct NetworkFailure: Error, CustomStringConvertible {
    public let description: String
}

/// `cleave-vhost`, as a process of its own: what guests send is read there, not in the runtime, and
/// under a filter of system calls. It ends with this object.
public final class SwitchProcess: @unchecked Sendable {
    // SAFETY: `process` is set once in `init`, and Foundation's may be used from any thread.

    /// The sockets of its ports; each is one container's at a time.
    public let sockets: [String]
    private let process = Process()

    /// Starts the program, and returns when all ports listen.
    /// - Parameters:
    ///   - program: the path of `cleave-vhost`.
    ///   - folder: of the sockets; only the runtime's user may enter it. At most 90 bytes.
    ///   - portCount: how many containers there can be at once, 1 to 128.
    ///   - queuePairs: of each interface.
    ///   - mtu: offered to the guests, in bytes.
    /// - Throws: what the program says if it does not start.
    public init(
        program: String, folder: String, portCount: Int, queuePairs: Int = 1, mtu: Int = 1500
    ) throws {
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        sockets = (0..<portCount).map { "\(folder)/port\($0).sock" }
        let (output, errors) = (Pipe(), "\(folder)/cleave-vhost.log")
        _ = FileManager.default.createFile(atPath: errors, contents: nil)
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments =
            sockets.flatMap {
                ["--port", "type=vhost-user,path=\($0),queues=\(queuePairs),mtu=\(mtu)"]
            } + ["--log-format", "json"]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = FileHandle(forWritingAtPath: errors)
        try process.run()
        // The line comes when every port listens; the end of the file if it never will.
        let line = output.fileHandleForReading.availableData
        guard line == Data("ready\n".utf8) else {
            process.waitUntilExit()
            let words = (try? String(contentsOfFile: errors, encoding: .utf8)) ?? ""
            throw NetworkFailure(description: "\(program) does not start: \(words)")
        }
    }

    deinit { stop() }

    public var isRunning: Bool { process.isRunning }

    /// Ends the program, which first takes what waits in the guests' rings; at most two seconds.
    public func stop() {
        if !process.isRunning { return }
        process.terminate()
        process.waitUntilExit()
    }
}
