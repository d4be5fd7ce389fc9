import CCleaveHost
import CleaveControl
import CleaveHost
import CleavePorts
import CleaveSwitch
import Glibc
import Testing

/// Two generators, wired to each other, that send all the time; and a control socket.
final class ControlRig {
    let joined: Switch
    let server: ControlServer
    let folder: String
    let path: String
    private let thread: PinnedThread
    private let stop = Flag()

    final class Flag: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var isSet = false
        var value: Bool { lock.withLock { isSet } }
        func set() { lock.withLock { isSet = true } }
    }

    /// Carries the switch to its thread, which is alone with it.
    private struct Carrier: @unchecked Sendable {
        // SAFETY: see above.
        let joined: Switch
    }

    init(
        limits: ControlServer.Limits = .init(), commands: [ControlCommand] = [],
        ports: [any Port] = []
    ) throws {
        var template = Array("/tmp/cleave-control.XXXXXX".utf8CString)
        folder = String(cString: try #require(mkdtemp(&template)))
        path = folder + "/control.sock"
        var configuration = SwitchConfiguration()
        var all: [any Port] = []
        for name in ["a", "b"] {
            var generator = GeneratorPortConfiguration(name: name)
            generator.packetsPerSecond = 5_000
            all.append(try GeneratorPort(generator))
        }
        configuration.wires = [("a", "b")]
        if !ports.isEmpty { configuration.wires = [] }
        joined = try Switch(configuration, ports: all + ports) { _ in }
        let level = LevelBox()
        server = try ControlServer(
            path: path, greeting: ControlGreeting(program: "test", version: "1", pid: getpid()),
            commands: StandardCommands.all()
                + [StandardCommands.logLevel(level.access)] + commands,
            requests: joined.requests, limits: limits)
        let counted = server
        joined.programCounters.append { counted.counters }
        try joined.open()
        let (carrier, stop) = (Carrier(joined: joined), stop)
        thread = try PinnedThread(name: "control", cpu: nil) {
            carrier.joined.serve { stop.value }
        }
        do { try server.start(busyCPUs: []) } catch {
            stop.set()
            thread.join()
            throw error
        }
    }

    private final class LevelBox: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var level = "info"
        var access: LogLevelAccess {
            LogLevelAccess(
                names: ["off", "info"], get: { self.lock.withLock { self.level } },
                set: { level in self.lock.withLock { self.level = level } })
        }
    }

    deinit {
        server.stop()
        stop.set()
        thread.join()
        joined.close()
        rmdir(folder)
    }

    /// A counter of the server.
    func count(_ event: ControlEvent) -> UInt64 { server.counters[event.rawValue] ?? 0 }

    /// Packets that have gone out of `b`, and all that was dropped.
    func traffic() throws -> (out: UInt64, dropped: UInt64) {
        let statistics = try #require(
            joined.requests.ask(milliseconds: 60_000) { $0.statistics })
        return (
            statistics.ports[1].outgoing.packets,
            statistics.ports.reduce(0) { $0 + $1.droppedInTotal + $1.droppedOutTotal }
        )
    }

    /// Fails unless packets go on by, and none is dropped.
    func expectTraffic(_ location: SourceLocation = #_sourceLocation) throws {
        let before = try traffic()
        let goesOn = try wait { try traffic().out > before.out + 50 }
        #expect(goesOn, sourceLocation: location)
        #expect(try traffic().dropped == 0, sourceLocation: location)
    }
}

/// Waits until something holds, for as long as only a fault needs.
func wait(until condition: () throws -> Bool) rethrows -> Bool {
    let end = SystemClock.monotonic + 60_000_000_000
    while SystemClock.monotonic < end {
        if try condition() { return true }
        usleep(2_000)
    }
    return false
}

/// A client that says what it likes.
final class RawClient {
    let descriptor: Int32
    private var input: [UInt8] = []

    init(_ path: String) throws {
        descriptor = cleave_unix_connect(path)
        try #require(descriptor >= 0)
    }

    deinit { close(descriptor) }

    /// Sends all of it, unless the server goes.
    /// - Returns: whether all was taken.
    @discardableResult
    func send(_ bytes: [UInt8], descriptors: [Int32] = []) -> Bool {
        var rest = bytes[...]
        var descriptors = descriptors
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                cleave_socket_send(
                    descriptor, $0.baseAddress, $0.count, descriptors, Int32(descriptors.count))
            }
            if count == -EAGAIN {
                guard cleave_socket_wait(descriptor, 1, 60_000) > 0 else { return false }
                continue
            }
            if count < 0 { return false }
            rest = rest.dropFirst(Int(count))
            descriptors = []
        }
        return true
    }

    @discardableResult
    func send(_ text: String) -> Bool { send([UInt8](text.utf8)) }

    /// Sends what is taken now.
    /// - Returns: whether the server is there, and bytes that it took.
    func trySend(_ text: String) -> (isThere: Bool, count: Int) {
        let bytes = [UInt8](text.utf8)
        let count = cleave_socket_send(descriptor, bytes, bytes.count, nil, 0)
        return (count >= 0 || count == -EAGAIN, max(0, Int(count)))
    }

    /// The next line; nil once the server has closed the connection.
    func line() throws -> JSONValue? {
        while true {
            if let end = input.firstIndex(of: UInt8(ascii: "\n")) {
                defer { input.removeFirst(end + 1) }
                return try JSONText.value(Array(input[..<end]))
            }
            try #require(cleave_socket_wait(descriptor, 0, 60_000) > 0, "no line in time")
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            if count < 0 && errno == EAGAIN { continue }
            if count <= 0 { return nil }
            input += bytes[..<count]
        }
    }

    /// Reads to the end.
    func lines() throws -> [JSONValue] {
        var lines: [JSONValue] = []
        while let line = try line() { lines.append(line) }
        return lines
    }
}
