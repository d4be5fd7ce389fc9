// Copies of the packet path. Never a byte beyond either range: over-reading would carry a
// neighbour's bytes into a guest, over-writing would leave bytes beyond `used.len`.

/// Copies `byteCount` bytes between ranges that do not overlap.
///
/// Up to 128 bytes by two overlapping moves per power of two, without a call; above by the C
/// library, which picks the widest moves of the processor.
@inline(__always)
func copyBytes(
    _ target: UnsafeMutableRawPointer, _ source: UnsafeRawPointer, _ byteCount: Int
) {
    if byteCount > 32 {
        if byteCount <= 64 {
            return copyEnds(target, from: source, byteCount: byteCount, SIMD32<UInt8>.self)
        }
        if byteCount <= 128 {
            return copyEnds(target, from: source, byteCount: byteCount, SIMD64<UInt8>.self)
        }
        target.copyMemory(from: source, byteCount: byteCount)
    } else if byteCount >= 16 {
        copyEnds(target, from: source, byteCount: byteCount, SIMD16<UInt8>.self)
    } else {
        copyTiny(target, source, byteCount)
    }
}

/// 0 to 15 bytes.
@inline(__always)
private func copyTiny(
    _ target: UnsafeMutableRawPointer, _ source: UnsafeRawPointer, _ byteCount: Int
) {
    if byteCount >= 8 {
        copyEnds(target, from: source, byteCount: byteCount, UInt64.self)
    } else if byteCount >= 4 {
        copyEnds(target, from: source, byteCount: byteCount, UInt32.self)
    } else if byteCount >= 2 {
        copyEnds(target, from: source, byteCount: byteCount, UInt16.self)
    } else if byteCount == 1 {
        target.storeBytes(of: source.load(as: UInt8.self), as: UInt8.self)
    }
}

/// The first and the last `Part` of the range, which together cover it if it is one to two parts
/// long. Both are loaded before either is stored.
@inline(__always)
private func copyEnds<Part: BitwiseCopyable>(
    _ target: UnsafeMutableRawPointer, from source: UnsafeRawPointer, byteCount: Int,
    _ part: Part.Type
) {
    let lastOffset = byteCount &- MemoryLayout<Part>.size
    let first = source.loadUnaligned(as: Part.self)
    let last = source.loadUnaligned(fromByteOffset: lastOffset, as: Part.self)
    target.storeBytes(of: first, as: Part.self)
    target.storeBytes(of: last, toByteOffset: lastOffset, as: Part.self)
}
