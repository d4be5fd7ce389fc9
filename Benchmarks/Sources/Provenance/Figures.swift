/// What the runs of one contender amount to, in the unit that the file of figures names.
public struct Figures: Encodable, Sendable {
    public let median: Double
    public let min: Double
    public let max: Double

    /// - Parameter samples: at least one.
    public init(_ samples: [Double]) {
        let sorted = samples.sorted()
        let middle = sorted.count / 2
        median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        min = sorted[0]
        max = sorted[sorted.count - 1]
    }
}
