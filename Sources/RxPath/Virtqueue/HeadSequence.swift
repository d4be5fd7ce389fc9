/// Whether the heads of a burst follow one another round the ring, as those of most drivers do: then
/// none of them can stand there twice, and nobody need look.
struct HeadSequence: BitwiseCopyable {
    /// Queue size.
    private let count: UInt32
    private var next: UInt32 = 0
    /// Not 0 once a head was another than the one that was due.
    private var difference: UInt32 = 0

    init(size: Int) { count = UInt32(truncatingIfNeeded: size) }

    /// Notes a head; that of the next buffer is due `step` further.
    @inline(__always)
    mutating func note(_ head: UInt32, step: Int) {
        difference |= head ^ next
        let following = head &+ UInt32(truncatingIfNeeded: step)
        next = following == count ? 0 : following
    }

    /// Heads came some other way.
    @inline(__always) mutating func interrupt() { difference = 1 }
    /// A burst begins.
    @inline(__always) mutating func begin() { difference = 0 }
    @inline(__always) var isUnbroken: Bool { difference == 0 }
}

extension Virtqueue {
    /// The first of the burst's used entries whose head stands in an earlier one: the driver
    /// offered it again before it was used.
    @inline(never)
    func firstDuplicate() -> Int? {
        // A byte for each head, all 0 between calls.
        let marks = headMarks
        var index = 0
        while index < usedCount && marks[head(ofUsed: index)] == 0 {
            marks[head(ofUsed: index)] = 1
            index &+= 1
        }
        for marked in 0..<index { marks[head(ofUsed: marked)] = 0 }
        return index < usedCount ? index : nil
    }
}
