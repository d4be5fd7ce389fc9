/// An application that reads every byte it is given, as fast as a core can: eight words at a time,
/// since a slower reader would hide what a copy costs.
enum PayloadReader {
    /// The sum of `byteCount` bytes taken as little-endian words of eight, the last ones filled
    /// with zeros.
    static func sum(_ start: UnsafeRawPointer, byteCount: Int) -> UInt64 {
        var sums = SIMD8<UInt64>.zero
        var offset = 0
        while offset &+ 64 <= byteCount {
            sums &+= start.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self)
            offset &+= 64
        }
        var sum = sums.wrappedSum()
        while offset < byteCount {
            let shift = UInt64(offset & 7) &* 8
            sum &+= UInt64(start.load(fromByteOffset: offset, as: UInt8.self)) &<< shift
            offset &+= 1
        }
        return sum
    }
}
