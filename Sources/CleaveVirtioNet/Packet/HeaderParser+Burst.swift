// Many frames by one call: a call between modules costs as much as a header or two.

extension HeaderParser {
    /// Parses frames of one segment each, which is what a burst of a port's packets mostly is.
    /// - Parameters:
    ///   - refs: the frames; neither flags nor cookies have a say.
    ///   - count: how many.
    ///   - splits: room for as many answers.
    @inline(never)
    public static func parse(
        _ refs: UnsafePointer<PacketRef>, count: Int,
        into splits: UnsafeMutablePointer<HeaderSplit>
    ) {
        var index = 0
        while index < count {
            splits[index] = parse(refs[index].pointer, byteCount: Int(refs[index].byteCount))
            index &+= 1
        }
    }
}
