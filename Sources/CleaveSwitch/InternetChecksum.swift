// The checksum of IP, TCP and UDP (RFC 1071), over bytes that nobody else writes.
//
// Sums are taken in the order in which bytes lie in memory, so that a field is read and written as
// it lies, without a swap: the sum of swapped words is the swapped sum.

/// Sums in ones' complement, in memory order.
enum InternetChecksum {
    /// The sum of `byteCount` bytes, at most 65,600, folded to 16 bits. An odd last byte counts as
    /// the first of a word.
    static func sum(_ bytes: UnsafeRawPointer, byteCount: Int) -> UInt16 {
        var total: UInt64 = 0
        var offset = 0
        while offset &+ 4 <= byteCount {
            total &+= UInt64(
                UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            offset &+= 4
        }
        if offset &+ 2 <= byteCount {
            total &+= UInt64(
                UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
            offset &+= 2
        }
        if offset < byteCount {
            total &+= UInt64(bytes.load(fromByteOffset: offset, as: UInt8.self))
        }
        return fold(total)
    }

    /// Adds two sums.
    static func add(_ left: UInt16, _ right: UInt16) -> UInt16 {
        fold(UInt64(left) &+ UInt64(right))
    }

    /// The contribution of a length of a pseudo-header: 16 bits in IPv4, 32 in IPv6.
    static func length(_ byteCount: Int) -> UInt16 {
        let low = UInt16(truncatingIfNeeded: byteCount).byteSwapped
        let high = UInt16(truncatingIfNeeded: byteCount &>> 16).byteSwapped
        return add(low, high)
    }

    /// What goes into the field of TCP or UDP: never 0, which says in UDP that there is none, and
    /// whose equal is 0xffff.
    static func finished(_ sum: UInt16) -> UInt16 { sum == 0xffff ? 0xffff : ~sum }

    private static func fold(_ total: UInt64) -> UInt16 {
        var rest = total
        while rest &>> 16 != 0 { rest = (rest & 0xffff) &+ (rest &>> 16) }
        return UInt16(truncatingIfNeeded: rest)
    }
}
