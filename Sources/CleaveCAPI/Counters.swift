import CCleave
import CleaveVirtioNet

extension cleave_counters {
    /// - Parameter cycles: of an engine's thread.
    init(_ counters: RxCounters, cycles: (busy: UInt64, idle: UInt64) = (0, 0)) {
        self.init()
        fault = UInt32(counters.fault.rawValue)
        packets = counters.packets
        bytes = counters.bytes
        split = counters.split
        tiny = counters.tiny
        buffers = counters.buffers
        slots = counters.slots
        bursts = counters.bursts
        empty_turns = counters.emptyPolls
        calls = counters.calls
        claim_retries = counters.claimRetries
        tiny_buffers = counters.undersizedBuffers
        skipped_buffers = counters.skippedBuffers
        misfits = counters.misfits
        withUnsafeMutableBytes(of: &fallback) { put(counters.fallback, into: $0) }
        withUnsafeMutableBytes(of: &dropped) { put(counters.dropped, into: $0) }
        busy_cycles = cycles.busy
        idle_cycles = cycles.idle
        lost_calls = counters.lostCalls
        empty_descriptors = counters.emptyDescriptors
    }
}

extension cleave_txq_counters {
    init(_ counters: TxCounters) {
        self.init()
        fault = UInt32(counters.fault.rawValue)
        packets = counters.packets
        bytes = counters.bytes
        bursts = counters.bursts
        empty_turns = counters.emptyPolls
        calls = counters.calls
        withUnsafeMutableBytes(of: &dropped) { put(counters.dropped, into: $0) }
        lost_calls = counters.lostCalls
    }
}

/// Stores counts by reason into an array of 64-bit words, as far as it reaches.
private func put<Reason: RawRepresentable<UInt8>>(
    _ counts: [Reason: UInt64], into bytes: UnsafeMutableRawBufferPointer
) {
    for (reason, count) in counts where 8 * Int(reason.rawValue) + 8 <= bytes.count {
        bytes.storeBytes(of: count, toByteOffset: 8 * Int(reason.rawValue), as: UInt64.self)
    }
}
