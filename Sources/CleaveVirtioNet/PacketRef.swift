/// Sixteen bytes that name one segment of a packet in host memory.
///
/// A packet is one segment, or a run of consecutive references in which all but the last carry
/// `Flags.more` (a guest's transmit chain, a large GSO frame). A run never wraps out of the
/// order in which it was submitted. The run of a packet with offloads begins with a reference
/// that carries them (`init(context:)`).
///
/// The memory belongs to whoever submitted the reference until the same reference comes back on
/// the completion ring.
@frozen
public struct PacketRef: BitwiseCopyable, Sendable, Equatable {
    /// Bits of `flags`.
    @frozen
    public struct Flags: OptionSet, BitwiseCopyable, Sendable {
        public let rawValue: UInt16
        @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

        /// Another segment of the same packet follows in the next reference.
        public static var more: Flags { Flags(rawValue: 1) }
        /// Set by the device on completion: the packet was not delivered.
        public static var dropped: Flags { Flags(rawValue: 2) }
        /// No segment, but the offloads of the packet that begins with the next reference.
        public static var context: Flags { Flags(rawValue: 4) }
    }

    /// Host address of the first byte; never 0, and readable for `byteCount` bytes until the
    /// reference comes back: the submitter's promise, which nothing here can check.
    public var address: UInt64
    /// Bytes in this segment.
    public var byteCount: UInt32
    /// See `Flags`.
    public var flags: Flags
    /// The submitter's own mark; the device returns it untouched.
    public var cookie: UInt16

    @inlinable
    public init(address: UInt64, byteCount: UInt32, flags: Flags = [], cookie: UInt16 = 0) {
        self.address = address
        self.byteCount = byteCount
        self.flags = flags
        self.cookie = cookie
    }

    /// A reference to `byteCount` bytes at `pointer`.
    @inlinable
    public init(_ pointer: UnsafeRawPointer, byteCount: Int, flags: Flags = [], cookie: UInt16 = 0)
    {
        self.init(
            address: UInt64(UInt(bitPattern: pointer)),
            byteCount: UInt32(truncatingIfNeeded: byteCount),
            flags: flags, cookie: cookie)
    }

    /// Length, and the flags above it: larger than any length if a flag is set.
    @inline(__always)
    static func extent(of ref: UnsafePointer<PacketRef>) -> UInt64 {
        UnsafeRawPointer(ref).load(fromByteOffset: 8, as: UInt64.self) & 0xffff_ffff_ffff
    }

    /// Whether it is a packet in one piece, as far as can be seen.
    @inline(__always)
    package var isPlain: Bool { flags.rawValue == 0 && hasAddress }

    /// The address is not 0 and lies in user space.
    @inline(__always)
    var hasAddress: Bool { Int64(bitPattern: address) > 0 }

    /// The first byte of the segment.
    @inlinable
    public var pointer: UnsafeRawPointer {
        // SAFETY: whoever submits a reference guarantees readable memory at `address`, hence not 0.
        UnsafeRawPointer(bitPattern: UInt(address)).unsafelyUnwrapped
    }
}
