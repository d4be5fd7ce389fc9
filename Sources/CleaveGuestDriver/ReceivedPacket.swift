import CleaveVirtioNet

/// One contiguous part of a received packet.
@frozen
public struct ReceivedSegment: BitwiseCopyable, Sendable {
    // SAFETY: guest memory that the driver owns until it posts the buffer again.
    public nonisolated(unsafe) var pointer: UnsafeRawPointer
    public var byteCount: UInt32
}

/// One packet as harvested. Valid until the burst is finished.
@frozen
public struct ReceivedPacket: BitwiseCopyable, Sendable {
    /// The virtio-net header: in the packet's first buffer, or in its slot (`usedLength`).
    // SAFETY: guest memory that the driver owns until it posts the buffer or retires the slot.
    public nonisolated(unsafe) var netHeader: UnsafeRawPointer
    /// Packet headers, where they lie apart; meaningful if `headerLength` is not 0.
    // SAFETY: guest memory that the driver owns until it retires the slot.
    public nonisolated(unsafe) var headers: UnsafeRawPointer
    /// Bytes of headers in the slot; 0 = the packet lies whole in its pieces.
    public var headerLength: UInt16
    /// Buffers the packet took.
    public var bufferCount: UInt16
    /// Number of its first piece in the burst.
    public var firstPiece: UInt16
    /// Pieces of data: payload if split, else the packet.
    public var pieceCount: UInt16
    /// Bytes in all pieces.
    public var dataByteCount: UInt32

    /// Whether headers and payload lie apart.
    @inlinable public var isSplit: Bool { headerLength != 0 }
    /// Bytes of the packet.
    @inlinable public var byteCount: Int { Int(headerLength) &+ Int(dataByteCount) }
}

/// What a driver found wrong in what the device told it; `none` with a device that works.
@frozen
public enum DriverFault: UInt8, Sendable, CaseIterable {
    case none
    /// A used id is not a posted chain.
    case usedID
    /// A used length is larger than the buffer, smaller than what must be in it, or names a slot in
    /// a further buffer of a packet.
    case usedLength
    /// `num_buffers` is 0, or more than were made visible together.
    case numBuffers
    /// A slot index or header length is outside the header queue.
    case slot

    /// The name in reports.
    public var name: String { String(describing: self) }
}
