// control path

/// Why a packet was placed whole although its queue splits: the first check that it failed.
@frozen
public enum FallbackReason: UInt8, CaseIterable, Sendable {
    /// No header slot was free.
    case noSlot
    /// The headers (and what goes in front of them) are longer than the slot, descriptor or buffer
    /// they were to go to.
    case headerTooLong
    /// The parser found no split point, for any `NoSplitReason`: not TCP or UDP over IPv4 or IPv6,
    /// a fragment, an unknown extension header... Or, where the used length names the slot, more
    /// than 65535 bytes of payload.
    case notSplittable
    /// No longer than the queue's split threshold.
    case belowThreshold
    /// The driver broke the header queue: it moved the tail to where it cannot be, or returned a
    /// slot that there is not.
    case headerQueueBroken
    /// All of the buffer's room is in one descriptor: there is none for payload (method A).
    case noPayloadDescriptor

    /// The name in reports.
    public var name: String { String(describing: self) }
}

/// Why a packet was not delivered. Reasons of the packet come first, then those of the buffers that
/// it met (from `bufferTooSmall` on).
@frozen
public enum DropReason: UInt8, CaseIterable, Sendable {
    /// Shorter than an Ethernet header.
    case runt
    /// Longer than the largest packet a virtio-net device may deliver.
    case tooLong
    /// In more source segments than a packet may have.
    case tooManySegments
    /// It needs a checksum or segmentation that was not negotiated.
    case offloadNotNegotiated
    /// It comes with offloads that cannot be: a checksum outside the packet, an unknown type.
    case badOffload
    /// Buffers are not mergeable and the next one is too small.
    case bufferTooSmall
    /// It would need more buffers than the queue can hold.
    case tooManyBuffers
    /// The driver had posted too few buffers (only where packets do not wait for them).
    case noBuffer
    /// The driver broke the virtqueue.
    case queueBroken

    /// The name in reports.
    public var name: String { String(describing: self) }
}
