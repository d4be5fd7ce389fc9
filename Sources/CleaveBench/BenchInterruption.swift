import CleaveHost
import CleaveVirtioNet

/// A benchmark that was asked to end: what it had done by then. Everything in flight was delivered
/// before this was made.
public struct BenchInterruption: Sendable, CustomStringConvertible {
    /// Number of the signal.
    public let signal: Int32
    /// Steps done and steps in all, over the whole benchmark.
    public let done: Int
    public let total: Int
    /// The counters of each case that carried packets, over all its RQs.
    public let counters: [(name: String, counters: RxCounters)]

    /// Nil unless a signal was received.
    init?(done: Int, total: Int, _ testbeds: [Testbed]) {
        guard let signal = StopSignal.received else { return nil }
        self.signal = signal
        self.done = done
        self.total = total
        counters = testbeds.map {
            ($0.benchCase.displayName, $0.engine.counters)
        }.filter { $0.1.packets + $0.1.droppedTotal > 0 }
    }

    /// One line.
    public var description: String {
        let name = StopSignal.name(signal)
        return done == 0
            ? "interrupted by \(name) before anything was measured"
            : "interrupted by \(name) after \(done) of \(total) steps, drained"
    }
}
