/// One figure that a claim rests on, or that is given beside it for comparison.
public struct ClaimFigure: Codable, Sendable, Equatable {
    /// How the measured figure must compare with the claimed one.
    public enum Bound: String, Codable, Sendable {
        case equal, atMost, atLeast, moreThan
        /// At most, after digits beyond those that the claim gives are cut off.
        case atMostCut
    }

    public var name: String
    /// `%`, `x` (a ratio), `B`, or nothing for a count.
    public var unit: String
    /// Nil, as `claimed` and `holds`, if nothing was claimed: the figure is there to compare with.
    public var bound: Bound?
    public var claimed: Double?
    public var measured: Double?
    public var holds: Bool?
    /// It is a part of the figure above it; not in files.
    public var isPart = false

    private enum CodingKeys: CodingKey { case name, unit, bound, claimed, measured, holds }

    /// - Parameter name: begins with two blanks if the figure is part of the one above.
    public init(
        name: String, unit: String, claim: (bound: Bound, value: Double)?, measured: Double
    ) {
        isPart = name.hasPrefix("  ")
        self.name = isPart ? String(name.dropFirst(2)) : name
        (self.unit, self.measured) = (unit, measured)
        (bound, claimed) = (claim?.bound, claim?.value)
        holds = claim.map { Self.holds(measured, $0.bound, $0.value) }
    }

    /// False if the figure is no number.
    private static func holds(_ measured: Double, _ bound: Bound, _ value: Double) -> Bool {
        guard measured.isFinite else { return false }
        switch bound {
        case .equal: return measured == value
        case .atMost: return measured <= value
        case .atLeast: return measured >= value
        case .moreThan: return measured > value
        case .atMostCut: return (measured * 10).rounded(.down) / 10 <= value
        }
    }
}

/// One of the nine promises of a header queue, with its measurements.
public struct Claim: Codable, Sendable {
    /// 1 to 9.
    public let id: Int
    public let title: String
    /// Of the figure to name if only one can be: the first that does not hold, or otherwise the
    /// first of which anything was claimed.
    public let claimed: Double?
    public let measured: Double?
    public let unit: String?
    /// Whether every figure that was claimed holds.
    public let holds: Bool
    public let figures: [ClaimFigure]

    public init(id: Int, title: String, figures: [ClaimFigure]) {
        let headline = Self.headline(figures)
        (self.id, self.title, self.figures) = (id, title, figures)
        (claimed, measured, unit) = (headline?.claimed, headline?.measured, headline?.unit)
        holds = figures.allSatisfy { $0.holds != false }
    }

    /// The figure that `claimed` and `measured` are of.
    public var headline: ClaimFigure? { Self.headline(figures) }

    private static func headline(_ figures: [ClaimFigure]) -> ClaimFigure? {
        figures.first { $0.holds == false } ?? figures.first { $0.holds == true }
    }
}
