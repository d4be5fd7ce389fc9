/// The packet path's copy by itself, to be measured.
public enum CopyKernel {
    /// Copies each reference's bytes to a place of its own.
    /// - Parameters:
    ///   - refs: what to copy.
    ///   - count: how many.
    ///   - target: where the first goes; room for `count` times `stride` bytes.
    ///   - stride: bytes from place to place, no less than any reference has.
    @inline(never)
    public static func copy(
        _ refs: UnsafePointer<PacketRef>, count: Int, to target: UnsafeMutableRawPointer,
        stride: Int
    ) {
        var place = target
        var index = 0
        while index < count {
            copyBytes(place, refs[index].pointer, Int(refs[index].byteCount))
            place += stride
            index &+= 1
        }
    }
}
