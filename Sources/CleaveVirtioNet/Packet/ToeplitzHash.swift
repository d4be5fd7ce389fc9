// control path

// The RSS hash that steers packets to receive queues: the Toeplitz hash over addresses and ports.
//
// Each set bit of the input xors in the 32 key bits that start at that bit's position. A table
// indexed by position and value of four input bits at a time replaces the walk over bits: 72 x 16
// words, 4.5 KiB, small enough to stay in the first cache level. Packets are hashed where they
// enter (once per packet at load time), not in a worker's poll.
//
// Source: virtio 1.4, "Hash calculation for incoming packets"; key and known answers from
// Microsoft, "Verifying the RSS Hash Calculation".

/// The Toeplitz hash under one key. A value; callable from any thread.
public struct ToeplitzHash: Sendable {
    /// A hash, and what it was taken over.
    public typealias Report = (value: UInt32, report: UInt8)

    /// The longest input: two IPv6 addresses and two ports.
    public static var maximumTupleByteCount: Int { 36 }

    /// The key of Microsoft's verification suite, which most devices start with.
    public static let defaultKey: [UInt8] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ]

    /// `table[nibble position * 16 + nibble value]`, high nibble of a byte first.
    private let table: [UInt32]

    /// Prepares the table of a key.
    /// - Parameter key: the bytes beyond 40 are unused, missing ones count as 0.
    public init(key: [UInt8] = Self.defaultKey) {
        // The 32 key bits from bit `start` on, the first being the most significant.
        func window(_ start: Int) -> UInt32 {
            var bits: UInt64 = 0
            for index in start / 8..<start / 8 + 5 {
                bits = bits << 8 | UInt64(index < key.count ? key[index] : 0)
            }
            return UInt32(truncatingIfNeeded: bits >> (8 - UInt64(start % 8)))
        }
        var table: [UInt32] = []
        table.reserveCapacity(Self.maximumTupleByteCount * 32)
        for position in 0..<Self.maximumTupleByteCount * 2 {
            for value in 0..<16 {
                var word: UInt32 = 0
                for bit in 0..<4 where value & (8 >> bit) != 0 {
                    word ^= window(position * 4 + bit)
                }
                table.append(word)
            }
        }
        self.table = table
    }

    /// Hashes a tuple: source address, destination address and, with ports, source and destination
    /// port, all in network order.
    /// - Parameter tuple: bytes beyond `maximumTupleByteCount` are left out.
    public func hash(_ tuple: UnsafeRawBufferPointer) -> UInt32 {
        var hash: UInt32 = 0
        var base = 0
        for byte in tuple.prefix(Self.maximumTupleByteCount) {
            hash ^= table[base &+ Int(byte &>> 4)] ^ table[base &+ 16 &+ Int(byte & 0xf)]
            base &+= 32
        }
        return hash
    }

    /// Hashes a tuple given as an array; see `hash(_:)`.
    public func hash(tuple: [UInt8]) -> UInt32 {
        tuple.withUnsafeBytes { hash($0) }
    }

    /// Hashes a frame as a device with all hash types switched on, but the _EX ones, does.
    ///
    /// TCP and UDP that `HeaderParser` can split are hashed with their ports. Any other IP packet
    /// (every fragment of a datagram, ICMP, tunnels) is hashed over its addresses alone. IPv6
    /// extension headers are skipped.
    /// - Parameters:
    ///   - frame: the first byte of the Ethernet header.
    ///   - byteCount: bytes in the frame; nothing after them is read.
    /// - Returns: the hash and virtio's `hash_report` (1 IPv4, 2 TCPv4, 3 UDPv4, 4 IPv6, 5 TCPv6,
    ///   6 UDPv6), or nil for a frame that is not IP.
    public func hash(frame: UnsafeRawPointer, byteCount: Int) -> Report? {
        hash(frame: frame, windowByteCount: byteCount, byteCount: byteCount)
    }

    /// The same of a frame of which only the first `windowByteCount` bytes are at hand.
    public func hash(
        frame: UnsafeRawPointer, windowByteCount: Int, byteCount: Int
    ) -> Report? {
        let walk = HeaderWalk(
            window: frame, windowByteCount: windowByteCount, frameByteCount: byteCount)
        guard walk.networkStart > 0 else { return nil }
        let addressOffset = walk.networkStart + (walk.isIPv6 ? 8 : 12)
        let addressByteCount = walk.isIPv6 ? 32 : 8
        let family: UInt8 = walk.isIPv6 ? 4 : 1
        return withUnsafeTemporaryAllocation(
            byteCount: Self.maximumTupleByteCount, alignment: 8
        ) { tuple in
            tuple.copyMemory(
                from: UnsafeRawBufferPointer(
                    start: frame + addressOffset, count: addressByteCount))
            guard walk.split.isSplittable else {
                return (
                    hash(UnsafeRawBufferPointer(rebasing: tuple[..<addressByteCount])), family
                )
            }
            UnsafeMutableRawBufferPointer(rebasing: tuple[addressByteCount...]).copyMemory(
                from: UnsafeRawBufferPointer(start: frame + walk.transportStart, count: 4))
            return (
                hash(UnsafeRawBufferPointer(rebasing: tuple[..<(addressByteCount + 4)])),
                family + (walk.isTCP ? 1 : 2)
            )
        }
    }
}
