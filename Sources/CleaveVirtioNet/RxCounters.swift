// control path
//
/// What one RQ has done since it was made: a copy, taken while its worker may be running.
public struct RxCounters: Sendable, Equatable {
    /// Packets delivered.
    public var packets: UInt64 = 0
    /// Bytes of delivered packets, headers included, net headers not.
    public var bytes: UInt64 = 0
    /// Packets delivered with their headers in a place of their own.
    public var split: UInt64 = 0
    /// Packets delivered in a header slot entirely (`SplitPolicy.placesTinyPackets`); not in
    /// `split`.
    public var tiny: UInt64 = 0
    /// Buffers used.
    public var buffers: UInt64 = 0
    /// Header slots claimed; all of them were reported.
    public var slots: UInt64 = 0
    /// Bursts that delivered or dropped at least one packet.
    public var bursts: UInt64 = 0
    /// Polls that found nothing to do.
    public var emptyPolls: UInt64 = 0
    /// Times the driver had asked to be called.
    public var calls: UInt64 = 0
    /// Of those, calls that reached nobody: the other end of the descriptor is gone.
    public var lostCalls: UInt64 = 0
    /// Compare-and-swaps of slot claims that another RQ won.
    public var claimRetries: UInt64 = 0
    /// Buffers given back with length 0 because they could not hold a net header.
    public var undersizedBuffers: UInt64 = 0
    /// Descriptors of length 0 that were passed over in buffers with room elsewhere; an empty
    /// buffer counts in `undersizedBuffers`.
    public var emptyDescriptors: UInt64 = 0
    /// Small buffers that method C gave back empty within a packet, since they did not hold the
    /// rest of its payload.
    public var skippedBuffers: UInt64 = 0
    /// Packets of method C whose headers went to a large buffer, as the next one was not small.
    public var misfits: UInt64 = 0
    /// Why the driver's virtqueue is broken, or `.none`.
    public var fault = QueueFault.none
    /// Packets placed whole although the queue splits, by reason; reasons that occurred.
    public var fallback: [FallbackReason: UInt64] = [:]
    /// Packets not delivered, by reason; reasons that occurred.
    public var dropped: [DropReason: UInt64] = [:]

    public init() {}

    /// All packets not delivered.
    public var droppedTotal: UInt64 { dropped.values.reduce(0, +) }
    /// All packets placed whole although the queue splits.
    public var fallbackTotal: UInt64 { fallback.values.reduce(0, +) }

    init(_ block: RxCounterBlock) {
        packets = block.read(.packets)
        bytes = block.read(.bytes)
        split = block.read(.split)
        tiny = block.read(.tiny)
        buffers = block.read(.buffers)
        slots = block.read(.slots)
        bursts = block.read(.bursts)
        emptyPolls = block.read(.emptyPolls)
        calls = block.read(.calls)
        lostCalls = block.read(.lostCalls)
        claimRetries = block.read(.claimRetries)
        undersizedBuffers = block.read(.undersizedBuffers)
        emptyDescriptors = block.read(.emptyDescriptors)
        skippedBuffers = block.read(.skippedBuffers)
        misfits = block.read(.misfits)
        fault = block.fault
        for reason in FallbackReason.allCases {
            let count = block.readFallback(reason)
            if count > 0 { fallback[reason] = count }
        }
        for reason in DropReason.allCases {
            let count = block.readDrop(reason)
            if count > 0 { dropped[reason] = count }
        }
    }

    /// Sums, and the first fault found: a device's counters from its RQs'.
    public static func + (left: RxCounters, right: RxCounters) -> RxCounters {
        var sum = left
        sum.packets += right.packets
        sum.bytes += right.bytes
        sum.split += right.split
        sum.tiny += right.tiny
        sum.buffers += right.buffers
        sum.slots += right.slots
        sum.bursts += right.bursts
        sum.emptyPolls += right.emptyPolls
        sum.calls += right.calls
        sum.lostCalls += right.lostCalls
        sum.claimRetries += right.claimRetries
        sum.undersizedBuffers += right.undersizedBuffers
        sum.emptyDescriptors += right.emptyDescriptors
        sum.skippedBuffers += right.skippedBuffers
        sum.misfits += right.misfits
        if sum.fault == .none { sum.fault = right.fault }
        sum.fallback.merge(right.fallback, uniquingKeysWith: +)
        sum.dropped.merge(right.dropped, uniquingKeysWith: +)
        return sum
    }
}
