import CleaveHost

/// Finds the highest rate at which nothing is lost, by trials: up in steps from a guess while they
/// succeed, then by halves.
public struct LosslessSearch: Sendable {
    /// A rate that was tried, in packets per second.
    public struct Trial: Codable, Sendable, Equatable {
        public var packetsPerSecond: Double
        public var isLossless: Bool
    }

    public struct Outcome: Sendable, Equatable {
        /// The highest rate that succeeded; 0 for none.
        public var packetsPerSecond: Double
        /// In the order in which they were tried.
        public var trials: [Trial]
    }

    /// The search ends when the rates that succeed and fail are no farther apart, as a share.
    public var tolerance = 0.02
    /// A rate fails when it failed so many times in succession: a moment in which the machine did
    /// something else ends no rate.
    public var attempts = 2

    /// From one rate to the next while they succeed.
    static let growth = 1.25
    /// Rates that differ from the guess by more than this many steps are not looked for.
    static let maximumRates = 40

    public init() {}

    /// - Parameters:
    ///   - guess: packets per second, above 0; the closer to the answer, the fewer trials.
    ///   - trial: whether a rate in packets per second loses nothing; nil ends the search.
    func run(
        from guess: Double, _ trial: (Double) throws(SetupError) -> Bool?
    ) throws(SetupError) -> Outcome {
        var outcome = Outcome(packetsPerSecond: 0, trials: [])
        var low = 0.0
        var high: Double?
        var rate = guess
        for _ in 0..<Self.maximumRates {
            var isLossless = false
            for _ in 0..<max(1, attempts) where !isLossless {
                guard let answer = try trial(rate) else { return outcome }
                outcome.trials.append(Trial(packetsPerSecond: rate, isLossless: answer))
                isLossless = answer
            }
            if isLossless {
                low = rate
                outcome.packetsPerSecond = low
            } else {
                high = rate
            }
            guard let failed = high else {
                rate *= Self.growth
                continue
            }
            if low > 0 && (failed - low) / failed <= tolerance { break }
            rate = low > 0 ? (low + failed) / 2 : failed / 2
        }
        return outcome
    }
}
