import CleaveHost
import CleaveRings

/// Carries packets from a submission ring through an RQ to a completion ring.
///
/// The far ends of the rings belong to a port. A completion is the reference that was submitted,
/// marked if its packet was dropped. One thread at a time calls `poll`.
public final class RxWorker: @unchecked Sendable {
    // SAFETY: `poll` is documented to be called from one thread at a time; the state that the
    // pointer refers to is its alone, and everything else is constant.

    private struct State: ~Copyable {
        var submissions: SPSCConsumer<PacketRef>
        var completions: SPSCProducer<PacketRef>
        #if Profiling
        /// Why the last empty poll did nothing.
        var wait = RxWait.packets
        #endif
    }

    public let queue: RxQueue
    private let state: UnsafeMutablePointer<State>
    private let refs: UnsafeMutablePointer<PacketRef>
    private let burst: Int
    private let window: Int

    // control path
    /// - Parameters:
    ///   - queue: the RQ to feed.
    ///   - submissions: packets to deliver.
    ///   - completions: their references once done with; at least as large as `submissions`.
    ///   - arena: for the burst's references; `Self.arenaByteCount` bytes of it.
    public init(
        queue: RxQueue, submissions: consuming SPSCConsumer<PacketRef>,
        completions: consuming SPSCProducer<PacketRef>, in arena: MemoryArena
    ) throws(SetupError) {
        self.queue = queue
        burst = queue.configuration.burst
        window = queue.configuration.burst + RxQueue.maximumRefsPerPacket - 1
        do {
            refs = try arena.allocate(byteCount: Self.arenaByteCount)
                .bindMemory(to: PacketRef.self, capacity: window)
        } catch { throw SetupError("worker memory: \(error)") }
        state = .allocate(capacity: 1)
        state.initialize(to: State(submissions: submissions, completions: completions))
    }

    deinit {
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Bytes that a worker takes from its arena.
    public static var arenaByteCount: Int {
        (BurstLimit.packets + BurstLimit.refsPerPacket)
            * MemoryLayout<PacketRef>.stride
    }

    /// One poll: pull a burst, place it, return its references. Bounded work; never blocks.
    /// - Returns: references returned; 0 when there was nothing to do, or no buffer for it.
    public func poll() -> Int {
        #if Profiling
        if queue.probe.isDue() { return pollMeasured() }
        #endif
        return poll(NoProbe())
    }

    @inline(__always)
    private func poll<Probe: StageProbe>(_ probe: Probe) -> Int {
        let room = state.pointee.completions.reserve(window)
        // Runs of segments need a wider window; one that is cut off stays, and comes first then.
        let isRun =
            state.pointee.submissions.peek(1) > 0
            && state.pointee.submissions[0].flags.contains(.more)
        let wanted = isRun ? window : burst
        let pulled = state.pointee.submissions.copy(into: refs, count: min(wanted, room))
        if pulled == 0 {
            waits(for: room == 0 ? .completions : .packets)
            return 0
        }
        probe.mark(.pull)
        let result = queue.place(refs, pulled, measured: Probe.isOn)
        if result.consumed > 0 {
            _ = state.pointee.completions.push(refs, count: result.consumed)
            state.pointee.submissions.release(result.consumed)
        } else {
            waits(for: .buffers)
        }
        probe.mark(.complete)
        return result.consumed
    }

    @inline(__always)
    private func waits(for wait: RxWait) {
        #if Profiling
        state.pointee.wait = wait
        #endif
    }

    #if Profiling
    @inline(never)
    private func pollMeasured() -> Int {
        let probe = queue.probe
        if probe.isWhole() {
            let before = queue.packetCount
            probe.begin()
            let returned = poll(NoProbe())
            probe.endWhole(packets: queue.packetCount &- before)
            return returned
        }
        probe.begin()
        let returned = poll(probe)
        probe.end()
        return returned
    }

    /// Adds the cycles from a poll that did nothing to the next poll, by the reason.
    public func addWait(cycles: UInt64) {
        queue.probe.addWait(state.pointee.wait.rawValue, cycles)
    }
    #endif
}
