/// One figure that a claim rests on, or that stands beside it for comparison.
struct ClaimFigure: Sendable, Equatable {
    /// How the figure measured must lie to the one claimed.
    enum Bound: String, Sendable {
        case equal, atMost, atLeast, moreThan
        /// At most, after digits beyond those that the claim gives are cut off.
        case atMostCut
    }

    var name: String
    /// `%`, `x` (a ratio), `B`, or nothing for a count.
    var unit: String
    /// Nil if nothing was claimed: the figure is there to compare with.
    var claim: (bound: Bound, value: Double)?
    var measured: Double

    /// Nil if nothing was claimed. A figure that is no number holds nothing.
    var holds: Bool? {
        guard let claim else { return nil }
        guard measured.isFinite else { return false }
        switch claim.bound {
        case .equal: return measured == claim.value
        case .atMost: return measured <= claim.value
        case .atLeast: return measured >= claim.value
        case .moreThan: return measured > claim.value
        case .atMostCut: return (measured * 10).rounded(.down) / 10 <= claim.value
        }
    }

    static func == (one: ClaimFigure, other: ClaimFigure) -> Bool {
        one.name == other.name && one.unit == other.unit && one.measured == other.measured
            && one.claim?.bound == other.claim?.bound && one.claim?.value == other.claim?.value
    }
}

/// One of the nine things that a header queue promises, with what was measured of it.
struct Claim: Sendable {
    /// 1 to 9.
    let id: Int
    let title: String
    let figures: [ClaimFigure]

    /// Whether every figure that was claimed holds.
    var holds: Bool { figures.allSatisfy { $0.holds != false } }

    /// The figure to name if only one can be: the first that does not hold, or else the first.
    var headline: ClaimFigure? {
        figures.first { $0.holds == false } ?? figures.first { $0.holds == true }
    }
}
