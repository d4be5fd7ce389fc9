/// Where shared words are placed so that two threads never write into one line.
///
/// x86-64 prefetches lines in adjacent pairs, and several arm64 cores have 128-byte lines,
/// so the unit of separation is 128 bytes although a line is usually 64.
public enum CacheLine {
    /// Bytes between words that different threads write.
    @inlinable public static var byteCount: Int { 128 }

    /// `byteCount` rounded up to a whole number of cache lines.
    @inlinable
    public static func roundedUp(_ byteCount: Int) -> Int {
        (byteCount + Self.byteCount - 1) & ~(Self.byteCount - 1)
    }

    /// Whether `pointer` starts a cache line.
    @inlinable
    public static func isAligned(_ pointer: UnsafeRawPointer) -> Bool {
        UInt(bitPattern: pointer) & UInt(Self.byteCount - 1) == 0
    }
}
