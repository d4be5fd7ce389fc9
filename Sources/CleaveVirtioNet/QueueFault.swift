// control path

/// How a driver broke its virtqueue. A broken queue stays stopped until it is set up again: once
/// the ring was wrong, its position means nothing.
@frozen
public enum QueueFault: UInt8, Sendable, CaseIterable {
    case none
    /// `avail.idx` moved by more than the queue size, or backwards.
    case availJump
    /// A head in the available ring is not below the queue size.
    case head
    /// A `next` is not below the table's size.
    case next
    /// A chain visits more descriptors than there are.
    case loop
    /// INDIRECT without the feature, inside an indirect table, or together with NEXT.
    case indirect
    /// The length of an indirect table is 0, no multiple of 16, or above 16 x queue size.
    case indirectLength
    /// A device-readable descriptor in a receive chain, a writable one in a transmit chain.
    case direction
    /// A buffer or table is not inside guest memory, or its end wraps around.
    case range
    /// 64 buffers in a row were too small for a virtio-net header.
    case undersizedBuffers
    /// A packed buffer id is not below the queue size.
    case id
    /// A packed list runs on into descriptors that the driver did not make available, again and
    /// again.
    case unfinishedList
    /// A head (split) or buffer id (packed) was offered again before it was used.
    case duplicateHead
    /// A chain holds more than 2^32 bytes.
    case overflow

    /// The name in reports; some are older than the case's name.
    public var name: String {
        self == .undersizedBuffers ? "tinyBuffers" : String(describing: self)
    }
}
