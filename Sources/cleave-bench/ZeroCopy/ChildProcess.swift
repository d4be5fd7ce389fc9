import CleaveHost
import CleaveProgramSupport
import Foundation

/// A program that this one started. It ends with the value, whatever it is doing.
final class ChildProcess {
    /// For errors.
    let name: String
    private let process = Process()
    private let input = Pipe()
    private let outputPipe = Pipe()
    private let errorPipe = Pipe()
    private var output: [UInt8] = []
    private var complaint: [UInt8] = []

    /// - Parameter command: a program, found by PATH, and its arguments.
    init(_ command: [String], name: String) throws(Failure) {
        self.name = name
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.standardInput = input
        process.standardOutput = outputPipe
        process.standardError = errorPipe
        for pipe in [outputPipe, errorPipe] {
            let descriptor = pipe.fileHandleForReading.fileDescriptor
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
        do { try process.run() } catch {
            throw .run("\(name) cannot be started: \(error.localizedDescription)")
        }
    }

    deinit { end() }

    var processID: Int32 { process.processIdentifier }

    /// What it wrote to standard error last, for an error about it.
    var lastWords: String {
        drain()
        let lines = String(decoding: complaint, as: UTF8.self).split(whereSeparator: \.isNewline)
        return lines.last.map(String.init) ?? "it says nothing"
    }

    /// Writes to its standard input. If it has ended, waiting for its answer says so.
    func write(_ text: String) {
        try? input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    }

    /// Waits until it has printed `line`.
    func waitForLine(_ line: String, within seconds: Double) throws(Failure) {
        let isThere = try Self.wait(within: seconds) { () throws(Failure) -> Bool in
            drain()
            let text = String(decoding: output, as: UTF8.self)
            if text.split(whereSeparator: \.isNewline).contains(line[...]) { return true }
            if !process.isRunning { throw .run("\(name) ended early: \(lastWords)") }
            return false
        }
        if !isThere {
            throw .run("\(name) did not say \(line) within \(seconds) s: \(lastWords)")
        }
    }

    /// Waits until all of them have ended, each with success.
    /// - Returns: what each has printed.
    static func finish(
        _ children: [ChildProcess], within seconds: Double
    ) throws(Failure) -> [String] {
        let areDone = try wait(within: seconds) { () throws(Failure) -> Bool in
            var runningCount = 0
            for child in children {
                child.drain()
                if child.process.isRunning {
                    runningCount += 1
                } else if child.process.terminationStatus != 0 {
                    throw .run("\(child.name) failed: \(child.lastWords)")
                }
            }
            return runningCount == 0
        }
        if !areDone {
            let names = children.filter(\.process.isRunning).map(\.name)
            throw .run("not done within \(seconds) s: \(names.joined(separator: ", "))")
        }
        return children.map { child in
            child.drain()
            return String(decoding: child.output, as: UTF8.self)
        }
    }

    /// Runs a command to its end.
    @discardableResult
    static func run(_ command: [String], name: String) throws(Failure) -> String {
        try finish([ChildProcess(command, name: name)], within: 30)[0]
    }

    /// Asks it to end, and makes it end if it does not. A signal gives this program less than two
    /// seconds for all of them.
    func end() {
        guard process.isRunning else { return }
        process.terminate()
        for _ in 0..<100 where process.isRunning { usleep(5_000) }
        if process.isRunning { kill(processID, SIGKILL) }
    }

    /// Asks again and again; false if the time is over.
    private static func wait(
        within seconds: Double, until isDone: () throws(Failure) -> Bool
    ) throws(Failure) -> Bool {
        let end = SystemClock.monotonic + UInt64(seconds * 1e9)
        while try !isDone() {
            if let signal = StopSignal.received {
                throw .run("interrupted by \(StopSignal.name(signal))")
            }
            if SystemClock.monotonic > end { return false }
            // Seldom, so that asking takes nothing from what is measured meanwhile.
            usleep(20_000)
        }
        return true
    }

    private func drain() {
        Self.drain(outputPipe, to: &output)
        Self.drain(errorPipe, to: &complaint)
    }

    private static func drain(_ pipe: Pipe, to bytes: inout [UInt8]) {
        var part = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(pipe.fileHandleForReading.fileDescriptor, &part, part.count)
            if count <= 0 { return }
            bytes += part[..<count]
        }
    }
}
