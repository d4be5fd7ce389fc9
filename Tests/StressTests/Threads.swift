// Threads of a stress test: bounded by rounds, never by time, and willing to share one CPU.
import CleaveHost
import CleaveRings

/// A value that one thread at a time uses although many can reach it.
final class Held<Value: ~Copyable>: @unchecked Sendable {
    // SAFETY: each test gives a holder to one thread, and reads it after joining that thread.
    let pointer: UnsafeMutablePointer<Value>

    init(_ value: consuming Value) {
        pointer = .allocate(capacity: 1)
        pointer.initialize(to: value)
    }

    deinit {
        pointer.deinitialize(count: 1)
        pointer.deallocate()
    }
}

/// Words that all threads of a test share.
final class SharedWords: @unchecked Sendable {
    // SAFETY: the memory is reached through shared words only.
    private let memory: UnsafeMutableRawPointer

    init(count: Int) {
        memory = .allocate(byteCount: 8 * count, alignment: CacheLine.byteCount)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: 8 * count)
    }

    deinit { memory.deallocate() }

    subscript(index: Int) -> SharedWord64 { SharedWord64(memory + 8 * index) }
}

/// Waiting that lets others run, and that ends even if nothing ever comes.
struct Patience {
    private var idleRounds = 0
    /// Far beyond any wait of a test that works.
    private static let limit = 20_000_000

    /// - Returns: whether to go on.
    mutating func wait(after progress: Int) -> Bool {
        if progress > 0 {
            idleRounds = 0
            return true
        }
        idleRounds += 1
        if idleRounds & 7 == 7 { PinnedThread.yield() }
        return idleRounds < Self.limit
    }
}

/// Runs each body on a thread of its own and waits for all.
func inThreads(_ bodies: [@Sendable () -> Void]) throws {
    let threads = try bodies.enumerated().map {
        try PinnedThread(name: "stress\($0.offset)", cpu: nil, $0.element)
    }
    for thread in threads { thread.join() }
}
