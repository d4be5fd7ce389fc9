import CCleave
import RxPath

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
        empty_turns = counters.emptyTurns
        calls = counters.calls
        claim_retries = counters.claimRetries
        tiny_buffers = counters.tinyBuffers
        skipped_buffers = counters.skippedBuffers
        misfits = counters.misfits
        withUnsafeMutableBytes(of: &fallback) { bytes in
            for (reason, count) in counters.fallback {
                Self.put(count, Int(reason.rawValue), bytes)
            }
        }
        withUnsafeMutableBytes(of: &dropped) { bytes in
            for (reason, count) in counters.dropped {
                Self.put(count, Int(reason.rawValue), bytes)
            }
        }
        busy_cycles = cycles.busy
        idle_cycles = cycles.idle
    }

    /// Stores entry `index` of an array, if it has that many.
    private static func put(_ count: UInt64, _ index: Int, _ bytes: UnsafeMutableRawBufferPointer) {
        guard 8 * index + 8 <= bytes.count else { return }
        bytes.storeBytes(of: count, toByteOffset: 8 * index, as: UInt64.self)
    }
}
