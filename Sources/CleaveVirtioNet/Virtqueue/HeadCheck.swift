// A driver may offer a buffer again only after it was used. Within a burst the device can see that.

extension UsedEntries {
    /// Whether the heads ascend by `step` around the ring, as with most drivers. Then none repeats,
    /// and `firstDuplicate` need not search.
    ///
    /// A pass of its own: the loop that takes buffers has no registers left for it.
    @inline(__always)
    func headsAreInSequence(step: Int) -> Bool {
        if usedCount == 0 { return true }
        let first = head(ofUsed: 0)
        let untilEnd = min(usedCount, (size &- first) / step)
        var difference = 0
        var index = 0
        while index < untilEnd {
            difference |= head(ofUsed: index) ^ (first &+ index &* step)
            index &+= 1
        }
        while index < usedCount {
            difference |= head(ofUsed: index) ^ ((index &- untilEnd) &* step)
            index &+= 1
        }
        return difference == 0 && (usedCount &- untilEnd) &* step <= first
    }

    /// The first of the burst's used entries whose head is that of an earlier one.
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
