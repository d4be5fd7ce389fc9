/// Every sequence of choices, one after the other, depth first: the run is repeated, and each time
/// the last choice that has alternatives left takes its next one.
struct Choices {
    private var made: [(taken: Int, count: Int)] = []
    private var depth = 0

    /// One of `count` ways to go on, 0 to count - 1; 0 comes first.
    mutating func choose(_ count: Int) -> Int {
        if count <= 1 { return 0 }
        if depth == made.count { made.append((0, count)) }
        precondition(
            made[depth].count == count, "a run that is repeated with the same choices differs")
        depth += 1
        return made[depth - 1].taken
    }

    /// Takes the same choices in the next run.
    mutating func rewind() { depth = 0 }

    /// Goes to the next sequence.
    /// - Returns: false when there is none.
    mutating func advance() -> Bool {
        depth = 0
        while let last = made.last {
            if last.taken + 1 < last.count {
                made[made.count - 1].taken += 1
                return true
            }
            made.removeLast()
        }
        return false
    }
}
