import CleaveBench
import CleaveProgramSupport

/// A setting of a measurement of latency. The raw value is both the flag and the key below
/// `latency`.
enum LatencySetting: String, CaseIterable {
    case loads, arrivals
    case passTime = "pass-time"
    case tolerance

    /// Puts values into settings; all but `loads` take one.
    /// - Throws: a sentence that starts with the value and says what was expected.
    func set(
        _ values: [SettingValue], in settings: inout LatencySettings
    ) throws(SettingError) {
        if self == .loads {
            settings.loads = []
            for value in values {
                let isPercent = value.text.hasSuffix("%") && !value.isQuoted
                let digits = isPercent ? String(value.text.dropLast()) : value.text
                settings.loads.append(
                    try SettingValue(text: digits, isQuoted: value.isQuoted).count(kilo: 1000))
            }
            return
        }
        guard let value = values.first, values.count == 1 else {
            throw SettingError(problem: "\(values.count) values where one is expected")
        }
        switch self {
        case .loads: break
        case .arrivals: settings.arrivals = try value.choice()
        case .passTime: settings.passMilliseconds = try value.count(kilo: 1000)
        case .tolerance: settings.tolerancePercent = try value.count(kilo: 1000)
        }
    }
}
