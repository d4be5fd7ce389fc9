import CleaveEngine
import CleaveHost
import CleavePorts
import Glibc
import Testing

@testable import CleaveSwitch

/// A switch whose control thread does what a test says.
final class ControlledSwitch: @unchecked Sendable {
    // SAFETY: the switch is its control thread's from `init` to `end`, and the test's after that;
    // the rest is guarded by the lock.
    private let joined: Switch
    private let lock = Lock()
    private var errands: [@Sendable (Switch) -> Void] = []
    private var isOver = false
    private var said: [String] = []
    private var thread: PinnedThread?

    init(
        _ ports: [any Port], wires: [(String, String)] = [], threads: Int = 1,
        idle: IdlePolicy = .park
    ) throws {
        var configuration = SwitchConfiguration()
        configuration.idle = idle
        configuration.wires = wires
        configuration.threads = [Int?](repeating: nil, count: threads)
        let log = Log()
        joined = try Switch(configuration, ports: ports) { log.add($0.description) }
        log.owner = self
        try joined.open()
        thread = try PinnedThread(name: "control", cpu: nil) { [self] in
            joined.serve {
                let (waiting, isOver) = lock.withLock {
                    defer { errands = [] }
                    return (errands, self.isOver)
                }
                for errand in waiting { errand(joined) }
                return isOver
            }
        }
    }

    /// What the switch says, for its owner.
    private final class Log {
        weak var owner: ControlledSwitch?
        func add(_ line: String) {
            guard let owner else { return }
            owner.lock.withLock { owner.said.append(line) }
        }
    }

    var lines: [String] { lock.withLock { said } }

    /// Has the control thread do something, and waits for it.
    func perform<Value: Sendable>(_ body: @escaping @Sendable (Switch) -> Value) -> Value? {
        let box = Box<Value>()
        lock.withLock { errands.append { box.set(body($0)) } }
        let end = SystemClock.monotonic + 30_000_000_000
        while box.value == nil && SystemClock.monotonic < end { usleep(500) }
        #expect(box.value != nil, "the control thread answers")
        return box.value
    }

    private final class Box<Value: Sendable>: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var content: Value?
        func set(_ value: Value) { lock.withLock { content = value } }
        var value: Value? { lock.withLock { content } }
    }

    /// - Returns: why not, or nil.
    func capture(_ request: CaptureRequest, _ reader: CaptureReader) -> String? {
        let socket = reader.far
        let refusal: String?? = perform { joined -> String? in
            do { try joined.startCapture(request, to: socket) } catch { return "\(error)" }
            return nil
        }
        reader.handOver()
        return refusal ?? "no answer"
    }

    /// Lets frames come in at a port's queues.
    func give(_ frames: [[[UInt8]]], to port: ScriptedPort) {
        let carrier = Carrier(port: port, frames: frames)
        _ = perform { joined -> Bool in
            joined.whileHeld(by: carrier.port) {
                for (queue, frames) in zip(carrier.port.scripted, carrier.frames) {
                    queue.waiting += frames
                }
            }
            return true
        }
    }

    private struct Carrier: @unchecked Sendable {
        // SAFETY: the control thread changes the port while the switch's threads are held.
        let port: ScriptedPort
        let frames: [[[UInt8]]]
    }

    /// Waits until as many packets have come back to the queues that they came from.
    func await(_ port: ScriptedPort, completed: Int) {
        let carrier = Carrier(port: port, frames: [])
        let end = SystemClock.monotonic + 30_000_000_000
        var done = 0
        while done < completed && SystemClock.monotonic < end {
            done =
                perform { joined in
                    var count = 0
                    joined.whileHeld(by: carrier.port) {
                        count = carrier.port.scripted.reduce(0) { $0 + $1.completed }
                    }
                    return count
                } ?? 0
        }
        #expect(done >= completed)
    }

    func end() {
        lock.withLock { isOver = true }
        thread?.join()
        joined.close()
    }

    var counters: [String: PortCounters] {
        Dictionary(uniqueKeysWithValues: joined.counters.map { ($0.name, $0.counters) })
    }

    deinit { lock.withLock { isOver = true } }
}
