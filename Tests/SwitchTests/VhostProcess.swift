import CCleaveHost
import CCleaveTestSupport
import CleaveHost
import CleaveTestSupport
import Foundation
import Testing

/// `cleave-vhost` as a process, of the release build, or of the debug build if there is no other.
///
/// `CLEAVE_TEST_LOADER` may hold the words of a dynamic loader to start it by, so that it runs on
/// another libc than the tests.
final class VhostProcess {
    let folder: String
    /// Words before the program's own: a command that becomes the program.
    var wrapper: [String] = []
    /// On top of this process's own environment.
    var environment: [String: String] = [:]
    /// What its standard input is; nil for nothing to read.
    var input: Int32?
    let executable: String
    /// 0: none runs.
    private(set) var identifier: Int32 = 0
    private var output = FileHandle.nullDevice

    init() throws {
        let builds = ["release", "debug"].map {
            ReleaseProgram.root.appendingPathComponent(".build/\($0)/cleave-vhost").path
        }
        executable = try #require(
            builds.first { FileManager.default.isExecutableFile(atPath: $0) },
            "cleave-vhost is missing: build it first")
        var template = Array("/tmp/cleave-process.XXXXXX".utf8CString)
        folder = String(cString: try #require(mkdtemp(&template)))
    }

    deinit {
        kill()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// Arguments for vhost-user ports of these names, each at the socket of its name.
    func ports(_ names: String...) -> [String] {
        names.flatMap { ["--port", "type=vhost-user,path=\(path($0)),name=\($0)"] }
    }

    /// Starts it.
    func launch(_ arguments: [String]) throws {
        let loader = ProcessInfo.processInfo.environment["CLEAVE_TEST_LOADER"] ?? ""
        let words =
            ["/usr/bin/env"] + wrapper + loader.split(separator: " ").map(String.init)
            + [executable] + arguments
        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
            .map { "\($0)=\($1)" }
        let errors = open(path("errors"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        let nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)
        let pipe = Pipe()
        defer {
            close(errors)
            close(nothing)
            try? pipe.fileHandleForWriting.close()
        }
        let (cWords, cVariables) = (CStrings(words), CStrings(variables))
        let result = cleave_test_spawn(
            cWords.pointers, cVariables.pointers, input ?? nothing,
            pipe.fileHandleForWriting.fileDescriptor, errors)
        if result < 0 {
            throw HostError("posix_spawn", code: -result, words.joined(separator: " "))
        }
        identifier = result
        output = pipe.fileHandleForReading
    }

    /// Words for C, ended by nil.
    private final class CStrings {
        // SAFETY: memory of this object's own until it ends.
        let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
        private let count: Int

        init(_ words: [String]) {
            count = words.count
            pointers = .allocate(capacity: count + 1)
            for (index, word) in words.enumerated() {
                (pointers + index).initialize(to: strdup(word))
            }
            (pointers + count).initialize(to: nil)
        }

        deinit {
            for index in 0..<count { free(pointers[index]) }
            pointers.deallocate()
        }
    }

    /// Starts it, and waits until its ports listen.
    func start(_ arguments: [String]) throws {
        try launch(arguments)
        try awaitReady()
    }

    func awaitReady() throws {
        try #require(isReady(), "it says \(errors)")
    }

    /// Waits until its ports listen, or it has ended.
    /// - Returns: whether they do.
    func isReady() -> Bool { output.availableData == Data("ready\n".utf8) }

    /// What it has said on standard error.
    var errors: String { (try? String(contentsOfFile: path("errors"), encoding: .utf8)) ?? "" }

    /// Kills it without a word.
    func kill() {
        if identifier == 0 { return }
        Glibc.kill(identifier, SIGKILL)
        _ = awaitEnd()
    }

    /// Asks it to end.
    /// - Returns: its exit code, or the signal that ended it, negated.
    func end() -> Int32 {
        if identifier != 0 { Glibc.kill(identifier, SIGTERM) }
        return awaitEnd()
    }

    func awaitEnd() -> Int32 {
        if identifier == 0 { return 0 }
        defer { identifier = 0 }
        return cleave_test_await(identifier)
    }

    /// Threads of the process, and their names.
    var threads: [(identifier: Int32, name: String)] {
        let folder = "/proc/\(identifier)/task"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.compactMap { Int32($0) }.sorted().map {
            ($0, field("\(folder)/\($0)/comm", nil) ?? "")
        }
    }

    /// A field of the status of each of its threads, such as `Seccomp`.
    func statuses(_ name: String) -> [String] {
        threads.compactMap { field("/proc/\(identifier)/task/\($0.identifier)/status", name) }
    }

    private func field(_ path: String, _ name: String?) -> String? {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
        guard let name else { return text.trimmingCharacters(in: .whitespacesAndNewlines) }
        let line = text.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        return line.map {
            $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces)
        }
    }

    /// Waits for what takes a moment, for a time that only a fault needs.
    static func waitUntil(_ condition: () -> Bool) -> Bool {
        let end = SystemClock.monotonic + 20_000_000_000
        while !condition() {
            if SystemClock.monotonic > end { return false }
            usleep(2000)
        }
        return true
    }
}

extension LocalGuest {
    /// Connects, again and again while somebody else is thought to be there, or nobody listens.
    func connectPatiently(_ path: String, bases: [UInt16]? = nil) throws {
        for _ in 0..<200 {
            do { return try connect(path, bases: bases) } catch {
                vanish()
                usleep(10_000)
            }
        }
        try connect(path, bases: bases)
    }
}
